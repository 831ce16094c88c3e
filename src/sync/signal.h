/* SPDX-License-Identifier: MIT */
/* Signals, for the layers above: checks, conversions, and what /proc tells of other processes. */
#ifndef NARU_SYNC_SIGNAL_H
#define NARU_SYNC_SIGNAL_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/signalfd.h>

#include "naru/signal.h"

/* One process's or thread's entry in /proc. */
struct signal_status {
    char name[64]; /* comm */
    char state;    /* 'R', 'S', 'Z' ... */
    int64_t pid, uid, gid;
    struct naru_signal_sets sets;
};

/* Reads /proc/PID/status, with pid 0 that of the calling thread. Not explained, as it is often no
 * error: 0, -ESRCH (there is none), -EACCES (there is, but /proc hides it), -ENOTSUP (/proc is not mounted)
 * or another -errno. */
int signal_status_read(int64_t pid, struct signal_status *ret_status);

/* What such an errno means, and what to do about it. */
const char *signal_status_text(int code);

/* What the threads of a process do about a set of signals. */
enum signal_reception {
    SIGNAL_BLOCKED = 0, /* all of them block all of it */
    SIGNAL_OPEN = 1,    /* some do not, and would be struck */
    SIGNAL_UNSURE = 2   /* as SIGNAL_BLOCKED, but one that does not sleep blocks everything there is: for a
                           moment, as the C library does in fork(), pthread_create() and posix_spawn(), or for
                           good */
};

/* What the threads of the process (0: this one) do about the set: an enum signal_reception, with *ret_thread
 * the one that is open or unsure; or as signal_status_read(). */
int signal_find_open_thread(int64_t pid, uint64_t set, struct signal_status *ret_thread);

/* How often it was SIGNAL_UNSURE; all 0 before the first look. */
struct signal_doubt {
    int looks;
    int64_t cpu_ns; /* what the process, or this one's thread, had taken of the CPUs */
};

/* To be asked each time that SIGNAL_UNSURE was found, with growing pauses (backoff_sleep()) in between:
 * whether that is for good, by now, of this thread of the process. So it is after some 30 ms; on a busy
 * machine a new process may wait longer than that for its first turn, and looks between which there was none
 * do not count. */
bool signal_is_lasting(struct signal_doubt *doubt, int64_t pid, const struct signal_status *thread);

/* The kernel set as the C library's; -EINVAL (explained) for what cannot be in one: empty sets, SIGKILL,
 * SIGSTOP, 32 and 33. doing: "blocking". */
int signal_set_convert(uint64_t set, const char *doing, sigset_t *ret_set);

/* Blocks a set in the calling thread and makes sure that every other thread of the process does. doing begins
 * the sentence of the explained -EBUSY. */
int signal_block_everywhere(uint64_t set, const char *doing);

/* A descriptor that is readable while signals of the set are pending: non-blocking, close-on-exec. */
int signal_open_fd(uint64_t set, const char *doing);

/* What the kernel tells, in our words. */
void signal_info_fill(struct naru_signal_info *info, const siginfo_t *from);
void signal_info_fill_from_fd(struct naru_signal_info *info, const struct signalfd_siginfo *from);

/* Sends with a value to the process of the pidfd, said to be from pid and uid. 0 or -errno, unexplained. */
int signal_queue(int pidfd, int sig, int32_t value, int64_t pid, int64_t uid);

#endif
