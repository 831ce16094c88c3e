/* SPDX-License-Identifier: MIT */
/* A gather whose peers' own descriptors were asked for: a program may have waited for one by itself before
 * the gather had it, or between two calls of the gather. It hears them all the same. */
#include <errno.h>

#include "naru/naru.h"
#include "runner.h"

static const char *const urls[] = {"shm:", "shm:?wait=sleep", "unix:", "unix:?type=seqpacket", "pipe:"};

static const char *each_url(size_t index)
{
    return index < sizeof urls / sizeof *urls ? urls[index] : NULL;
}

struct set {
    struct naru_gather *g;
    struct naru_channel *near, *far; /* near: the gather's */
    int fd;                          /* the gather's own: whatever rings makes it readable */
};

static void gather(struct set *s)
{
    CHECK_INT(naru_gather_new(&s->g), 0);
    s->fd = naru_gather_fd(s->g);
    CHECK(s->fd >= 0);
}

static void set_close(struct set *s)
{
    CHECK(naru_gather_close(s->g) == NULL);
    s->far = naru_channel_close(s->far);
}

/* Until the peer rests. */
static void nothing(struct set *s)
{
    char byte;

    CHECK_INT(naru_gather_recv(s->g, &byte, 1, NARU_NOWAIT, NULL), -EAGAIN);
    CHECK(!test_is_readable(s->fd));
}

static void one_message(struct set *s, char value)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    char byte = 0;

    nothing(s);
    CHECK_INT(naru_send(s->far, &value, 1, NARU_NOWAIT), 0);
    CHECK(test_is_readable(s->fd));
    CHECK_INT(naru_gather_recv(s->g, &byte, 1, NARU_NOWAIT, &from), 1);
    CHECK(byte == value && from.channel == s->near);
}

static void ask(struct set *s)
{
    CHECK(naru_channel_fd(s->near) >= 0);
}

/* As a program does that waits for other things, too. */
static void wait_for_any(struct set *s, ssize_t expected)
{
    struct naru_wait item = NARU_INIT(struct naru_wait);

    item.channel = s->near;
    CHECK_INT(naru_wait_any(&item, 1, NARU_NOWAIT), expected);
}

static void open_set(struct set *s, const char *url)
{
    struct naru_channel *ends[2];

    gather(s);
    CHECK_INT(naru_channel_pair(url, NULL, ends), 0);
    s->far = ends[0];
    s->near = ends[1];
}

TEST_EACH(a_peer_is_heard_whose_descriptor_was_asked_for_before, each_url)
{
    struct set s;
    char byte;

    open_set(&s, urls[index]);
    ask(&s);
    CHECK_INT(naru_recv(s.near, &byte, 1, NARU_NOWAIT), -EAGAIN); /* it is rung there from now on */
    CHECK_INT(naru_gather_add(s.g, s.near, NULL), 0);
    for (char i = 1; i < 20; i++)
        one_message(&s, i);
    set_close(&s);
}

TEST_EACH(a_peer_is_heard_whose_descriptor_was_asked_for_in_between, each_url)
{
    struct set s;

    open_set(&s, urls[index]);
    CHECK_INT(naru_gather_add(s.g, s.near, NULL), 0);
    one_message(&s, 1);
    for (char i = 2; i < 20; i++) {
        wait_for_any(&s, -EAGAIN);
        one_message(&s, i);
    }
    set_close(&s);
}

/* And it can still be waited for by itself. */
TEST_EACH(a_peer_of_a_gather_is_waited_for_by_itself, each_url)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    struct set s;
    char byte;

    open_set(&s, urls[index]);
    CHECK_INT(naru_gather_add(s.g, s.near, NULL), 0);
    for (int i = 0; i < 20; i++) {
        nothing(&s);
        wait_for_any(&s, -EAGAIN);
        CHECK_INT(naru_send(s.far, "x", 1, NARU_NOWAIT), 0);
        wait_for_any(&s, 1);
        CHECK_INT(naru_gather_recv(s.g, &byte, 1, NARU_NOWAIT, &from), 1);
    }
    s.far = naru_channel_close(s.far);
    wait_for_any(&s, 1);
    CHECK_INT(naru_gather_recv(s.g, &byte, 1, NARU_NOWAIT, &from), -EPIPE);
    CHECK(from.channel == s.near && from.left == -EPIPE);
    set_close(&s);
}

/* naru_gather_add() says so: again, when its descriptor is ready. */
TEST(a_peer_that_was_not_connected_yet_is_heard)
{
    const char *url = test_format("shm://%s/s", test_directory());
    struct naru_listener *l;
    struct set s;

    gather(&s);
    CHECK_INT(naru_listen(test_format("%s?service=manual", url), NULL, &l), 0);
    CHECK_INT(naru_connect(url, NULL, NARU_NOWAIT, &s.near), 0);
    CHECK_INT(naru_gather_add(s.g, s.near, NULL), -EAGAIN);
    ask(&s);
    CHECK_INT(naru_accept(l, NARU_S(60), &s.far), 0);
    CHECK(test_is_readable(naru_channel_fd(s.near)));
    CHECK_INT(naru_gather_add(s.g, s.near, NULL), 0);
    for (char i = 1; i < 20; i++)
        one_message(&s, i);
    set_close(&s);
    CHECK(naru_listener_close(l) == NULL);
}

/* It takes three, and one more for naru_gather_fd(). */
TEST(a_gather_for_which_there_are_no_descriptors_says_so)
{
    struct naru_gather *g = NULL;

    for (size_t i = 0; i < 3; i++) {
        test_limit_descriptors(i);
        CHECK_INT(naru_gather_new(&g), -EMFILE);
        CHECK(g == NULL);
        test_limit_descriptors(SIZE_MAX);
    }
    test_limit_descriptors(3);
    CHECK_INT(naru_gather_new(&g), 0);
    CHECK_INT(naru_gather_fd(g), -EMFILE);
    CHECK_CONTAINS(naru_explain(), "no descriptor to poll a gather by");
    test_limit_descriptors(SIZE_MAX);
    CHECK(naru_gather_fd(g) >= 0);
    CHECK(naru_gather_close(g) == NULL);
}
