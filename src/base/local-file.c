/* SPDX-License-Identifier: MIT */
/*
 * What a descriptor is of, without a question to whoever serves its file system: fstat(2) and fstatfs(2) of a
 * file of FUSE wait for its server, and of NFS for another machine. The kernel says by itself on which mount
 * a file is (proc_pid_fdinfo(5)), and of what kind that is (proc_pid_mountinfo(5)). A mount of another
 * namespace, or one that was unmounted with files open, is in no list here: then nothing is known.
 *
 * Only kinds that are known to answer by themselves count. An overlay may lie over others; to mount one in
 * this namespace takes its owner, who need not go such ways. A device of CUSE is FUSE again: of devices, only
 * those of memory count (/dev/null), whose number is fixed (Documentation/admin-guide/devices.txt): who
 * closes one side of a pseudo terminal waits for who reads the other. And of what is of no file system, what
 * cannot wait for another process: to close a userfaultfd(2) takes the lock of the memory that it is of.
 */
#include "base/local-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const local_kinds[] = {"bcachefs", "btrfs", "devpts", "devtmpfs", "erofs", "exfat",
                                          "ext2",     "ext3",  "ext4",   "f2fs",     "fat",   "hugetlbfs",
                                          "iso9660",  "jfs",   "msdos",  "overlay",  "ramfs", "squashfs",
                                          "tmpfs",    "vfat",  "xfs",    "zfs",      NULL};

static const char *const harmless_inodes[] = {"anon_inode:[eventfd]", "anon_inode:[eventpoll]",
                                              "anon_inode:[timerfd]", "anon_inode:[signalfd]",
                                              "anon_inode:[pidfd]",   NULL};

/* proc_pid_fd(5). What has a path begins with a slash, or "(unreachable)". */
static bool is_of_no_file_system(int fd)
{
    char path[64], target[64];
    ssize_t length;

    (void)snprintf(path, sizeof path, "/proc/thread-self/fd/%d", fd);
    length = readlink(path, target, sizeof target - 1);
    if (length < 0)
        return false;
    target[length] = '\0';
    for (size_t i = 0; harmless_inodes[i]; i++)
        if (strcmp(target, harmless_inodes[i]) == 0)
            return true;
    return false;
}

/* The number of its mount, or -1. */
static int mount_of(int fd)
{
    char path[64], *line = NULL;
    size_t size = 0;
    FILE *file;
    int number = -1;

    (void)snprintf(path, sizeof path, "/proc/thread-self/fdinfo/%d", fd);
    file = fopen(path, "re");
    while (file && number < 0 && getline(&line, &size, file) > 0)
        if (strncmp(line, "mnt_id:", 7) == 0)
            number = (int)strtol(line + 7, NULL, 10);
    free(line);
    if (file)
        (void)fclose(file);
    return number;
}

/* Of a line of mountinfo: the word behind the lone hyphen. A space within a path is written \040. */
static bool says_local(const char *line)
{
    const char *kind = strstr(line, " - ");

    for (size_t i = 0; kind && local_kinds[i]; i++) {
        size_t length = strlen(local_kinds[i]);

        if (strncmp(kind + 3, local_kinds[i], length) == 0 && kind[3 + length] == ' ')
            return true;
    }
    return false;
}

static bool is_local_mount(int number)
{
    FILE *file = number < 0 ? NULL : fopen("/proc/thread-self/mountinfo", "re");
    bool found = false, local = false;
    char *line = NULL;
    size_t size = 0;

    while (file && !found && getline(&line, &size, file) > 0) {
        found = strtol(line, NULL, 10) == number;
        local = found && says_local(line);
    }
    free(line);
    if (file)
        (void)fclose(file);
    return local;
}

/* Of what is on a local mount. */
static bool is_plain(int fd)
{
    enum { MEMORY = 1 };
    struct statx status;

    /* An overlay would ask those below, but for AT_STATX_DONT_SYNC. */
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &status) < 0)
        return false;
    if (S_ISCHR(status.stx_mode))
        return status.stx_rdev_major == MEMORY;
    return S_ISREG(status.stx_mode) || S_ISDIR(status.stx_mode);
}

bool local_file(int fd)
{
    int saved = errno;
    bool local = is_of_no_file_system(fd) || (is_local_mount(mount_of(fd)) && is_plain(fd));

    errno = saved;
    return local;
}
