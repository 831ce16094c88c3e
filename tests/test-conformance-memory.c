/* SPDX-License-Identifier: MIT */
/*
 * Conformance of every mechanism: no heap allocation per message. The linker puts these functions in the
 * place of the allocator's for everything in this program (ld(1), --wrap; see cmake/tests.cmake), the library
 * included; once a channel has warmed up, none of its calls may come here.
 */
#include "mechanism.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic unsigned allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t size)
{
    allocations++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    allocations++;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    allocations++;
    return __real_realloc(memory, size);
}

char *__wrap_strdup(const char *text)
{
    allocations++;
    return __real_strdup(text);
}

static uint8_t out[MESSAGE_MAX], in[MESSAGE_MAX];

static void send_and_receive(const struct link *link, struct naru_channel *far, struct naru_channel *near,
                             uint64_t number)
{
    size_t size = message_size(link, number);

    CHECK_OK(naru_send(far, out, size, NARU_S(WAIT_LONG_S)));
    CHECK_INT(naru_recv(near, in, sizeof in, NARU_S(WAIT_LONG_S)), size);
}

static void messages(const struct link *link, struct naru_channel *far, struct naru_channel *near,
                     uint64_t number)
{
    struct naru_message m = NARU_INIT(struct naru_message), got = NARU_INIT(struct naru_message);
    struct iovec from[2] = {{out, 1}, {out + 1, message_size(link, number) - 1}}, to = {in, sizeof in};

    m.iov = from;
    m.iov_count = 2;
    got.iov = &to;
    got.iov_count = 1;
    CHECK_OK(naru_send_message(far, &m, NARU_FOREVER));
    CHECK_OK(naru_recv_message(near, &got, NARU_FOREVER));
}

static void batches(const struct link *link, struct naru_channel *far, struct naru_channel *near,
                    uint64_t number)
{
    struct iovec iov = {out, message_size(link, number)};
    struct naru_message m[3];
    long long sent;

    for (int i = 0; i < 3; i++)
        m[i] = (struct naru_message){.size = sizeof m[i], .iov = &iov, .iov_count = 1};
    sent = CHECK_OK(naru_send_batch(far, m, 3, NARU_S(WAIT_LONG_S)));
    CHECK(sent > 0);
    for (; sent > 0; sent--)
        CHECK_OK(naru_recv(near, in, sizeof in, NARU_S(WAIT_LONG_S)));
}

static void loans(const struct link *link, struct naru_channel *far, struct naru_channel *near,
                  uint64_t number)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    struct naru_view view = NARU_INIT(struct naru_view);
    size_t size = message_size(link, number);

    CHECK_OK(naru_loan(far, size, NARU_S(WAIT_LONG_S), &loan));
    memcpy(loan.data, out, size);
    CHECK_OK(naru_commit(&loan, size, NULL));
    CHECK_OK(naru_borrow(near, NARU_S(WAIT_LONG_S), &view));
    CHECK_INT(view.length, size);
    naru_release(&view);
}

/* Time-outs and what does not fit are normal running too. */
static void refusals(const struct link *link, struct naru_channel *far, struct naru_channel *near,
                     uint64_t number)
{
    CHECK_INT(naru_recv(near, in, sizeof in, NARU_NOWAIT), -EAGAIN);
    CHECK_OK(naru_send(far, out, message_size(link, number), NARU_S(WAIT_LONG_S)));
    CHECK_INT(naru_recv(near, in, 1, NARU_S(WAIT_LONG_S)), -EMSGSIZE);
    CHECK_OK(naru_recv(near, in, sizeof in, NARU_S(WAIT_LONG_S)));
    CHECK_OK(naru_flush(far, NARU_SENT, NARU_NOWAIT));
}

static void polled(const struct link *link, struct naru_channel *far, struct naru_channel *near,
                   uint64_t number)
{
    if (link_can(link, NARU_CAN_POLL)) {
        CHECK_OK(naru_channel_fd(far));
        CHECK_OK(naru_channel_fd(near));
    }
    send_and_receive(link, far, near, number);
}

static const struct way {
    const char *name;
    void (*run)(const struct link *, struct naru_channel *, struct naru_channel *, uint64_t);
} ways[] = {{"naru_send and naru_recv", send_and_receive},
            {"naru_send_message and naru_recv_message", messages},
            {"naru_send_batch", batches},
            {"loan and borrow", loans},
            {"refusals", refusals},
            {"with a descriptor to poll", polled}};

TEST(allocations_are_counted)
{
    unsigned before = allocations;
    void *volatile memory = malloc(10);

    free(memory);
    CHECK_INT(allocations, before + 1);
}

TEST_EACH(no_message_allocates, each_variant)
{
    enum { WARM = 40, COUNTED = 300 };
    struct naru_channel *far, *near;
    struct link link;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    memset(out, 'x', sizeof out);
    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
        unsigned before = 0;

        for (uint64_t i = 0; i < WARM + COUNTED; i++) {
            if (i == WARM)
                before = allocations;
            ways[way].run(&link, far, near, i);
        }
        if (allocations != before)
            test_fail(__FILE__, __LINE__, "%s: %u allocations in %d messages", ways[way].name,
                      allocations - before, COUNTED);
    }
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}
