/* SPDX-License-Identifier: MIT */
/* What the tests of the locks have in common: shared memory, threads, and a torture chamber. */
#ifndef NARU_SYNC_TEST_SYNC_H
#define NARU_SYNC_TEST_SYNC_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "naru/error.h"
#include "runner.h"

/* Long enough for anything that should happen, on a loaded machine too. */
#define SOON NARU_S(60)

/* Zeroed memory that the children of this test share. */
static inline void *shared_new(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    CHECK(memory != MAP_FAILED);
    return memory;
}

/* A name that no other run uses. */
static inline const char *own_name(const char *what)
{
    static char name[100];

    (void)snprintf(name, sizeof name, "test-%s-%d", what, getpid());
    return name;
}

static inline void ignore_signal(int number)
{
    (void)number;
}

/* A signal handler runs every 300 us, and interrupts system calls, until storm_end(). */
static inline void storm_begin(void)
{
    const struct sigaction action = {.sa_handler = ignore_signal}; /* no SA_RESTART */
    const struct itimerval often = {{0, 300}, {0, 300}};

    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_INT(setitimer(ITIMER_REAL, &often, NULL), 0);
}

static inline void storm_end(void)
{
    const struct itimerval never = {{0, 0}, {0, 0}};

    CHECK_INT(setitimer(ITIMER_REAL, &never, NULL), 0);
}

/* Whether a process sleeps in the kernel: it has begun to wait. */
static inline int is_asleep(int pid)
{
    char path[64], text[512], *state;
    FILE *file;
    size_t length;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    file = fopen(path, "re");
    if (!file)
        return 0;
    length = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[length] = '\0';
    state = strrchr(text, ')');
    return state && state[2] == 'S';
}

/*
 * The torture chamber: some processes do work(shared) again and again, each round adding to *steps. One after
 * the other is killed at a moment nobody chose, and replaced; each time the rest must go on. *steps must lie
 * in shared memory. work() gets a number unique to the process. On a machine so busy that this takes long
 * (each step needs several processes to get a CPU in turn) it is a sixth of the kills.
 */
static inline void torture(void (*work)(void *shared, int number), void *shared, _Atomic uint64_t *steps,
                           int workers, int kills)
{
    int64_t enough = clock_now() + NARU_S(10);
    int pids[8], started = 0;

    CHECK(workers <= 8);
    for (int i = 0; i < workers + (clock_now() < enough ? kills : kills / 6); i++) {
        int victim = i % workers;
        uint64_t until = atomic_load(steps) + (uint64_t)(random() % 40);

        if (i >= workers) {
            /* All workers but the one are enough to go on; who is stuck fails the test here. */
            for (int64_t end = clock_now() + SOON; atomic_load(steps) < until; (void)sched_yield())
                if (clock_now() > end)
                    test_fail(__FILE__, __LINE__, "nobody gets on after %d kills", i - workers);
            test_kill(pids[victim]);
        }
        pids[victim] = test_fork();
        started++;
        if (pids[victim] == 0) {
            for (;;) {
                work(shared, started);
                (void)atomic_fetch_add(steps, 1);
            }
        }
    }
    for (int i = 0; i < workers; i++)
        test_kill(pids[i]);
}

#endif
