/* SPDX-License-Identifier: MIT */
/* naru_wait_any: channels of many kinds, listeners and bare descriptors together. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

static const char *const urls[] = {"pipe:", "unix:", "unix:?type=dgram", "shm:"};
enum { KINDS = sizeof urls / sizeof *urls };

static struct naru_wait of_channel(struct naru_channel *ch)
{
    struct naru_wait item = NARU_INIT(struct naru_wait);

    item.channel = ch;
    return item;
}

TEST(whoever_has_something_is_found_and_nobody_else)
{
    struct naru_channel *ends[KINDS][2];
    struct naru_wait items[KINDS];
    char buffer[16];

    for (int i = 0; i < KINDS; i++) {
        CHECK_INT(naru_channel_pair(urls[i], NULL, ends[i]), 0);
        items[i] = of_channel(ends[i][1]);
    }
    CHECK_INT(naru_wait_any(items, KINDS, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_wait_any(items, KINDS, NARU_US(100)), -ETIMEDOUT);
    for (int i = 0; i < KINDS; i++) {
        CHECK_INT(naru_send(ends[i][0], "one", 3, NARU_FOREVER), 0);
        CHECK_INT(naru_send(ends[i][0], "two", 3, NARU_FOREVER), 0);
        for (int left = 2; left > 0; left--) { /* also what was read ahead */
            CHECK_INT(naru_wait_any(items, KINDS, NARU_FOREVER), 1);
            for (int k = 0; k < KINDS; k++)
                CHECK_INT(items[k].ready, k == i ? NARU_IN : 0);
            CHECK_INT(naru_recv(ends[i][1], buffer, sizeof buffer, NARU_NOWAIT), 3);
        }
        CHECK_INT(naru_wait_any(items, KINDS, NARU_NOWAIT), -EAGAIN);
    }
    (void)naru_channel_close(ends[0][0]); /* an end is something, too */
    CHECK_INT(naru_wait_any(items, KINDS, NARU_FOREVER), 1);
    CHECK_INT(items[0].ready, NARU_IN);
    CHECK_INT(naru_recv(ends[0][1], buffer, sizeof buffer, NARU_NOWAIT), -EPIPE);
    (void)naru_channel_close(ends[0][1]);
    for (int i = 1; i < KINDS; i++) {
        (void)naru_channel_close(ends[i][0]);
        (void)naru_channel_close(ends[i][1]);
    }
}

TEST(a_sleeper_is_woken_from_another_process)
{
    struct naru_channel *ends[KINDS][2];
    struct naru_wait items[KINDS];
    char buffer[16];
    int child;

    for (int i = 0; i < KINDS; i++)
        CHECK_INT(naru_channel_pair(urls[i], NULL, ends[i]), 0);
    child = test_fork();
    if (child == 0) {
        for (int i = 0; i < KINDS; i++) {
            (void)naru_channel_close(ends[i][1]);
            for (int round = 0; round < 200; round++) { /* one at a time: each is waited for anew */
                CHECK_INT(naru_send(ends[i][0], "ping", 4, NARU_FOREVER), 0);
                CHECK_INT(naru_recv(ends[i][0], buffer, sizeof buffer, NARU_FOREVER), 4);
            }
            (void)naru_channel_close(ends[i][0]);
        }
        _exit(0);
    }
    for (int i = 0; i < KINDS; i++) {
        (void)naru_channel_close(ends[i][0]);
        items[i] = of_channel(ends[i][1]);
    }
    for (int received = 0; received < 200 * KINDS;) {
        CHECK(naru_wait_any(items, KINDS, NARU_FOREVER) > 0);
        for (int i = 0; i < KINDS; i++) {
            ssize_t n = items[i].ready ? naru_recv(ends[i][1], buffer, sizeof buffer, NARU_NOWAIT) : -EAGAIN;

            if (n == 4) {
                CHECK_INT(naru_send(ends[i][1], "pong", 4, NARU_FOREVER), 0);
                received++;
            } else if (n == -EPIPE) { /* the child is done with this one, but it stays ready */
                CHECK(received >= 200);
            } else {
                CHECK_INT(n, -EAGAIN);
            }
        }
    }
    test_join(child);
    for (int i = 0; i < KINDS; i++)
        (void)naru_channel_close(ends[i][1]);
}

TEST(listeners_and_descriptors_are_waited_for_too)
{
    struct naru_wait items[2] = {NARU_INIT(struct naru_wait), NARU_INIT(struct naru_wait)};
    const char *url = test_format("unix://%s/socket", test_directory());
    struct naru_channel *near, *far;
    struct naru_listener *l;
    char byte = 'x';
    int fds[2];

    CHECK_INT(naru_listen(url, NULL, &l), 0);
    CHECK_INT(pipe2(fds, O_CLOEXEC), 0);
    items[0].listener = l;
    items[1].fd = fds[0];
    items[1].events = NARU_IN;
    CHECK_INT(naru_wait_any(items, 2, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_connect(url, NULL, NARU_FOREVER, &far), 0);
    CHECK_INT(naru_wait_any(items, 2, NARU_FOREVER), 1);
    CHECK(items[0].ready == NARU_IN && items[1].ready == 0);
    CHECK_INT(write(fds[1], &byte, 1), 1);
    CHECK_INT(naru_wait_any(items, 2, NARU_FOREVER), 2);
    CHECK(items[0].ready == NARU_IN && items[1].ready == NARU_IN);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &near), 0);
    CHECK_INT(read(fds[0], &byte, 1), 1);
    (void)close(fds[1]);
    CHECK_INT(naru_wait_any(items, 2, NARU_FOREVER), 1);
    CHECK(items[0].ready == 0 && items[1].ready == NARU_IN); /* its end */
    (void)close(fds[0]);
    CHECK_INT(naru_wait_any(items, 2, NARU_FOREVER), -EBADF);
    CHECK_CONTAINS(naru_explain(), "is not open");
    (void)naru_channel_close(near);
    (void)naru_channel_close(far);
    (void)naru_listener_close(l);
}

