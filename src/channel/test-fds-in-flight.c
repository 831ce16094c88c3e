/* SPDX-License-Identifier: MIT */
/*
 * More descriptors on their way than the kernel lets a user have (unix(7): RLIMIT_NOFILE of who sends), over
 * shm: and unix: of each kind. Those of the channel itself come back as they are received: that is to wait
 * for. Of others' nobody knows when they do.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

enum { LIMIT = 64, EACH = 20, MESSAGES = 40 };

static const int64_t patience = NARU_S(60);

static const char *const urls[] = {"shm:", "unix:?type=stream", "unix:?type=seqpacket", "unix:?type=dgram"};

static const char *each_url(size_t index)
{
    return index < sizeof urls / sizeof *urls ? urls[index] : NULL;
}

/* Runs it as a user whom no other test is, as what counts is all of a user's. */
static void as_somebody(void (*run)(const char *), const char *url)
{
    const struct rlimit limit = {LIMIT, LIMIT};
    int pid;

    test_need_root();
    pid = test_fork();
    if (pid == 0) {
        uid_t uid = (uid_t)(20000 + getpid() % 40000);

        if (setgid(65534) < 0 || setuid(uid) < 0)
            test_skip("there is no user %u here", uid);
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
        run(url);
        test_child_end();
    }
    test_join(pid);
}

static void open_pair(const char *url, struct naru_channel *ch[2])
{
    CHECK_INT(naru_channel_pair(url, NULL, ch), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_channel_adopt(ch[i]), 0);
}

static void close_pair(struct naru_channel *ch[2])
{
    for (int i = 0; i < 2; i++)
        ch[i] = naru_channel_close(ch[i]);
}

static int send_some(struct naru_channel *ch, int64_t timeout_ns)
{
    struct iovec piece = {(char[]){"some"}, 4};
    struct naru_message m = NARU_INIT(struct naru_message);
    int fds[EACH] = {0};

    m.iov = &piece;
    m.iov_count = 1;
    m.fds = fds;
    m.fd_count = EACH;
    return naru_send_message(ch, &m, timeout_ns);
}

static void take_some(struct naru_channel *ch)
{
    char bytes[4];

    CHECK_INT(naru_recv(ch, bytes, sizeof bytes, patience), 4); /* which closes the descriptors */
}

/* How many went, until the kernel had enough. */
static int send_until_full(struct naru_channel *ch)
{
    int sent = 0, r;

    while ((r = send_some(ch, NARU_NOWAIT)) == 0)
        CHECK(++sent <= LIMIT / EACH + 1);
    CHECK_INT(r, -EAGAIN);
    CHECK(sent > 0);
    return sent;
}

enum { ROUNDS = 20 };

static void send_too_many(const char *url)
{
    struct naru_channel *ch[2];
    long before;
    int sent;

    open_pair(url, ch);
    sent = send_until_full(ch[0]);
    before = test_sleeps();
    for (int i = 0; i < ROUNDS; i++)
        CHECK_INT(send_some(ch[0], NARU_MS(20)), -ETIMEDOUT);
    CHECK(test_sleeps() - before >= ROUNDS / 2);         /* a round in which all stood still has none */
    CHECK_INT(naru_send(ch[0], "none", 4, patience), 0); /* what has none goes */
    take_some(ch[1]);
    CHECK_INT(send_some(ch[0], NARU_NOWAIT), 0);
    for (int i = 0; i < sent + 1; i++)
        take_some(ch[1]);
    close_pair(ch);
}

TEST_EACH(descriptors_that_find_no_room_on_their_way_wait_for_those_before_them, each_url)
{
    as_somebody(send_too_many, urls[index]);
}

