/* SPDX-License-Identifier: MIT */
/* Half-close: one direction ends, the other goes on. And listeners that let nobody new connect, and lose
 * nobody who has. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "naru/channel.h"
#include "naru/error.h"
#include "runner.h"

static void finish_one_direction(const char *url)
{
    struct naru_channel *ends[2];
    char buffer[16];

    CHECK_INT(naru_channel_pair(url, NULL, ends), 0);
    CHECK_INT(naru_send(ends[0], "last", 4, NARU_FOREVER), 0);
    CHECK_INT(naru_channel_finish(ends[0]), 0);
    CHECK_INT(naru_channel_finish(ends[0]), 0);
    CHECK_INT(naru_send(ends[0], "more", 4, NARU_FOREVER), -EPIPE);
    CHECK_CONTAINS(naru_explain(), "naru_channel_finish");
    CHECK_INT(naru_recv(ends[1], buffer, sizeof buffer, NARU_FOREVER), 4);
    CHECK_INT(naru_recv(ends[1], buffer, sizeof buffer, NARU_FOREVER), -EPIPE);
    CHECK_INT(naru_send(ends[1], "answer", 6, NARU_FOREVER), 0);
    CHECK_INT(naru_recv(ends[0], buffer, sizeof buffer, NARU_FOREVER), 6);
    naru_channel_close(ends[0]);
    naru_channel_close(ends[1]);
}

TEST(finish_lets_the_peer_answer_over_pipes)
{
    finish_one_direction("pipe:");
}

TEST(finish_lets_the_peer_answer_over_unix_stream)
{
    finish_one_direction("unix:");
}

TEST(finish_lets_the_peer_answer_over_unix_seqpacket)
{
    finish_one_direction("unix:?type=seqpacket");
}

TEST(finish_is_refused_by_datagrams)
{
    struct naru_channel *ends[2];

    CHECK_INT(naru_channel_pair("unix:?type=dgram", NULL, ends), 0);
    CHECK_INT(naru_channel_finish(ends[0]), -ENOTSUP);
    CHECK_INT(naru_send(ends[0], "on", 2, NARU_FOREVER), 0);
    naru_channel_close(ends[0]);
    naru_channel_close(ends[1]);
}

/* --- listeners --- */

/* Where there is a path it is in a directory of the test's own. */
static const struct {
    const char *url, *path;
} doors[] = {{"unix:", "/s"},
             {"unix:", "/s?type=seqpacket"},
             {"shm:", "/s"},
             {"shm:", "/s?service=manual"},
             {"shm+posix:/naru-test", ""},
             {"shm+sysv:0x4d3", ""}};

static const char *each_door(size_t index)
{
    return index < sizeof doors / sizeof *doors ? test_format("%s%s", doors[index].url, doors[index].path)
                                                : NULL;
}

static const char *door(size_t index)
{
    return test_format("%s%s%s", doors[index].url, *doors[index].path ? test_directory() : "",
                       doors[index].path);
}

TEST_EACH(who_has_connected_is_accepted_after_the_finish_and_nobody_else, each_door)
{
    const char *url = door(index);
    struct naru_channel *far, *late, *near;
    struct naru_listener *l;
    char text[8];

    CHECK_INT(naru_listen(url, NULL, &l), 0);
    if (strstr(url, "manual")) { /* which nobody answers before the finish does */
        CHECK_INT(naru_listener_finish(l), 0);
    } else {
        CHECK_INT(naru_connect(url, NULL, NARU_S(60), &far), 0);
        CHECK_INT(naru_send(far, "early", 6, NARU_NOWAIT), 0);
        far = naru_channel_close(far);
        CHECK_INT(naru_listener_finish(l), 0);
        CHECK_INT(naru_connect(url, NULL, NARU_NOWAIT, &late), -EAGAIN);
        CHECK_INT(naru_accept(l, NARU_FOREVER, &near), 0);
        CHECK_INT(naru_recv(near, text, sizeof text, NARU_S(60)), 6);
        CHECK_INT(naru_recv(near, text, sizeof text, NARU_S(60)), -EPIPE);
        (void)naru_channel_close(near);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_INT(naru_accept(l, NARU_FOREVER, &near), -ENOTCONN);
        CHECK_CONTAINS(naru_explain(), "naru_listener_finish()");
        CHECK_INT(naru_listener_finish(l), 0);
    }
    (void)naru_listener_close(l);
    CHECK_INT(naru_listen(url, NULL, &l), 0); /* the name is free */
    (void)naru_listener_close(l);
}

