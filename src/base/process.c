/* SPDX-License-Identifier: MIT */
/*
 * What became of another process. Three witnesses, by how far its end has come: while it still has its pid,
 * the flags in /proc/PID/stat (a process closes its files in do_exit() before it becomes a zombie, so a
 * peer's hang-up is seen in this state); after it was reaped, PIDFD_GET_INFO.
 */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fork.h"

/* Of include/linux/sched.h: "killed by a signal". Field 9 of proc_pid_stat(5) shows the flags. */
enum { PF_SIGNALED_FLAG = 0x400 };

/* PIDFD_GET_INFO of include/uapi/linux/pidfd.h, which Debian 12's headers do not have yet. */
struct pidfd_info_v1 {
    uint64_t mask, cgroupid;
    uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
};
enum { PIDFD_INFO_EXIT_BIT = 1 << 3 };
#define PIDFD_GET_INFO_V1 _IOWR(0xFF, 11, struct pidfd_info_v1)

int process_pidfd(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    return fd < 0 ? -1 : fd;
}

/* What one read of a file in /proc gives, as text; false if there is none. */
static bool read_proc(const char *path, char *text, size_t size)
{
    ssize_t length;
    int fd;

    fork_hold();
    fd = open(path, O_RDONLY | O_CLOEXEC);
    length = fd < 0 ? -1 : read(fd, text, size - 1);
    (void)fd_close(fd);
    fork_release();
    text[length > 0 ? length : 0] = '\0';
    return length > 0;
}

/* Parent and flags of a process that still has its pid; both 0 if it has not. */
static void read_stat(pid_t pid, int *ret_parent, unsigned long *ret_flags)
{
    char path[32], text[512], *end;
    unsigned long flags;
    int parent;

    *ret_parent = 0;
    *ret_flags = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (!read_proc(path, text, sizeof text))
        return;
    end = strrchr(text, ')'); /* the name before it may hold anything */
    if (!end || sscanf(end + 1, " %*c %d %*d %*d %*d %*d %lu", &parent, &flags) != 2)
        return;
    *ret_parent = parent;
    *ret_flags = flags;
}

/* A child may have ended since it was listed, and its number be somebody else's: so its parent is asked for
 * when the pidfd holds on to whoever it is. */
int process_open_children(pid_t pid, int *ret_pidfds, int max)
{
    char path[64], list[1024], *rest = list;
    int count = 0;

    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    if (!read_proc(path, list, sizeof list))
        return 0;
    while (count < max) {
        char *end;
        long child = strtol(rest, &end, 10);
        unsigned long flags;
        int fd, parent;

        if (end == rest || *end != ' ') /* each is followed by a space: one without is cut off */
            break;
        rest = end;
        fd = process_pidfd((pid_t)child);
        if (fd < 0)
            continue;
        read_stat((pid_t)child, &parent, &flags);
        if (parent == (int)pid)
            ret_pidfds[count++] = fd;
        else
            (void)fd_close(fd);
    }
    return count;
}

bool process_was_killed(int pidfd, pid_t pid)
{
    struct pidfd_info_v1 info = {.mask = PIDFD_INFO_EXIT_BIT};
    unsigned long flags;
    int parent;

    if (pidfd < 0)
        return false;
    read_stat(pid, &parent, &flags);
    /* Asked afterwards: while the pidfd's process has not been reaped, nobody else can have had its pid.
     * EPERM: it is there. */
    if (syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0 || errno == EPERM)
        return flags & PF_SIGNALED_FLAG;
    if (ioctl(pidfd, PIDFD_GET_INFO_V1, &info) == 0 && (info.mask & PIDFD_INFO_EXIT_BIT))
        return WIFSIGNALED(info.exit_code);
    return false;
}
