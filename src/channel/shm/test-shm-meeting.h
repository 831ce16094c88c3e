/* SPDX-License-Identifier: MIT */
/* What the tests of channels that are not connected yet (meeting.h) have in common. */
#ifndef NARU_CHANNEL_TEST_SHM_MEETING_H
#define NARU_CHANNEL_TEST_SHM_MEETING_H

#include "channel/channel.h"
#include "channel/meeting.h"
#include "channel/shm/test-shm.h"

static inline struct naru_channel *begin_with(const char *query, const struct naru_options *options)
{
    struct naru_channel *ch = NULL;
    int r = naru_connect(test_format("%s%s", url(), query), options, NARU_NOWAIT, &ch);

    if (r < 0)
        test_fail(__FILE__, __LINE__, "naru_connect: %d: %s", r, naru_explain());
    CHECK(ch->meeting != NULL && ch->direction == NARU_DIRECTION_DEFAULT);
    return ch;
}

static inline struct naru_channel *begin(const char *query)
{
    return begin_with(query, NULL);
}

static inline bool is_ready(struct naru_channel *ch)
{
    return test_is_readable(naru_channel_fd(ch));
}

static inline struct naru_channel *accept_now(struct naru_listener *l)
{
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), 0);
    return ch;
}

/* A word each way, without waiting. */
static inline void check_connected(struct naru_channel *far, struct naru_channel *near)
{
    char word[8];

    CHECK_INT(naru_send(far, "there", 6, NARU_NOWAIT), 0);
    CHECK_INT(naru_recv(near, word, sizeof word, NARU_NOWAIT), 6);
    CHECK_INT(naru_send(near, "back", 5, NARU_NOWAIT), 0);
    CHECK_INT(naru_recv(far, word, sizeof word, NARU_NOWAIT), 5);
    CHECK(far->meeting == NULL);
}

static inline void close_both(struct naru_channel *far, struct naru_channel *near)
{
    naru_channel_close(far);
    naru_channel_close(near);
}

/* --- each call that needs a connection --- */

static inline int try_send(struct naru_channel *ch)
{
    return naru_send(ch, "x", 1, NARU_NOWAIT);
}
static inline int try_empty(struct naru_channel *ch)
{
    return naru_send(ch, NULL, 0, NARU_NOWAIT);
}
static inline int try_message(struct naru_channel *ch)
{
    struct naru_message m = NARU_INIT(struct naru_message);
    struct iovec piece = {(void *)(uintptr_t) "x", 1};
    int fd = STDERR_FILENO;

    m.iov = &piece;
    m.iov_count = 1;
    m.fds = &fd;
    m.fd_count = 1;
    return naru_send_message(ch, &m, NARU_NOWAIT);
}
static inline int try_batch(struct naru_channel *ch)
{
    struct naru_message m = NARU_INIT(struct naru_message);
    struct iovec piece = {(void *)(uintptr_t) "x", 1};

    m.iov = &piece;
    m.iov_count = 1;
    return (int)naru_send_batch(ch, &m, 1, NARU_NOWAIT);
}
static inline int try_loan(struct naru_channel *ch)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    int r = naru_loan(ch, 1, NARU_NOWAIT, &loan);

    if (r == 0)
        CHECK_INT(naru_commit(&loan, 1, NULL), 0);
    else
        CHECK(loan.data == NULL && naru_commit(&loan, 1, NULL) == -EINVAL);
    return r;
}
static inline int try_recv(struct naru_channel *ch)
{
    char byte;

    return (int)naru_recv(ch, &byte, 1, NARU_NOWAIT);
}
static inline int try_recv_message(struct naru_channel *ch)
{
    struct naru_message m = NARU_INIT(struct naru_message);
    char byte;
    struct iovec piece = {&byte, 1};

    m.iov = &piece;
    m.iov_count = 1;
    return naru_recv_message(ch, &m, NARU_NOWAIT);
}
static inline int try_borrow(struct naru_channel *ch)
{
    struct naru_view view = NARU_INIT(struct naru_view);
    int r = naru_borrow(ch, NARU_NOWAIT, &view);

    naru_release(&view);
    return r;
}
static inline int try_flush(struct naru_channel *ch)
{
    return naru_flush(ch, NARU_SENT, NARU_NOWAIT);
}
static inline int try_flush_done(struct naru_channel *ch)
{
    return naru_flush(ch, NARU_DONE, NARU_NOWAIT);
}
static inline int try_finish(struct naru_channel *ch)
{
    return naru_channel_finish(ch);
}

enum { SENDS = 1, ASKS = 2, RECEIVES = 3 };

static const struct {
    const char *label;
    int (*call)(struct naru_channel *ch);
    int kind;
} calls[] = {
    {"send", try_send, SENDS},
    {"send of nothing", try_empty, SENDS},
    {"message with a descriptor", try_message, SENDS},
    {"batch", try_batch, SENDS},
    {"loan", try_loan, SENDS},
    {"recv", try_recv, RECEIVES},
    {"recv_message", try_recv_message, RECEIVES},
    {"borrow", try_borrow, RECEIVES},
    {"flush", try_flush, ASKS},
    {"flush until done", try_flush_done, ASKS},
    {"finish", try_finish, ASKS},
};

static inline const char *each_call(size_t index)
{
    return index < sizeof calls / sizeof *calls ? calls[index].label : NULL;
}

#endif
