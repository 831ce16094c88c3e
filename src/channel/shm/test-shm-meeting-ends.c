/* SPDX-License-Identifier: MIT */
/*
 * Channels that are not connected yet, and listeners that refuse, lie, are full, stop or end; connectors that
 * close, die or fork meanwhile.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "channel/shm/test-shm-meeting.h"

/* --- who will never answer --- */

static void check_failed(struct naru_channel *ch, int code, const char *says)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    CHECK_INT(try_send(ch), code);
    CHECK_CONTAINS(naru_explain(), says);
    CHECK_CONTAINS(naru_explain(), url());
    CHECK(is_ready(ch)); /* every call has something to say at once */
    CHECK_INT(naru_recv(ch, NULL, 0, NARU_FOREVER), code);
    CHECK_CONTAINS(naru_explain(), says);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        CHECK_INT(calls[i].call(ch), code);
    CHECK_INT(naru_channel_info(ch, &info), 0);
    CHECK(is_ready(ch));
}

static void say_nothing(struct peer *p)
{
    p->length = 0;
    close(p->fds[0]);
    p->fd_count = 0;
}
static void refuse(struct peer *p, enum handshake_reason reason)
{
    close(p->fds[0]);
    p->fd_count = 0;
    p->m.kind = HANDSHAKE_REFUSED;
    p->m.reason = (uint32_t)reason;
}
static void refuse_by_list(struct peer *p)
{
    refuse(p, REASON_PERMISSION);
}
static void refuse_by_size(struct peer *p)
{
    refuse(p, REASON_SIZE);
}
static void refuse_by_type(struct peer *p)
{
    refuse(p, REASON_TYPE);
}
static void refuse_for_want(struct peer *p)
{
    refuse(p, REASON_SHORT);
}
static void bring_nothing(struct peer *p)
{
    close(p->fds[0]);
    p->fd_count = 0;
}
static void bring_too_much(struct peer *p)
{
    while (p->fd_count < 64)
        CHECK((p->fds[p->fd_count++] = dup(p->fds[0])) >= 0);
}
static void bring_unsealed_memory(struct peer *p)
{
    close(p->fds[0]);
    p->fds[0] = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(p->fds[0] >= 0 && ftruncate(p->fds[0], sizeof(struct shm_page) + RING) == 0);
}
static void say_half(struct peer *p)
{
    p->length /= 2;
}
static void be_too_new(struct peer *p)
{
    p->m.layout = p->m.oldest = SHM_LAYOUT + 1;
}

static const struct {
    const char *label;
    void (*lie)(struct peer *peer);
    int code;
    const char *says;
} lies[] = {
    {"an empty word", say_nothing, -ECONNRESET, "connect again"},
    {"refused by its list", refuse_by_list, -EACCES, "permission denied"},
    {"refused by size", refuse_by_size, -EINVAL, "?ring="},
    {"refused by type", refuse_by_type, -EPROTOTYPE, "build both"},
    {"refused for want of memory", refuse_for_want, -ECONNRESET, "short of memory or descriptors"},
    {"no memory", bring_nothing, -EPROTO, "does not talk"},
    {"64 memories", bring_too_much, -EPROTO, "does not talk"},
    {"unsealed memory", bring_unsealed_memory, -EPROTO, "not sealed"},
    {"half a word", say_half, -EPROTO, "does not talk"},
    {"too new", be_too_new, -EPROTO, "layouts 4 to 4"},
};

static const char *each_lie(size_t index)
{
    return index < sizeof lies / sizeof *lies ? lies[index].label : NULL;
}