static struct naru_channel *interrupted;

static void on_alarm(int number)
{
    (void)number;
    (void)naru_interrupt(interrupted);
}

TEST(an_interruption_of_any_channel_ends_the_wait)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval soon = {.it_value.tv_usec = 20 * 1000};
    struct naru_channel *plain[2], *ends[2];
    struct naru_wait items[2];

    options.interruptible = 1;
    CHECK_INT(naru_channel_pair("pipe:", NULL, plain), 0);
    CHECK_INT(naru_channel_pair("shm:", &options, ends), 0);
    interrupted = ends[1];
    items[0] = of_channel(plain[1]);
    items[1] = of_channel(ends[1]);
    CHECK_INT(naru_wait_any(items, 2, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_INT(setitimer(ITIMER_REAL, &soon, NULL), 0);
    CHECK_INT(naru_wait_any(items, 2, NARU_FOREVER), -ECANCELED);
    CHECK_INT(naru_wait_any(items, 2, NARU_NOWAIT), -EAGAIN); /* taken */
    for (int i = 0; i < 2; i++) {
        (void)naru_channel_close(plain[i]);
        (void)naru_channel_close(ends[i]);
    }
}

TEST(many_are_as_good_as_few)
{
    enum { MANY = 100 };
    static struct naru_channel *ends[MANY][2];
    static struct naru_wait items[MANY];
    char buffer[8];

    for (int i = 0; i < MANY; i++) {
        CHECK_INT(naru_channel_pair("unix:", NULL, ends[i]), 0);
        items[i] = of_channel(ends[i][1]);
    }
    for (int i = 0; i < MANY; i += 33)
        CHECK_INT(naru_send(ends[i][0], "x", 1, NARU_FOREVER), 0);
    CHECK_INT(naru_wait_any(items, MANY, NARU_FOREVER), 4);
    for (int i = 0; i < MANY; i++)
        CHECK_INT(items[i].ready, i % 33 == 0 ? NARU_IN : 0);
    CHECK_INT(naru_recv(ends[99][1], buffer, sizeof buffer, NARU_NOWAIT), 1);
    CHECK_INT(naru_wait_any(items, MANY, NARU_FOREVER), 3);
    for (int i = 0; i < MANY; i++) {
        (void)naru_channel_close(ends[i][0]);
        (void)naru_channel_close(ends[i][1]);
    }
}

/* poll(2) takes as many entries, whatever they are. */
TEST(as_many_as_there_may_be_descriptors_are_waited_for)
{
    static struct naru_wait items[1024 + 1];
    struct rlimit before, few;
    size_t n = 1024;
    int fds[2];

    CHECK_INT(pipe2(fds, O_CLOEXEC), 0);
    for (size_t i = 0; i <= n; i++)
        items[i] = (struct naru_wait){.size = sizeof *items, .fd = fds[1], .events = NARU_OUT};
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    if (few.rlim_cur > n)
        few.rlim_cur = n;
    n = few.rlim_cur;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
    CHECK_INT(naru_wait_any(items, n, NARU_NOWAIT), n);
    CHECK_INT(naru_wait_any(items, n + 1, NARU_NOWAIT), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "RLIMIT_NOFILE");
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
    close(fds[0]);
    close(fds[1]);
}

TEST(misuse_is_explained)
{
    struct naru_wait item = NARU_INIT(struct naru_wait);
    struct naru_listener *l;
    struct naru_channel *ch;

    CHECK_INT(naru_wait_any(&item, 0, NARU_NOWAIT), -EINVAL);
    item.fd = -1;
    CHECK_INT(naru_wait_any(&item, 1, NARU_NOWAIT), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "expected a channel");
    item.fd = 0;
    item.events = 0x40;
    CHECK_INT(naru_wait_any(&item, 1, NARU_NOWAIT), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "NARU_IN");
    item.size = 8;
    CHECK_INT(naru_wait_any(&item, 1, NARU_NOWAIT), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "NARU_INIT");
    CHECK_INT(naru_listen("sysvmq:0x4e77?unlink=yes", NULL, &l), 0);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), 0);
    item = of_channel(ch);
    CHECK_INT(naru_wait_any(&item, 1, NARU_NOWAIT), -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "no descriptor to poll");
    (void)naru_channel_close(ch);
    (void)naru_listener_close(l);
}
