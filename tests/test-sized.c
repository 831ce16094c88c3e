/* SPDX-License-Identifier: MIT */
/*
 * Public structs that begin with their size (naru/export.h): one that nobody initialised is refused by every
 * call, and of one that a newer naru made larger only what is known here is touched.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

enum { BEYOND = 64 };

/* As large as a struct may be, and what is behind it in a newer one. */
union sized {
    size_t size;
    struct naru_options options;
    struct naru_message message;
    struct naru_channel_info channel;
    struct naru_segment_options segment;
    struct naru_sync_options sync;
    struct naru_ring_info ring;
    struct naru_semaphore_info semaphore;
    struct naru_signal_info signal;
    struct naru_signal_sets sets;
    uint8_t bytes[512];
};

/* Of each a call that succeeds with what NARU_INIT makes. */
static int pair(union sized *u)
{
    struct naru_channel *ends[2];
    int r = naru_channel_pair("pipe:", &u->options, ends);

    if (r == 0) {
        naru_channel_close(ends[0]);
        naru_channel_close(ends[1]);
    }
    return r;
}

static int with_pair(int (*call)(struct naru_channel *out, struct naru_channel *in, union sized *u),
                     union sized *u)
{
    struct naru_channel *ends[2];
    int r = naru_channel_pair("unix:", NULL, ends);

    CHECK_INT(r, 0);
    r = call(ends[0], ends[1], u);
    naru_channel_close(ends[0]);
    naru_channel_close(ends[1]);
    return r;
}

static int send_on(struct naru_channel *out, struct naru_channel *in, union sized *u)
{
    (void)in;
    return naru_send_message(out, &u->message, NARU_NOWAIT);
}

static int send_all_on(struct naru_channel *out, struct naru_channel *in, union sized *u)
{
    ssize_t n = naru_send_batch(out, &u->message, 1, NARU_NOWAIT);

    (void)in;
    return n == 1 ? 0 : (int)n;
}

static int recv_on(struct naru_channel *out, struct naru_channel *in, union sized *u)
{
    CHECK_INT(naru_send(out, "", 0, NARU_NOWAIT), 0);
    return naru_recv_message(in, &u->message, NARU_NOWAIT);
}

static int info_on(struct naru_channel *out, struct naru_channel *in, union sized *u)
{
    (void)in;
    return naru_channel_info(out, &u->channel);
}

static int send_message(union sized *u)
{
    return with_pair(send_on, u);
}

static int send_batch(union sized *u)
{
    return with_pair(send_all_on, u);
}

static int recv_message(union sized *u)
{
    return with_pair(recv_on, u);
}

static int channel_info(union sized *u)
{
    return with_pair(info_on, u);
}

static int segment_open(union sized *u)
{
    struct naru_segment *segment;
    int r = naru_segment_open("memfd:", 4096, &u->segment, &segment);

    if (r == 0)
        naru_segment_close(segment);
    return r;
}

static int segment_take_fd(union sized *u)
{
    struct naru_segment *first, *second;
    int fd, r;

    CHECK_INT(naru_segment_open("memfd:", 4096, NULL, &first), 0);
    fd = dup(naru_segment_fd(first));
    r = naru_segment_take_fd(fd, &u->segment, &second);
    if (r == 0)
        naru_segment_close(second);
    else
        close(fd);
    naru_segment_close(first);
    return r;
}

static int event_open(union sized *u)
{
    struct naru_event *event;
    int r = naru_event_open("sized", &u->sync, NARU_EVENT_AUTO, &event);

    if (r == 0) {
        naru_event_close(event);
        CHECK_INT(naru_sync_remove(NARU_SYNC_EVENT, "sized"), 0);
    }
    return r;
}

static int ring_info(union sized *u)
{
    static _Alignas(64) uint8_t memory[65536];

    CHECK_INT(naru_ring_init(memory, naru_ring_size(4096)), 0);
    return naru_ring_info(memory, naru_ring_size(4096), &u->ring);
}

static int semaphore_info(union sized *u)
{
    static struct naru_semaphore semaphore;

    CHECK_INT(naru_semaphore_init(&semaphore, 1, 1), 0);
    return naru_semaphore_info(&semaphore, &u->semaphore);
}

static int signal_wait(union sized *u)
{
    uint64_t before;
    int r;

    CHECK_INT(naru_signal_block(naru_signal_bit(SIGUSR1), &before), 0);
    CHECK_INT(raise(SIGUSR1), 0);
    r = naru_signal_wait(naru_signal_bit(SIGUSR1), NARU_NOWAIT, &u->signal);
    if (r < 0) /* it has taken none */
        CHECK_INT(naru_signal_wait(naru_signal_bit(SIGUSR1), NARU_NOWAIT, NULL), 0);
    return r;
}

static int signal_sets(union sized *u)
{
    return naru_signal_sets(0, &u->sets);
}

static const struct {
    const char *name;
    int (*call)(union sized *u);
    size_t size;
} uses[] = {
    {"naru_pair", pair, sizeof(struct naru_options)},
    {"naru_send_message", send_message, sizeof(struct naru_message)},
    {"naru_send_batch", send_batch, sizeof(struct naru_message)},
    {"naru_recv_message", recv_message, sizeof(struct naru_message)},
    {"naru_channel_info", channel_info, sizeof(struct naru_channel_info)},
    {"naru_segment_open", segment_open, sizeof(struct naru_segment_options)},
    {"naru_segment_take_fd", segment_take_fd, sizeof(struct naru_segment_options)},
    {"naru_event_open", event_open, sizeof(struct naru_sync_options)},
    {"naru_ring_info", ring_info, sizeof(struct naru_ring_info)},
    {"naru_semaphore_info", semaphore_info, sizeof(struct naru_semaphore_info)},
    {"naru_signal_wait", signal_wait, sizeof(struct naru_signal_info)},
    {"naru_signal_sets", signal_sets, sizeof(struct naru_signal_sets)},
};

static const char *each_use(size_t index)
{
    return index < sizeof uses / sizeof *uses ? uses[index].name : NULL;
}

TEST_EACH(a_struct_that_nobody_initialised_is_refused, each_use)
{
    const size_t sizes[] = {0, sizeof(size_t), uses[index].size - 1};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        union sized u = {.bytes = {0}}, before;

        u.size = sizes[i];
        before = u;
        CHECK_INT(uses[index].call(&u), -EINVAL);
        CHECK_CONTAINS(naru_explain(), "NARU_INIT");
        CHECK(memcmp(&u, &before, sizeof u) == 0);
    }
}

TEST_EACH(of_a_larger_struct_what_is_beyond_is_not_touched, each_use)
{
    size_t size = uses[index].size;
    union sized u;

    CHECK(size + BEYOND <= sizeof u.bytes);
    memset(&u, 0, sizeof u);
    memset(u.bytes + size, 0xa5, BEYOND);
    u.size = size + BEYOND;
    CHECK_INT(uses[index].call(&u), 0);
    CHECK_INT(u.size, size + BEYOND);
    for (size_t i = 0; i < BEYOND; i++)
        CHECK_INT(u.bytes[size + i], 0xa5);
}