TEST_EACH(what_a_listener_says_instead_of_yes_is_told_by_each_call, each_lie)
{
    struct peer peer = honest_peer(HANDSHAKE_WELCOME);
    int listener = raw_listen(), fd;
    struct naru_channel *ch;
    size_t before;

    lies[index].lie(&peer);
    for (int polled = 0; polled < 2; polled++) {
        ch = begin("");
        before = open_descriptors();
        if (polled)
            CHECK(!is_ready(ch));
        fd = accept(listener, NULL, NULL);
        CHECK_INT(try_recv(ch), -EAGAIN);
        say(fd, &peer, NULL);
        if (polled)
            CHECK(is_ready(ch));
        check_failed(ch, lies[index].code, lies[index].says);
        close(fd);
        WAIT_UNTIL(open_descriptors() < before); /* but for the epoll; a thread may close what came */
        naru_channel_close(ch);
    }
    peer_end(&peer);
    close(listener);
    unlink(socket_path());
}

TEST(a_listener_that_refuses_at_once_is_told_by_the_connect)
{
    struct naru_listener *l = listen_there("?service=manual&allow-uid=4242");
    struct naru_channel *ch = begin("");

    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
    check_failed(ch, -EACCES, "permission denied");
    naru_channel_close(ch);
    ch = NULL;
    CHECK_INT(naru_connect(test_format("%s?allow-uid=4242", url()), NULL, NARU_NOWAIT, &ch), -EACCES);
    CHECK(ch == NULL);
    naru_listener_close(l);
    CHECK_INT(naru_connect(url(), NULL, NARU_NOWAIT, &ch), -EAGAIN);
    CHECK_CONTAINS(naru_explain(), "nobody listens there");
    CHECK(ch == NULL);
}

TEST(types_that_differ_are_told)
{
    struct naru_options options = NARU_INIT(struct naru_options), other = NARU_INIT(struct naru_options);
    struct naru_listener *l = NULL;
    struct naru_channel *ch;

    options.type = NARU_TYPE(int, 1);
    other.type = NARU_TYPE(double, 1);
    CHECK_INT(naru_listen(test_format("%s?service=manual", url()), &options, &l), 0);
    ch = begin_with("", &other);
    other.type.name = "gone"; /* it is read by the connect alone */
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
    check_failed(ch, -EPROTOTYPE, "double version 1");
    naru_channel_close(ch);
    naru_listener_close(l);
}

TEST(a_full_queue_of_the_kernels_is_nobody_yet)
{
    struct naru_channel *ch[64], *more = NULL;
    int listener = raw_listen(), count = 0, r = 0;

    while (count < 64 && (r = naru_connect(url(), NULL, NARU_NOWAIT, &ch[count])) == 0)
        CHECK(ch[count++]->meeting);
    CHECK_INT(r, -EAGAIN);
    CHECK_CONTAINS(naru_explain(), "its queue of connections is full");
    CHECK(count > 1);
    close(accept(listener, NULL, NULL));
    CHECK_INT(naru_connect(url(), NULL, NARU_NOWAIT, &more), 0);
    naru_channel_close(more);
    while (count > 0)
        naru_channel_close(ch[--count]);
    close(listener);
    unlink(socket_path());
}

/* Each sends its number once it is connected. Whether near has heard one. */
static bool has_heard(struct naru_channel *near, struct naru_channel *far[4], bool sent[4], int *number)
{
    for (int i = 0; i < 4; i++)
        sent[i] = sent[i] || naru_send(far[i], &i, sizeof i, NARU_NOWAIT) == 0;
    return naru_recv(near, number, sizeof *number, NARU_NOWAIT) == sizeof *number;
}

TEST(those_beyond_the_backlog_are_answered_as_others_are_accepted)
{
    struct naru_listener *l = listen_there("?backlog=1");
    struct naru_channel *far[4] = {NULL}, *near;
    bool sent[4] = {false};
    int number, heard = 0;

    for (int i = 0; i < 4; i++)
        CHECK_INT(naru_connect(url(), NULL, NARU_NOWAIT, &far[i]), 0);
    for (int i = 0; i < 4; i++) {
        CHECK_INT(naru_accept(l, patience, &near), 0);
        WAIT_UNTIL(has_heard(near, far, sent, &number));
        heard |= 1 << number;
        naru_channel_close(near);
    }
    CHECK_INT(heard, 15);
    for (int i = 0; i < 4; i++)
        naru_channel_close(far[i]);
    naru_listener_close(l);
}

