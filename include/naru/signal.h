/* SPDX-License-Identifier: MIT */
/*
 * Signals, without the traps of signal(2): blocked ones that are waited for, or handled on an event loop like
 * anything else, instead of handlers that run between two instructions and may call next to nothing
 * (signal-safety(7)). naru itself never installs a handler. See signal(7), and naru/channel.h for signal: ,
 * the channel of real-time signals.
 *
 * Sets of signals are plain 64-bit words, as /proc/PID/status prints them: bit n - 1 is signal n.
 *
 * Blocking belongs to a thread, what is pending belongs to the process (or, sent by pthread_kill(3), to a
 * thread), and the kernel gives a process's signal to any thread that does not block it. Therefore: block in
 * main() before other threads start, which inherit it. A program started by execve(2) inherits what is
 * blocked and ignored, too.
 */
#ifndef NARU_SIGNAL_H
#define NARU_SIGNAL_H

#include <stddef.h>
#include <stdint.h>

#include "naru/channel.h"
#include "naru/export.h"
#include "naru/loop.h"
#include "naru/time.h"

NARU_BEGIN

/* The set of one signal; sig from 1 to 64. */
static inline uint64_t naru_signal_bit(int sig)
{
    return UINT64_C(1) << (sig - 1);
}

/* The number of "INT", "SIGINT", "sigint", "RTMIN+1", "RTMAX-2" or "2". -EINVAL: there is no such signal; the
 * explanation names the nearest. Any thread, not async-signal-safe. */
NARU_API NARU_MUST_CHECK int naru_signal_by_name(const char *name);

/* "SIGINT", "SIGRTMIN+1"; NULL for numbers that are no signal or that the C library keeps for itself (32,
 * 33). Constant text; any thread, async-signal-safe. */
NARU_API const char *naru_signal_name(int sig);

/* Sets what the process does about a signal: discard it, or the kernel's default action (signal(7)). This
 * replaces a handler. Ignoring SIGCHLD also makes children vanish without wait(2) (sigaction(2), NOTES).
 * -EINVAL: no such signal, or SIGKILL or SIGSTOP, about which nobody has a choice. */
NARU_API NARU_MUST_CHECK int naru_signal_ignore(int sig);
NARU_API NARU_MUST_CHECK int naru_signal_default(int sig);

/*
 * Holds signals back from the calling thread, or lets them through again: what is pending is delivered before
 * naru_signal_unblock() returns. *ret_before (may be NULL): the set blocked before, for
 * naru_signal_set_blocked(), which replaces the whole set.
 * -EINVAL: SIGKILL or SIGSTOP, which sigprocmask(2) silently leaves out, or a number the C library keeps.
 */
NARU_API NARU_MUST_CHECK int naru_signal_block(uint64_t set, uint64_t *ret_before);
NARU_API NARU_MUST_CHECK int naru_signal_unblock(uint64_t set, uint64_t *ret_before);
NARU_API NARU_MUST_CHECK int naru_signal_set_blocked(uint64_t set);

/* Where a signal came from. */
enum naru_signal_cause {
    NARU_SIGNAL_BY_KERNEL = 0,  /* a fault, a terminal, a broken pipe ... */
    NARU_SIGNAL_BY_KILL = 1,    /* kill(2), tgkill(2), pidfd_send_signal(2) without a value */
    NARU_SIGNAL_BY_QUEUE = 2,   /* sigqueue(3): with a value */
    NARU_SIGNAL_BY_TIMER = 3,   /* timer_create(2): value is the timer's sigev_value */
    NARU_SIGNAL_BY_MESSAGE = 4, /* mq_notify(3): likewise */
    NARU_SIGNAL_BY_CHILD = 5    /* SIGCHLD from the kernel: status is as in siginfo (wait(2)) */
};

struct naru_signal_info {
    size_t size;
    int signal;
    enum naru_signal_cause cause;
    /* pid and uid, or -1. With NARU_SIGNAL_BY_QUEUE they are what the sender's library wrote: the kernel
     * checks that the sender may send, not that it says who it is (rt_sigqueueinfo(2)). gid is -1. */
    struct naru_peer sender;
    int32_t value;
    int status;
};

