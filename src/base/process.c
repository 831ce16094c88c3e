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

/* The flags of a process that still has its pid; 0 if it has not. */
static unsigned long stat_flags(pid_t pid)
{
    char path[32], text[512], *end;
    unsigned long flags = 0;
    ssize_t length;
    int fd;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    fork_hold();
    fd = open(path, O_RDONLY | O_CLOEXEC);
    length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    (void)fd_close(fd);
    fork_release();
    if (length <= 0)
        return 0;
    text[length] = '\0';
    end = strrchr(text, ')'); /* the name before it may hold anything */
    if (!end || sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %lu", &flags) != 1)
        return 0;
    return flags;
}

bool process_was_killed(int pidfd, pid_t pid)
{
    struct pidfd_info_v1 info = {.mask = PIDFD_INFO_EXIT_BIT};
    unsigned long flags;

    if (pidfd < 0)
        return false;
    flags = stat_flags(pid);
    /* Asked afterwards: while the pidfd's process has not been reaped, nobody else can have had its pid.
     * EPERM: it is there. */
    if (syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0 || errno == EPERM)
        return flags & PF_SIGNALED_FLAG;
    if (ioctl(pidfd, PIDFD_GET_INFO_V1, &info) == 0 && (info.mask & PIDFD_INFO_EXIT_BIT))
        return WIFSIGNALED(info.exit_code);
    return false;
}