/* --- who ends meanwhile --- */

/* Listens, and answers nobody. */
static int fork_silent_listener(void)
{
    struct test_gate listening;
    int pid;

    test_gate_init(&listening);
    pid = test_fork();
    if (pid == 0) {
        (void)listen_there("?service=manual");
        test_gate_open(&listening);
        for (;;)
            pause();
    }
    test_gate_wait(&listening);
    return pid;
}

TEST(a_listener_that_ends_meanwhile_is_told)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *ch = begin("");
    int pid;

    CHECK(!is_ready(ch));
    naru_listener_close(l);
    CHECK(is_ready(ch));
    check_failed(ch, -ECONNRESET, "hung up without an answer");
    naru_channel_close(ch);
    pid = fork_silent_listener();
    ch = begin("");
    CHECK(!is_ready(ch));
    test_kill(pid);
    CHECK(is_ready(ch));
    check_failed(ch, -ECONNRESET, "hung up without an answer");
    naru_channel_close(ch);
    pid = fork_silent_listener();
    ch = begin("");
    test_kill(pid);
    CHECK_INT(naru_recv(ch, NULL, 0, NARU_FOREVER), -ECONNRESET);
    naru_channel_close(ch);
    CHECK_INT(naru_remove(url()), 0);
}

static const char *each_patience(size_t index)
{
    static const char *const names[] = {"once", "again"};

    return index < 2 ? names[index] : NULL;
}

/* Of a path that alone has more than half of what a sentence may have. */
static const char *long_url(void)
{
    static char text[1024];
    size_t length = (size_t)snprintf(text, sizeof text, "shm://%s", test_directory());

    while (length < 600)
        length += (size_t)snprintf(text + length, sizeof text - length, "/.");
    (void)snprintf(text + length, sizeof text - length, "/s");
    return text;
}

TEST_EACH(what_is_told_of_a_long_name_has_its_reason_and_its_mend, each_patience)
{
    struct naru_options manual = NARU_INIT(struct naru_options), options = manual;
    struct naru_listener *l;
    struct naru_channel *ch;

    manual.service = NARU_SERVICE_MANUAL;
    CHECK_INT(naru_listen(long_url(), &manual, &l), 0);
    options.reconnect_ns = index ? NARU_FOREVER : 0;
    CHECK_INT(naru_connect(long_url(), &options, NARU_NOWAIT, &ch), 0);
    CHECK_INT(naru_recv(ch, NULL, 0, NARU_MS(1)), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "does not answer; wait longer for it");
    CHECK_CONTAINS(naru_explain(), "what ?service=manual needs");
    naru_listener_close(l);
    CHECK_INT(naru_recv(ch, NULL, 0, NARU_FOREVER), -ECONNRESET);
    CHECK_CONTAINS(naru_explain(), "hung up without an answer: it ended");
    CHECK_CONTAINS(naru_explain(), index ? "; the next call connects again" : "; connect again");
    naru_channel_close(ch);
}

TEST(a_listener_that_has_answered_and_ends_is_told_as_the_peers_end)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *ch = begin("");

    CHECK_INT(naru_listener_dispatch(l), 1);
    naru_listener_close(l); /* and with it, who was not accepted */
    CHECK_INT(try_recv(ch), -EPIPE);
    CHECK_INT(try_send(ch), -EPIPE);
    naru_channel_close(ch);
}

TEST(who_closes_before_the_answer_is_no_channel)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *ch = NULL;
    size_t before = open_descriptors();

    naru_channel_close(begin(""));
    WAIT_UNTIL(open_descriptors() == before);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
    CHECK(ch == NULL);
    check_still_serves(l);
    naru_listener_close(l);
}

TEST(who_closes_after_the_answer_is_one_that_has_closed)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *near, *far = begin("");

    CHECK_INT(naru_listener_dispatch(l), 1);
    naru_channel_close(far);
    near = accept_now(l);
    CHECK_INT(try_recv(near), -EPIPE);
    CHECK_INT(try_send(near), -EPIPE);
    naru_channel_close(near);
    check_still_serves(l);
    naru_listener_close(l);
}

