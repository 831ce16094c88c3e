/* SPDX-License-Identifier: MIT */
#include "cli/relay.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/report.h"
#include "naru/naru.h"

enum { RELAY_BLOCK = 64 * 1024 };

struct direction {
    struct relay_end *from, *to;
    char *buffer;
    size_t capacity;
    uint64_t messages, bytes;
    int linger_ms;
    int code;
    _Atomic bool *ending; /* shared: the relay ends, being interrupted is no failure */
};

static int report_end(const struct direction *d, const struct relay_end *end, int result)
{
    /* By a signal, or because the other direction failed and has said so; -EINPROGRESS: within a message. */
    if (result == -ECANCELED || result == -EINPROGRESS)
        return interrupt_signal() ? interrupt_exit_code() : NARU_EXIT_OK;
    if (atomic_load(d->ending))
        return NARU_EXIT_OK;
    if (result == -EPIPE && end->standard)
        return NARU_EXIT_BROKEN_PIPE;
    if (result == -EPIPE)
        return report(NARU_EXIT_FAILED, "%s: closed while there was more to send to it", end->url);
    return report_failure_of(end->url, result, "");
}

static void end_both(struct direction *d)
{
    atomic_store(d->ending, true);
    (void)naru_interrupt(d->from->channel);
    (void)naru_interrupt(d->to->channel);
}

/* A framed message may be larger than the buffer; a block of a raw stream is cut to fit. */
static ssize_t receive(struct direction *d)
{
    for (;;) {
        struct iovec room = {.iov_base = d->buffer, .iov_len = d->capacity};
        struct naru_message m = NARU_INIT(struct naru_message);
        char *larger;
        int r;

        m.iov = &room;
        m.iov_count = 1;
        r = naru_recv_message(d->from->channel, &m, NARU_FOREVER);
        if (r != -EMSGSIZE)
            return r < 0 ? r : (ssize_t)m.length;
        larger = realloc(d->buffer, d->capacity * 2);
        if (!larger)
            return -ENOMEM;
        d->buffer = larger;
        d->capacity *= 2;
    }
}

static int pass_on(struct direction *d, size_t length)
{
    int r = naru_send(d->to->channel, d->buffer, length, NARU_FOREVER);

    if (r == -EINVAL && length == 0)
        return 0; /* an empty datagram: nothing, for a stream without frames */
    if (r == 0) {
        d->messages++;
        d->bytes += length;
    }
    return r;
}

/* Ends the whole relay or only this direction, after sending failed. */
static void after_failed_send(struct direction *d, int result)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    bool answers = !d->to->standard && d->to->receives && naru_channel_info(d->to->channel, &info) == 0 &&
                   (info.mechanism->capabilities & NARU_CAN_SEE_CLOSE);

    d->code = report_end(d, d->to, result);
    /* What it said before it closed may still be on its way to us, and ends by itself. */
    if (!(result == -EPIPE && answers))
        end_both(d);
}

/* The other side may still answer. One that cannot be told of the end (datagrams) will not tell of its own
 * either: it has the time of the linger to answer. */
static void end_sending(struct direction *d)
{
    struct pollfd stop = {.fd = interrupt_fd(), .events = POLLIN};

    if (naru_channel_finish(d->to->channel) == 0)
        return;
    if (d->to->receives)
        (void)poll(&stop, 1, d->linger_ms);
    end_both(d);
}

static void *run_direction(void *context)
{
    struct direction *d = context;
    ssize_t n = 0;
    int sent = 0;

    while (sent == 0 && (n = receive(d)) >= 0)
        sent = pass_on(d, (size_t)n);
    if (sent < 0) {
        after_failed_send(d, sent);
        return NULL;
    }
    if (n == -EPIPE) {
        end_sending(d);
    } else {
        d->code = report_end(d, d->from, (int)n);
        end_both(d);
    }
    if (d->to->interactive && d->to->receives)
        end_both(d);
    return NULL;
}

static size_t block_size(const struct relay_end *to)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    if (naru_channel_info(to->channel, &info) == 0 && info.max_message && info.max_message < RELAY_BLOCK)
        return info.max_message;
    return RELAY_BLOCK;
}

static int direction_init(struct direction *d, struct relay_end *from, struct relay_end *to,
                          int64_t linger_ns, _Atomic bool *ending)
{
    int64_t ms = linger_ns / NARU_MS(1);

    *d = (struct direction){.from = from, .to = to, .capacity = block_size(to), .ending = ending};
    d->linger_ms = linger_ns == NARU_FOREVER ? -1 : ms > INT_MAX ? INT_MAX : (int)ms;
    d->buffer = malloc(d->capacity);
    return d->buffer ? 0 : -ENOMEM;
}

int relay_run(struct relay_end *first, struct relay_end *second, int64_t linger_ns,
              struct relay_result *ret_result)
{
    _Atomic bool ending = false;
    struct direction there = {0}, back = {0};
    pthread_t thread;
    bool threaded = first->sends && second->receives;
    int r = direction_init(&there, first, second, linger_ns, &ending);

    if (r == 0)
        r = direction_init(&back, second, first, linger_ns, &ending);
    if (r == 0 && threaded)
        r = -pthread_create(&thread, NULL, run_direction, &back);
    if (r == 0) {
        (void)run_direction(&there);
        if (threaded)
            (void)pthread_join(thread, NULL);
    }
    free(there.buffer);
    free(back.buffer);
    *ret_result = (struct relay_result){{there.messages, back.messages}, {there.bytes, back.bytes}};
    if (r < 0)
        return report_errno(-r, "%s", first->url);
    return there.code ? there.code : back.code;
}
