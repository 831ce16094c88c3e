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
#include <sys/sysmacros.h>

#include "base/fork.h"

enum { PROC_PATH = 64 };

/* The number that a name in a directory of /proc is; -1: none. */
static int number_of(const struct dirent *entry)
{
    char *end;
    long number = strtol(entry->d_name, &end, 10);

    return end != entry->d_name && !*end && number >= 0 && number <= INT_MAX ? (int)number : -1;
}

/* The numbers that are names in a directory of /proc, on the heap; how many. */
static size_t list_numbers(const char *path, int **ret_numbers)
{
    size_t count = 0, room = 0;
    const struct dirent *entry;
    int *numbers = NULL;
    DIR *directory;

    fork_hold();
    directory = opendir(path);
    while (directory && (entry = readdir(directory))) {
        int number = number_of(entry);

        if (number >= 0 && count == room) {
            int *more = realloc(numbers, (room = 2 * room + 64) * sizeof *more);

            if (!more)
                break;
            numbers = more;
        }
        if (number >= 0)
            numbers[count++] = number;
    }
    if (directory)
        (void)closedir(directory);
    fork_release();
    *ret_numbers = numbers;
    return count;
}

/* The file is named by device and inode, as stat(2) has them on most file systems; where it has others
 * (btrfs) nobody is found. */
static bool is_lock_on_first(const char *line, const struct stat *file)
{
    char where[96], first[32], wanted[96];

    if (sscanf(line, "lock: %*s %*s %*s %*s %*s %95s %31s", where, first) != 2)
        return false;
    (void)snprintf(wanted, sizeof wanted, "%02x:%02x:%llu", major(file->st_dev), minor(file->st_dev),
                   (unsigned long long)file->st_ino);
    return strcmp(where, wanted) == 0 && strcmp(first, "0") == 0;
}

static bool has_lock(int pid, int fd, const struct stat *wanted)
{
    char path[PROC_PATH], line[256];
    bool found = false;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", pid, fd);
    fork_hold();
    file = fopen(path, "re");
    while (file && !found && fgets(line, sizeof line, file))
        found = is_lock_on_first(line, wanted);
    if (file)
        (void)fclose(file);
    fork_release();
    return found;
}

static bool process_has_lock(int pid, const struct stat *wanted)
{
    char path[PROC_PATH];
    bool found = false;
    size_t count;
    int *fds;

    (void)snprintf(path, sizeof path, "/proc/%d/fd", pid);
    count = list_numbers(path, &fds);
    for (size_t i = 0; i < count && !found; i++)
        found = has_lock(pid, fds[i], wanted);
    free(fds);
    return found;
}

pid_t holder_of_lock(const char *path)
{
    struct stat wanted;
    pid_t holder = 0;
    size_t count;
    int *pids;

    if (stat(path, &wanted) < 0)
        return 0;
    count = list_numbers("/proc", &pids);
    for (size_t i = 0; i < count && holder == 0; i++)
        if (process_has_lock(pids[i], &wanted))
            holder = pids[i];
    free(pids);
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
