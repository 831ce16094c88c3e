/* SPDX-License-Identifier: MIT */
/* What the tests of channels that connect again have in common: listeners that come, answer and go. */
#ifndef TESTS_RECONNECT_H
#define TESTS_RECONNECT_H

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mechanism.h"
#include "naru/naru.h"

static const struct {
    const char *name, *url; /* %s: the test's directory; %d, %x: its number */
} ways[] = {{"shm", "shm://%s/s"},
            {"unix-stream", "unix://%s/s"},
            {"unix-seqpacket", "unix://%s/s?type=seqpacket"},
            {"tcp", "tcp://127.0.0.1:%d"},
            {"shm-posix", "shm+posix:/naru-test-%d"},
            {"shm-sysv", "shm+sysv:0x4e%06x"}};

static inline const char *each_way(size_t index)
{
    return index < sizeof ways / sizeof *ways ? ways[index].name : NULL;
}

/* Those with a descriptor for event loops. */
static inline const char *each_polled_way(size_t index)
{
    return index < 4 ? ways[index].name : NULL;
}

/* Those of one machine: a network may throw away what was under way. */
static inline const char *each_near_way(size_t index)
{
    return index < 3 ? ways[index].name : NULL;
}

static const int64_t patience = NARU_S(60);

/* Where listeners come and go: always the same in one test. */
static inline const char *url_of(size_t way)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    if (strncmp(ways[way].name, "shm-", 4) == 0)
        return test_format(ways[way].url, (int)getpid());
    if (strcmp(ways[way].name, "tcp") == 0)
        return test_format(ways[way].url, test_unused_port());
    return test_format(ways[way].url, test_directory());
#pragma GCC diagnostic pop
}

/* What a killed listener leaves. */
static inline void remove_name(const char *url)
{
    int r = naru_remove(url);

    CHECK(r == 0 || r == -ENOENT || r == -ENOTSUP);
}

static inline struct naru_channel *join(const char *url, int64_t reconnect, int interruptible)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch;

    options.reconnect_ns = reconnect;
    options.interruptible = interruptible;
    CHECK_OK(naru_connect(url, &options, patience, &ch));
    return ch;
}

static inline bool is_end(long long r)
{
    return r == -EPIPE || r == -EOWNERDEAD || r == -ECONNRESET || r == -EPROTO;
}

/* Whoever is connected, and has said something: an attempt that found no answer in time may have hung up.
 * ret_said: the first message. */
static inline struct naru_channel *accept_speaker(struct naru_listener *l, char *said, size_t size,
                                                  ssize_t *ret_said)
{
    struct naru_channel *ch;

    for (;;) {
        CHECK_OK(naru_accept(l, patience, &ch));
        *ret_said = naru_recv(ch, said, size, NARU_FOREVER);
        if (!is_end(*ret_said))
            return ch;
        naru_channel_close(ch);
    }
}

/* The listener goes first: who is told of the channel's end would connect to it while it goes, too. */
static inline void leave_in_order(struct naru_listener *l, struct naru_channel *ch)
{
    naru_listener_close(l);
    naru_channel_close(ch);
}

/* Answers each message until it is killed, or, if any, after that many leaves in order. */
static inline int start_server(const char *url, int messages)
{
    struct naru_listener *l;
    struct naru_channel *ch;
    char buf[64];
    ssize_t n;
    int pid = test_fork();

    if (pid != 0)
        return pid;
    CHECK_OK(naru_listen(url, NULL, &l));
    ch = accept_speaker(l, buf, sizeof buf, &n);
    for (int i = 1;; i++) {
        CHECK_OK(n);
        CHECK_OK(naru_send(ch, buf, (size_t)n, patience));
        if (i == messages)
            break;
        n = naru_recv(ch, buf, sizeof buf, NARU_FOREVER);
        if (is_end(n)) /* -EOWNERDEAD: which a kept channel's end is on shm: */
            break;
    }
    leave_in_order(l, ch);
    test_child_end();
}

static inline void ask(struct naru_channel *ch, const char *text)
{
    char buf[64];

    CHECK_OK(naru_send(ch, text, strlen(text), patience));
    CHECK_INT(CHECK_OK(naru_recv(ch, buf, sizeof buf, patience)), strlen(text));
    CHECK(memcmp(buf, text, strlen(text)) == 0);
}

static inline uint64_t reconnects(const struct naru_channel *ch)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    CHECK_OK(naru_channel_info(ch, &info));
    return info.reconnects;
}

/* Says three words, and leaves when it is told to. */
static inline int start_speaker(const char *url, struct test_gate *leave)
{
    static const char *const words[] = {"one", "three", "two"};
    struct naru_listener *l;
    struct naru_channel *ch;
    int pid = test_fork();

    if (pid != 0)
        return pid;
    CHECK_OK(naru_listen(url, NULL, &l));
    CHECK_OK(naru_accept(l, patience, &ch));
    for (int i = 0; i < 3; i++)
        CHECK_OK(naru_send(ch, words[i], strlen(words[i]), patience));
    test_gate_wait(leave);
    leave_in_order(l, ch);
    test_child_end();
}

/* --- what the old connection holds --- */

static inline void hear(struct naru_channel *ch, const char *word, bool in_place)
{
    char buf[16] = "";

    if (in_place) {
        struct naru_view view = NARU_INIT(struct naru_view);

        CHECK_OK(naru_borrow(ch, patience, &view));
        CHECK(view.length < sizeof buf);
        memcpy(buf, view.data, view.length);
        naru_release(&view);
    } else {
        CHECK_OK(naru_recv(ch, buf, sizeof buf - 1, patience));
    }
    CHECK_STR(buf, word);
}

static inline void send_until_the_end(struct naru_channel *ch)
{
    int r = 0;

    while (r == 0)
        r = naru_send(ch, "x", 1, patience);
    CHECK(is_end(r));
}

static inline int start_greeter(const char *url)
{
    struct naru_listener *l;
    struct naru_channel *ch;
    int pid = test_fork();

    if (pid != 0)
        return pid;
    CHECK_OK(naru_listen(url, NULL, &l));
    for (int r = -EPIPE; is_end(r);) { /* an attempt that found no answer in time may have hung up */
        CHECK_OK(naru_accept(l, patience, &ch));
        r = naru_send(ch, "hey", 3, patience);
        CHECK(r == 0 || is_end(r));
        if (r < 0)
            naru_channel_close(ch);
    }
    for (;;)
        pause();
}

#endif
