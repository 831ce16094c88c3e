/* SPDX-License-Identifier: MIT */
/* Whether other threads sleep, from /proc/self/task (proc(5)); see fork-sanitized.h. Allocates nothing. */
#include "base/fork-sanitized.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

/*
 * One that begins, or is inside an allocator, may wait for a CPU as long as a busy machine likes, and needs
 * little of it then; one that spins never sleeps, and is known by what it takes; one that waits for a disk or
 * a child of vfork(2) takes nothing, and may do so for good.
 */
enum { PAUSE_NS = 100 * 1000, LOOKS_AT_WAITING = 2000 };
static const int64_t spinning_ns = NARU_MS(200), starving_ns = NARU_S(60);

/* What a thread does, as proc(5) has it; the later, the more it is to be waited for. */
enum activity { ASLEEP, WAITING /* 'D' */, RUNNING };

/* The thread of an entry of /proc/self/task; "." and ".." are none. One that has gone sleeps for good. */
static enum activity activity_of(int tasks, const char *name)
{
    char path[64], stat[512];
    const char *end;
    ssize_t n;
    int fd;

    (void)snprintf(path, sizeof path, "%s/stat", name);
    fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ASLEEP;
    n = read(fd, stat, sizeof stat - 1);
    (void)close(fd);
    if (n <= 0)
        return ASLEEP;
    stat[n] = '\0';
    end = strrchr(stat, ')'); /* of the name, which may have any characters */
    return end && end[2] == 'R' ? RUNNING : end && end[2] == 'D' ? WAITING : ASLEEP;
}

static enum activity activity_of_others(int tasks)
{
    _Alignas(struct dirent64) char entries[4096];
    enum activity most = ASLEEP;
    long n;

    (void)lseek(tasks, 0, SEEK_SET);
    while ((n = syscall(SYS_getdents64, tasks, entries, sizeof entries)) > 0)
        for (long at = 0; at < n;) {
            const struct dirent64 *entry = (const struct dirent64 *)(const void *)(entries + at);
            enum activity activity = ASLEEP;

            at += entry->d_reclen;
            if (entry->d_name[0] != '.' && (pid_t)strtol(entry->d_name, NULL, 10) != gettid())
                activity = activity_of(tasks, entry->d_name);
            most = activity > most ? activity : most;
        }
    return most;
}

static int64_t clock_of(clockid_t id)
{
    struct timespec time = {0};

    (void)clock_gettime(id, &time);
    return NARU_S(time.tv_sec) + time.tv_nsec;
}

/* What the other threads have taken of the CPUs. */
static int64_t others_cpu(void)
{
    return clock_of(CLOCK_PROCESS_CPUTIME_ID) - clock_of(CLOCK_THREAD_CPUTIME_ID);
}

static void await_sleep(int tasks)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    int64_t enough = others_cpu() + spinning_ns, end = clock_of(CLOCK_MONOTONIC) + starving_ns;
    enum activity activity;
    int waiting = 0;

    while ((activity = activity_of_others(tasks)) != ASLEEP && others_cpu() < enough &&
           clock_of(CLOCK_MONOTONIC) < end) {
        if (activity == WAITING && ++waiting == LOOKS_AT_WAITING)
            return;
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
}

void fork_await_sleep(void)
{
    struct rlimit usual = {0}, most;
    int saved = errno, tasks;

    (void)getrlimit(RLIMIT_NOFILE, &usual); /* a program that has run out of descriptors forks, too */
    most = (struct rlimit){usual.rlim_max, usual.rlim_max};
    (void)setrlimit(RLIMIT_NOFILE, &most);
    tasks = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tasks >= 0) {
        await_sleep(tasks);
        (void)close(tasks);
    }
    (void)setrlimit(RLIMIT_NOFILE, &usual);
    errno = saved;
}
#endif
