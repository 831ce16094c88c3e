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
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A thread that begins may wait for a CPU as long as a busy machine likes; one that spins never sleeps. */
enum { LOOKS = 2000, PAUSE_NS = 100 * 1000 };

/* The thread of an entry of /proc/self/task; "." and ".." are none. One that has gone sleeps for good. */
static bool is_asleep(int tasks, const char *name)
{
    char path[64], stat[512];
    const char *end;
    ssize_t n;
    int fd;

    (void)snprintf(path, sizeof path, "%s/stat", name);
    fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true;
    n = read(fd, stat, sizeof stat - 1);
    (void)close(fd);
    if (n <= 0)
        return true;
    stat[n] = '\0';
    end = strrchr(stat, ')'); /* of the name, which may have any characters */
    return !end || !strchr("RD", end[2]);
}

static bool all_sleep(int tasks)
{
    _Alignas(struct dirent64) char entries[4096];
    long n;

    (void)lseek(tasks, 0, SEEK_SET);
    while ((n = syscall(SYS_getdents64, tasks, entries, sizeof entries)) > 0)
        for (long at = 0; at < n;) {
            const struct dirent64 *entry = (const struct dirent64 *)(const void *)(entries + at);

            at += entry->d_reclen;
            if (entry->d_name[0] != '.' && (pid_t)strtol(entry->d_name, NULL, 10) != gettid() &&
                !is_asleep(tasks, entry->d_name))
                return false;
        }
    return true;
}

void fork_await_sleep(void)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    int saved = errno, tasks = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    for (int i = 0; tasks >= 0 && i < LOOKS && !all_sleep(tasks); i++)
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    if (tasks >= 0)
        (void)close(tasks);
    errno = saved;
}
#endif