/* The socket of unix: itself has room all the while. */
static void loop_beside_too_many(const char *url)
{
    struct naru_channel *ch[2];
    int sent, plain = 0, fd;

    open_pair(url, ch);
    fd = naru_channel_fd(ch[0]);
    CHECK(fd >= 0);
    sent = send_until_full(ch[0]);
    CHECK(!test_is_readable(fd));
    CHECK_INT(send_some(ch[0], NARU_MS(20)), -ETIMEDOUT);
    CHECK(!test_is_readable(fd));
    while (naru_send(ch[0], "none", 4, NARU_NOWAIT) == 0)
        plain++;
    CHECK(!test_is_readable(fd));
    for (int i = 0; i < sent + plain; i++)
        take_some(ch[1]);
    CHECK(test_is_readable(fd)); /* as of any that found no room */
    CHECK_INT(send_some(ch[0], NARU_NOWAIT), 0);
    take_some(ch[1]);
    close_pair(ch);
}

TEST_EACH(an_event_loop_sleeps_while_descriptors_find_no_room_on_their_way, each_url)
{
    as_somebody(loop_beside_too_many, urls[index]);
}

static int send_batch_of_some(struct naru_channel *ch)
{
    struct iovec piece = {(char[]){"some"}, 4};
    struct naru_message m[3] = {NARU_INIT(struct naru_message), NARU_INIT(struct naru_message),
                                NARU_INIT(struct naru_message)};
    int fds[EACH] = {0};

    for (int i = 0; i < 3; i++) {
        m[i].iov = &piece;
        m[i].iov_count = 1;
        m[i].fds = i ? fds : NULL;
        m[i].fd_count = i ? EACH : 0;
    }
    return (int)naru_send_batch(ch, m, 3, NARU_NOWAIT);
}

/* It sends what it can: what was refused in it is the next call's, which may be without descriptors. */
static void loop_beside_a_batch(const char *url)
{
    struct naru_channel *ch[2];
    int sent, fd;

    open_pair(url, ch);
    fd = naru_channel_fd(ch[0]);
    CHECK(fd >= 0);
    sent = send_until_full(ch[0]);
    CHECK_INT(send_batch_of_some(ch[0]), 1);
    CHECK(!test_is_readable(fd));
    for (sent++; naru_send(ch[0], "none", 4, NARU_NOWAIT) == 0; sent++)
        continue;
    CHECK(!test_is_readable(fd));
    while (sent-- > 0)
        take_some(ch[1]);
    CHECK(test_is_readable(fd));
    close_pair(ch);
}

TEST_EACH(nor_does_a_batch_that_ended_there_hide_what_finds_no_room_later, each_url)
{
    as_somebody(loop_beside_a_batch, urls[index]);
}

static void *take_all(void *ch)
{
    for (int i = 0; i < MESSAGES; i++)
        take_some(ch);
    return NULL;
}

static void send_many(const char *url)
{
    struct naru_channel *ch[2];
    pthread_t thread;

    open_pair(url, ch);
    (void)send_until_full(ch[0]);
    for (int i = 0; i < 2; i++)
        take_some(ch[1]);
    CHECK_INT(pthread_create(&thread, NULL, take_all, ch[1]), 0);
    for (int i = 0; i < MESSAGES; i++)
        CHECK_INT(send_some(ch[0], i % 2 ? NARU_FOREVER : patience), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    close_pair(ch);
}

TEST_EACH(all_that_is_sent_arrives_as_fast_as_it_is_received, each_url)
{
    as_somebody(send_many, urls[index]);
}

static void send_beside_others(const char *url)
{
    struct naru_channel *others[2], *ch[2];
    int r;

    open_pair("unix:", others);
    open_pair(url, ch);
    CHECK_INT(send_some(ch[0], NARU_NOWAIT), 0);
    take_some(ch[1]);
    (void)send_until_full(others[0]);
    CHECK_INT(send_some(ch[0], patience), -ETOOMANYREFS);
    CHECK_CONTAINS(naru_explain(), "`ulimit -n`");
    CHECK_INT(naru_send(ch[0], "none", 4, patience), 0);
    take_some(ch[1]);
    close_pair(others); /* perhaps by a thread, as this process has no room to see what is in them */
    WAIT_UNTIL((r = send_some(ch[0], patience)) != -ETOOMANYREFS);
    CHECK_INT(r, 0);
    take_some(ch[1]);
    close_pair(ch);
}

TEST_EACH(where_only_others_are_on_their_way_it_is_said, each_url)
{
    as_somebody(send_beside_others, urls[index]);
}
