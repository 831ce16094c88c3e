/* SPDX-License-Identifier: MIT */
/*
 * /proc/locks has no pid for the locks of an open file description, and none of another pid namespace's
 * descriptors. /proc/PID/fdinfo/N has the locks that were taken through that descriptor, of either kind:
 *
 *     lock:   1: OFDLCK  ADVISORY  WRITE -1 00:19:5 0 0
 *
 * (proc_pid_fdinfo(5); the last two are the first and the last byte, which may be EOF). The descriptors
 * themselves are not asked: a file's status may take as long as its file system likes, and a name says little
 * of a file that was linked or renamed since it was opened.
 */
#include "base/holder.h"

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fork.h"

enum { PROC_PATH = 64 };

/* The number that a name in a directory of /proc is; -1: none. */
static int number_of(const struct dirent *entry)
{
    char *end;
    long number = strtol(entry->d_name, &end, 10);

    return end != entry->d_name && !*end && number >= 0 && number <= INT_MAX ? (int)number : -1;
}

/* Of that inode, whose number stands before the range, behind the device's. */
static bool is_lock_on_first(const char *line, ino_t inode)
{
    char where[96], first[32];
    const char *number;

    if (sscanf(line, "lock: %*s %*s %*s %*s %*s %95s %31s", where, first) != 2)
        return false;
    number = strrchr(where, ':');
    return number && strtoull(number + 1, NULL, 10) == inode && strcmp(first, "0") == 0;
}

static bool has_lock(int pid, int fd, ino_t inode)
{
    char path[PROC_PATH], line[256];
    bool found = false;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", pid, fd);
    file = fopen(path, "re");
    if (!file)
        return false;
    while (!found && fgets(line, sizeof line, file))
        found = is_lock_on_first(line, inode);
    (void)fclose(file);
    return found;
}

static bool process_has_lock(int pid, ino_t inode)
{
    char path[PROC_PATH];
    const struct dirent *entry;
    bool found = false;
    DIR *fds;

    (void)snprintf(path, sizeof path, "/proc/%d/fd", pid);
    fds = opendir(path);
    if (!fds)
        return false;
    while (!found && (entry = readdir(fds))) {
        int fd = number_of(entry);

        found = fd >= 0 && has_lock(pid, fd, inode);
    }
    (void)closedir(fds);
    return found;
}

pid_t holder_of_lock(const char *path)
{
    const struct dirent *entry;
    struct stat wanted;
    pid_t holder = 0;
    DIR *processes;

    if (stat(path, &wanted) < 0)
        return 0;
    fork_hold();
    processes = opendir("/proc");
    while (processes && holder == 0 && (entry = readdir(processes))) {
        int pid = number_of(entry);

        if (pid > 0 && process_has_lock(pid, wanted.st_ino))
            holder = pid;
    }
    if (processes)
        (void)closedir(processes);
    fork_release();
    return holder;
}

const char *holder_name(pid_t pid, char name[static HOLDER_NAME])
{
    if (pid > 0)
        (void)snprintf(name, HOLDER_NAME, "process %lld", (long long)pid);
    else
        (void)snprintf(name, HOLDER_NAME, "a process");
    return name;
}

const char *holder_of_lock_name(const char *path, char name[static HOLDER_NAME])
{
    return holder_name(holder_of_lock(path), name);
}