struct comer {
    const char *url;
    atomic_bool stop;
    unsigned sent;
};

/* Sends one message a connection, as fast as it can, and goes: each that naru_send() said 0 of is to arrive.
 * It waits longer each time that nobody answers, or it would never meet one who gets a CPU so seldom. */
static void *come_and_go(void *argument)
{
    struct comer *c = argument;
    int64_t timeout = NARU_MS(1);

    while (!atomic_load(&c->stop)) {
        struct naru_channel *ch;

        if (naru_connect(c->url, NULL, timeout, &ch) < 0) {
            timeout *= 2;
            continue;
        }
        timeout = NARU_MS(1);
        c->sent += naru_send(ch, "x", 1, NARU_S(60)) == 0;
        (void)naru_channel_close(ch);
    }
    return NULL;
}

static unsigned receive_all(struct naru_listener *l)
{
    struct naru_channel *ch;
    unsigned received = 0;
    char byte;
    int r;

    while ((r = naru_accept(l, NARU_NOWAIT, &ch)) == 0) {
        while (naru_recv(ch, &byte, 1, NARU_S(60)) == 1)
            received++;
        (void)naru_channel_close(ch);
    }
    CHECK_INT(r, -ENOTCONN);
    return received;
}

/* As long as the listener lives somebody may be about to connect; the finish comes at any of its instants. */
TEST_EACH(nobody_is_lost_who_comes_as_the_listener_ends, each_door)
{
    struct comer c = {.url = door(index)};
    unsigned received = 0;
    pthread_t thread;

    if (strstr(c.url, "manual"))
        return; /* where a connector waits until the accept */
    CHECK_INT(pthread_create(&thread, NULL, come_and_go, &c), 0);
    for (unsigned round = 0; round < 40; round++) {
        struct naru_listener *l;
        struct naru_channel *ch;
        char byte;

        CHECK_INT(naru_listen(c.url, NULL, &l), 0);
        for (unsigned i = 0; i < round % 3; i++) {
            CHECK_INT(naru_accept(l, NARU_S(60), &ch), 0);
            while (naru_recv(ch, &byte, 1, NARU_S(60)) == 1)
                received++;
            (void)naru_channel_close(ch);
        }
        CHECK_INT(naru_listener_finish(l), 0);
        received += receive_all(l);
        (void)naru_listener_close(l);
    }
    atomic_store(&c.stop, true);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(received, c.sent);
}

TEST(a_listener_that_cannot_be_finished_says_so)
{
    static const char *const urls[] = {"tcp://127.0.0.1:0", "udp://127.0.0.1:0",
                                       "posixmq:/naru-test?unlink=yes"};

    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        struct naru_listener *l;
        struct naru_channel *ch;

        CHECK_INT(naru_listen(urls[i], NULL, &l), 0);
        CHECK_INT(naru_listener_finish(l), -ENOTSUP);
        CHECK_CONTAINS(naru_explain(), "naru_listener_close()");
        CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), i == 0 ? -EAGAIN : 0); /* it goes on as before */
        if (i > 0)
            (void)naru_channel_close(ch);
        (void)naru_listener_close(l);
    }
}

/* Who waits for the answer of a listener that has no descriptor for it: said, and it stays. */
TEST(a_dispatch_or_a_finish_without_descriptors_says_so_and_keeps_who_came)
{
    const char *url = test_format("shm://%s/s?service=manual", test_directory());

    for (int finish = 0; finish < 2; finish++) {
        struct naru_channel *far, *near;
        struct naru_listener *l;
        char byte;
        int r;

        CHECK_INT(naru_listen(url, NULL, &l), 0);
        CHECK_INT(naru_connect(url, NULL, NARU_NOWAIT, &far), 0);
        test_limit_descriptors(0);
        r = finish ? naru_listener_finish(l) : naru_listener_dispatch(l);
        test_limit_descriptors(SIZE_MAX);
        CHECK_INT(r, -EMFILE);
        CHECK_CONTAINS(naru_explain(), "Too many open files");
        CHECK_INT(naru_accept(l, NARU_NOWAIT, &near), 0);
        CHECK_INT(naru_accept(l, NARU_NOWAIT, &(struct naru_channel *){NULL}), finish ? -ENOTCONN : -EAGAIN);
        CHECK_INT(naru_send(near, "x", 1, NARU_NOWAIT), 0);
        CHECK_INT(naru_recv(far, &byte, 1, NARU_S(60)), 1);
        (void)naru_channel_close(near);
        (void)naru_listener_close(l);
        (void)naru_channel_close(far);
    }
}