/*
 * Takes one pending signal of the set, or waits for it. Lower numbers first; real-time signals of one number
 * in the order they were sent. Signals outside the set that have handlers do not end the wait.
 *
 * *ret_info: filled; may be NULL. Returns 0. -EAGAIN (NARU_NOWAIT), -ETIMEDOUT: none came.
 * -EINVAL: *ret_info was not made by NARU_INIT, the set is empty, or it holds a signal that the calling
 * thread does not block: it would be acted upon elsewhere. -EMFILE, -ENFILE: it must sleep and there is no
 * descriptor to be had.
 */
NARU_API NARU_MUST_CHECK int naru_signal_wait(uint64_t set, int64_t timeout_ns,
                                              struct naru_signal_info *ret_info);

/*
 * Sends a signal to one process; 0 sends none and only tests. Process groups and "everybody" (0 and negative
 * numbers of kill(2)) are refused: a wrong number must not kill the session.
 *
 * Standard signals do not queue: sent twice before it is taken, one arrives once. Real-time ones queue.
 * -ESRCH: no such process. -EPERM: it belongs to another user. -EINVAL: pid or signal. -EAGAIN (with a
 * value): as many signals are queued as the receiver's RLIMIT_SIGPENDING allows.
 */
NARU_API NARU_MUST_CHECK int naru_signal_send(int64_t pid, int sig);
NARU_API NARU_MUST_CHECK int naru_signal_send_value(int64_t pid, int sig, int32_t value);

/*
 * A process by descriptor (pidfd_open(2)): unlike the number it never comes to mean another process, and it
 * polls readable when the process has ended. The caller's, close-on-exec. -ESRCH, -EINVAL, -EMFILE, -ENFILE.
 */
NARU_API NARU_MUST_CHECK int naru_signal_pidfd(int64_t pid);

/* As naru_signal_send() and naru_signal_send_value(), to the process of a pidfd. -EBADF: it is none. */
NARU_API NARU_MUST_CHECK int naru_signal_send_to(int pidfd, int sig);
NARU_API NARU_MUST_CHECK int naru_signal_send_value_to(int pidfd, int sig, int32_t value);

/* What stands in /proc/PID/status (proc(5)). */
struct naru_signal_sets {
    size_t size;
    uint64_t thread_pending;  /* SigPnd: sent to this very thread */
    uint64_t process_pending; /* ShdPnd: sent to the process, for whichever thread comes first */
    uint64_t blocked;         /* SigBlk: of this thread */
    uint64_t ignored;         /* SigIgn: of the process */
    uint64_t caught;          /* SigCgt: of the process; those with a handler */
    uint64_t queued;          /* SigQ: signals queued for all processes of this user ... */
    uint64_t queue_limit;     /* ... and how many may be (RLIMIT_SIGPENDING) */
};

/* The sets of a process (of its first thread) or of any one thread by its tid; 0: the calling thread. A
 * thread that sleeps in sigwait(3) shows what it waits for as not blocked: the kernel lifts the block
 * meanwhile (naru_signal_wait() sleeps elsewhere). Needs no permission, unless /proc is mounted to hide other
 * users' processes (hidepid, proc(5)): -EACCES. -ESRCH: there is none. -ENOTSUP: /proc is not mounted.
 * -EINVAL: *ret_sets was not made by NARU_INIT. */
NARU_API NARU_MUST_CHECK int naru_signal_sets(int64_t pid, struct naru_signal_sets *ret_sets);

/* Called on the loop's thread: an ordinary function, which may call anything. Result as naru_loop_call. */
typedef int naru_signal_call(struct naru_source *source, const struct naru_signal_info *info, void *data);

/*
 * "Run this on that loop": makes a loop take the signals of a set (signalfd(2)) and call for each. It blocks
 * them in the calling thread, which must be the loop's, and does not unblock them when the source ends, since
 * what is pending then would strike. Of two sources for one signal only one sees each.
 *
 * *ret_source: as in naru/loop.h. -EBUSY: another thread does not block one of them, and would be struck in
 * its place; the explanation says which. -EINVAL: as naru_signal_block(), or an empty set. Else as
 * naru_loop_add_fd().
 */
NARU_API NARU_MUST_CHECK int naru_loop_add_signal(struct naru_loop *loop, uint64_t set,
                                                  naru_signal_call *call, void *data,
                                                  struct naru_source **ret_source);

NARU_END

#endif
