/* SPDX-License-Identifier: MIT */
/* What the tests of System V and of POSIX queues have in common: a queue of each kind, two ends, and
 * messages. */
#ifndef NARU_CHANNEL_TEST_QUEUE_H
#define NARU_CHANNEL_TEST_QUEUE_H

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "naru/naru.h"
#include "runner.h"

/* Where the tests of a kind meet. */
struct queue_kind {
    const char *label;
    const char *url;   /* the queue; without options */
    const char *alias; /* the same queue, written otherwise */
};

static const struct queue_kind sysvmq_kind = {"sysvmq", "sysvmq:1234", "sysvmq:0x4d2"};
static const struct queue_kind posixmq_kind = {"posixmq", "posixmq:/naru-test", "posixmq:naru-test"};

static const int64_t patience = NARU_S(60);

static inline struct naru_listener *queue_listen(const struct queue_kind *kind, const char *query)
{
    struct naru_listener *l = NULL;

    CHECK_INT(naru_listen(test_format("%s%s", kind->url, query), NULL, &l), 0);
    return l;
}

/* The channel alone: the listener is closed already. */
static inline struct naru_channel *queue_receiver(const struct queue_kind *kind, const char *query)
{
    struct naru_listener *l = queue_listen(kind, query);
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), 0);
    (void)naru_listener_close(l);
    return ch;
}

static inline struct naru_channel *queue_sender(const struct queue_kind *kind, const char *query)
{
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_connect(test_format("%s%s", kind->alias, query), NULL, patience, &ch), 0);
    return ch;
}

static inline void queue_remove(const struct queue_kind *kind)
{
    CHECK_INT(naru_remove(kind->url), 0);
}

/* Whether the queue exists. */
static inline bool queue_is_there(const struct queue_kind *kind)
{
    struct naru_listener *l = NULL;
    int r = naru_listen(test_format("%s?create=no", kind->url), NULL, &l);

    if (r == 0)
        (void)naru_listener_close(l);
    else
        CHECK_INT(r, -ENOENT);
    return r == 0;
}

/* Sends text with a type and a priority, of which a kind has one. */
static inline int queue_send(struct naru_channel *ch, const char *text, int64_t type, unsigned priority)
{
    struct iovec piece = {(void *)(uintptr_t)text, strlen(text)};
    struct naru_message m = NARU_INIT(struct naru_message);

    m.iov = &piece;
    m.iov_count = 1;
    m.type = type;
    m.priority = priority;
    return naru_send_message(ch, &m, patience);
}

/* Receives text, with its type and its priority. room: of the buffer, up to 8200; below the msgsize of a
 * POSIX queue the message takes another way than from there on. */
static inline void queue_check(struct naru_channel *ch, const char *expected, int64_t type, unsigned priority,
                               size_t room)
{
    char text[8201] = "";
    struct iovec piece = {text, room};
    struct naru_message m = NARU_INIT(struct naru_message);

    m.iov = &piece;
    m.iov_count = 1;
    CHECK_INT(naru_recv_message(ch, &m, patience), 0);
    CHECK_STR(text, expected);
    CHECK_INT(m.length, strlen(expected));
    CHECK_INT(m.type, type);
    CHECK_INT(m.priority, priority);
    CHECK_INT(m.sender.pid, -1);
}

#endif