/* Its own pages say so, or its bells. */
TEST(who_is_killed_after_the_answer_is_one_that_was_killed)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *near;
    struct test_gate begun;
    int pid;

    test_gate_init(&begun);
    pid = test_fork();
    if (pid == 0) {
        (void)begin("");
        test_gate_open(&begun);
        for (;;)
            pause();
    }
    test_gate_wait(&begun);
    CHECK_INT(naru_listener_dispatch(l), 1);
    near = accept_now(l);
    CHECK_INT(try_recv(near), -EAGAIN);
    test_kill(pid);
    CHECK_INT(try_recv(near), -EOWNERDEAD);
    naru_channel_close(near);
    check_still_serves(l);
    naru_listener_close(l);
}

/* --- fork --- */

TEST(a_child_of_who_meets_has_nothing_of_it)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far = begin(""), *near;
    size_t before = open_descriptors();
    int pid;

    CHECK(naru_channel_fd(far) >= 0);
    pid = test_fork();
    if (pid == 0) {
        CHECK(open_descriptors() + 4 < before);
        CHECK_INT(try_send(far), -ECHILD);
        CHECK_INT(try_recv(far), -ECHILD);
        CHECK_INT(naru_flush(far, NARU_SENT, NARU_FOREVER), -ECHILD);
        naru_channel_close(far);
        test_child_end();
    }
    test_join(pid);
    near = accept_now(l);
    check_connected(far, near);
    close_both(far, near);
    naru_listener_close(l);
}

TEST(a_child_may_adopt_what_is_kept_for_it_and_connect)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far, *near;
    struct test_gate kept, closed;
    char word[8];
    int pid;

    test_gate_init(&kept);
    test_gate_init(&closed);
    options.keep_on_fork = 1;
    far = begin_with("", &options);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(try_send(far), -ECHILD);
        CHECK_INT(naru_channel_adopt(far), 0);
        CHECK_INT(try_send(far), -EAGAIN);
        test_gate_open(&kept);
        test_gate_wait(&closed);
        CHECK_INT(naru_send(far, "there", 6, patience), 0);
        CHECK_INT(naru_recv(far, word, sizeof word, patience), 5);
        naru_channel_close(far);
        test_child_end();
    }
    test_gate_wait(&kept);
    naru_channel_close(far);
    CHECK_INT(naru_listener_dispatch(l), 1);
    near = accept_now(l);
    test_gate_open(&closed);
    CHECK_INT(naru_recv(near, word, sizeof word, patience), 6);
    CHECK_INT(naru_send(near, "back", 5, patience), 0);
    test_join(pid);
    CHECK_INT(try_recv(near), -EOWNERDEAD); /* which a kept channel's end is */
    naru_channel_close(near);
    naru_listener_close(l);
}

TEST(an_event_loop_in_a_child_is_told_although_the_parent_closed_its_copy)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far, *near;
    struct test_gate closed;
    int pid;

    test_gate_init(&closed);
    options.keep_on_fork = 1;
    far = begin_with("", &options);
    CHECK(!is_ready(far)); /* the event loop's descriptor is there before the fork */
    pid = test_fork();
    if (pid == 0) {
        struct naru_wait item = NARU_INIT(struct naru_wait);

        CHECK_INT(naru_channel_adopt(far), 0);
        test_gate_wait(&closed);
        item.channel = far;
        CHECK_INT(naru_wait_any(&item, 1, patience), 1);
        CHECK_INT(try_send(far), 0);
        naru_channel_close(far);
        test_child_end();
    }
    naru_channel_close(far);
    near = accept_now(l); /* which answers */
    test_gate_open(&closed);
    test_join(pid);
    CHECK_INT(try_recv(near), 1);
    naru_channel_close(near);
    naru_listener_close(l);
}
