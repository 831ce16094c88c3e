/* SPDX-License-Identifier: MIT */
/* What proc(5) says of a process that is traced, or that one waits for: see tracee.h. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tracee.h"

/* Calls that may sleep until somebody else does something. Others may for a moment, in the kernel's locks. */
static bool may_sleep(uint64_t call)
{
    return call == SYS_recvfrom || call == SYS_recvmsg || call == SYS_read || call == SYS_poll ||
           call == SYS_ppoll || call == SYS_epoll_wait || call == SYS_epoll_pwait || call == SYS_accept4 ||
           call == SYS_connect || call == SYS_sendto || call == SYS_sendmsg || call == SYS_futex;
}

/* A file of a thread's; "" if there is none. */
static void read_proc(int pid, int tid, const char *name, char text[512])
{
    ssize_t n;
    int fd;

    snprintf(text, 512, "/proc/%d/task/%d/%s", pid, tid, name);
    fd = open(text, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? 0 : read(fd, text, 511);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
}

static char thread_state(int pid, int tid)
{
    char text[512], *end;

    read_proc(pid, tid, "stat", text);
    end = strrchr(text, ')');
    return end ? end[2] : '?';
}

/* Its state alone does not tell: it sleeps interruptibly inside the kernel, too. */
bool thread_sleeps(int pid, int tid)
{
    char text[512];
    unsigned long call;

    if (thread_state(pid, tid) != 'S')
        return false;
    read_proc(pid, tid, "syscall", text);
    return sscanf(text, "%lu", &call) == 1 && may_sleep(call);
}

static bool all_sleep(int pid, size_t *ret_threads)
{
    const struct dirent *entry;
    char path[64];
    DIR *tasks;
    bool all = true;

    snprintf(path, sizeof path, "/proc/%d/task", pid);
    tasks = opendir(path);
    *ret_threads = 0;
    while (tasks && all && (entry = readdir(tasks))) {
        if (entry->d_name[0] == '.')
            continue;
        all = thread_sleeps(pid, atoi(entry->d_name));
        ++*ret_threads;
    }
    if (tasks)
        closedir(tasks);
    return tasks && all;
}

/* One that was looked at first may have been woken since by the next, which sleeps itself by then: so twice.
 */
bool process_sleeps(int pid)
{
    size_t threads;

    return all_sleep(pid, &threads) && (threads == 1 || all_sleep(pid, &threads));
}

bool process_has_ended(int pid)
{
    return thread_state(pid, pid) == 'Z';
}
