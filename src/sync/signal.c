/* SPDX-License-Identifier: MIT */
/* Signals: disposition, blocking, waiting and sending. Every call here is a thin layer over one system call,
 * minus what that call silently accepts. */
#include "sync/signal.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/sized.h"

static const char *name_of(int sig)
{
    const char *name = naru_signal_name(sig);

    return name ? name : "no signal";
}

static int check_signal(int sig, const char *doing)
{
    if (!naru_signal_name(sig))
        return error_set(EINVAL, "%s: %d is no signal that programs may use (1 to %d without 32 and 33)",
                         doing, sig, SIGRTMAX);
    return 0;
}

static int check_choice(int sig, const char *doing)
{
    if (sig == SIGKILL || sig == SIGSTOP)
        return error_set(EINVAL, "%s %s: nobody has a choice about SIGKILL and SIGSTOP (signal(7))", doing,
                         name_of(sig));
    return check_signal(sig, doing);
}

static int set_disposition(int sig, void (*handler)(int), const char *doing)
{
    struct sigaction action = {.sa_handler = handler};
    int r = check_choice(sig, doing);

    if (r < 0)
        return r;
    if (sigaction(sig, &action, NULL) < 0)
        return error_set(errno, "%s %s: %s", doing, name_of(sig), error_text(errno));
    return 0;
}

int naru_signal_ignore(int sig)
{
    return set_disposition(sig, SIG_IGN, "ignoring");
}

int naru_signal_default(int sig)
{
    return set_disposition(sig, SIG_DFL, "setting the default action of");
}

static void convert_checked(uint64_t set, sigset_t *ret_set)
{
    (void)sigemptyset(ret_set);
    for (int sig = 1; sig <= SIGRTMAX; sig++)
        if (set & naru_signal_bit(sig))
            (void)sigaddset(ret_set,
                            sig); /* fails for 32 and 33 only, which the C library keeps out itself */
}

static uint64_t convert_back(const sigset_t *set)
{
    uint64_t bits = 0;

    for (int sig = 1; sig <= SIGRTMAX; sig++)
        if (naru_signal_name(sig) && sigismember(set, sig) == 1)
            bits |= naru_signal_bit(sig);
    return bits;
}

int signal_set_convert(uint64_t set, const char *doing, sigset_t *ret_set)
{
    if (set == 0)
        return error_set(EINVAL, "%s: the set of signals is empty", doing);
    for (int sig = 1; sig <= SIGRTMAX; sig++) {
        int r = set & naru_signal_bit(sig) ? check_choice(sig, doing) : 0;

        if (r < 0)
            return r;
    }
    convert_checked(set, ret_set);
    return 0;
}

static int change_blocked(int how, const sigset_t *set, uint64_t *ret_before)
{
    sigset_t before;
    int r = pthread_sigmask(how, set, &before);

    if (r != 0)
        return error_set(r, "changing the blocked signals: %s", error_text(r));
    if (ret_before)
        *ret_before = convert_back(&before);
    return 0;
}

int naru_signal_block(uint64_t set, uint64_t *ret_before)
{
    sigset_t converted;
    int r = signal_set_convert(set, "blocking", &converted);

    return r < 0 ? r : change_blocked(SIG_BLOCK, &converted, ret_before);
}

int naru_signal_unblock(uint64_t set, uint64_t *ret_before)
{
    sigset_t converted;
    int r = signal_set_convert(set, "unblocking", &converted);

    return r < 0 ? r : change_blocked(SIG_UNBLOCK, &converted, ret_before);
}

int naru_signal_set_blocked(uint64_t set)
{
    sigset_t converted;

    (void)sigemptyset(&converted);
    if (set) {
        int r = signal_set_convert(set, "blocking", &converted);

        if (r < 0)
            return r;
    }
    return change_blocked(SIG_SETMASK, &converted, NULL);
}

static enum naru_signal_cause cause_of(int sig, int code)
{
    switch (code) {
    case SI_USER:
    case SI_TKILL:
        return NARU_SIGNAL_BY_KILL;
    case SI_QUEUE:
        return NARU_SIGNAL_BY_QUEUE;
    case SI_TIMER:
        return NARU_SIGNAL_BY_TIMER;
    case SI_MESGQ:
        return NARU_SIGNAL_BY_MESSAGE;
    default:
        return sig == SIGCHLD && code > 0 ? NARU_SIGNAL_BY_CHILD : NARU_SIGNAL_BY_KERNEL;
    }
}

/* Which fields mean something depends on the cause (sigaction(2), "The siginfo_t argument"). */
static void fill(struct naru_signal_info *info, int sig, int code, struct naru_peer sender, int32_t value,
                 int status)
{
    enum naru_signal_cause cause = cause_of(sig, code);
    bool sent = cause != NARU_SIGNAL_BY_KERNEL && cause != NARU_SIGNAL_BY_TIMER;
    bool valued =
        cause == NARU_SIGNAL_BY_QUEUE || cause == NARU_SIGNAL_BY_TIMER || cause == NARU_SIGNAL_BY_MESSAGE;
    *info = (struct naru_signal_info){
        .size = info->size,
        .signal = sig,
        .cause = cause,
        .sender = sent ? sender : (struct naru_peer){-1, -1, -1},
        .value = valued ? value : 0,
        .status = cause == NARU_SIGNAL_BY_CHILD ? status : 0,
    };
}

void signal_info_fill(struct naru_signal_info *info, const siginfo_t *from)
{
    fill(info, from->si_signo, from->si_code, (struct naru_peer){from->si_pid, from->si_uid, -1},
         from->si_value.sival_int, from->si_status);
}

void signal_info_fill_from_fd(struct naru_signal_info *info, const struct signalfd_siginfo *from)
{
    fill(info, (int)from->ssi_signo, from->ssi_code, (struct naru_peer){from->ssi_pid, from->ssi_uid, -1},
         from->ssi_int, from->ssi_status);
}

/* A signal that is not blocked is acted upon the moment it arrives, and never waited for. */
static int check_blocked(uint64_t set)
{
    sigset_t blocked;
    uint64_t missing;
    int r = pthread_sigmask(SIG_BLOCK, NULL, &blocked);

    if (r != 0)
        return error_set(r, "reading the blocked signals: %s", error_text(r));
    missing = set & ~convert_back(&blocked);
    if (missing)
        return error_set(EINVAL,
                         "waiting for %s: this thread does not block it, so it would be acted upon instead; "
                         "call naru_signal_block() first, before other threads start",
                         name_of(__builtin_ctzll(missing) + 1));
    return 0;
}

/* Sleeps until one of the set is pending. Not in sigtimedwait(2): while a thread sleeps there the kernel
 * lifts the block of what it waits for, so that /proc shows it as unblocked and senders that look (ours do)
 * think it would be killed. */
static int sleep_until_pending(uint64_t set, int64_t deadline)
{
    FD_CLEANUP int fd = signal_open_fd(set, "waiting for a signal");
    struct pollfd pending = {.fd = fd, .events = POLLIN};
    int ready = fd < 0 ? fd : fd_poll(&pending, 1, deadline);

    if (fd >= 0 && ready < 0)
        return error_set(-ready, "waiting for a signal: poll: %s", error_text(-ready));
    return ready;
}

int naru_signal_wait(uint64_t set, int64_t timeout_ns, struct naru_signal_info *ret_info)
{
    static const struct timespec at_once = {0, 0};
    int64_t deadline = deadline_after(timeout_ns);
    sigset_t converted;
    siginfo_t info;
    int r = ret_info ? SIZED_CHECK("naru_signal_wait()", "info", naru_signal_info, ret_info) : 0;

    if (r == 0)
        r = signal_set_convert(set, "waiting for", &converted);
    if (r == 0)
        r = check_blocked(set);
    if (r < 0)
        return r;
    while (sigtimedwait(&converted, &info, &at_once) < 0) {
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return error_set(errno, "waiting for a signal: %s", error_text(errno));
        if (timeout_ns <= 0)
            return error_expected(EAGAIN);
        r = sleep_until_pending(set, deadline);
        if (r <= 0)
            return r < 0 ? r : error_expected(ETIMEDOUT);
    }
    if (ret_info)
        signal_info_fill(ret_info, &info);
    return 0;
}

int naru_signal_pidfd(int64_t pid)
{
    int fd;

    if (pid <= 0 || pid > INT32_MAX)
        return error_set(EINVAL, "%" PRId64 " is not the number of one process", pid);
    fd = pidfd_open((pid_t)pid, 0);
    return fd < 0 ? error_set(errno, "opening process %" PRId64 ": %s", pid, error_text(errno)) : fd;
}

int signal_queue(int pidfd, int sig, int32_t value, int64_t pid, int64_t uid)
{
    siginfo_t info;

    memset(&info, 0, sizeof info);
    info.si_signo = sig;
    info.si_code = SI_QUEUE;
    info.si_pid = (pid_t)pid;
    info.si_uid = (uid_t)uid;
    info.si_value.sival_int = value;
    return pidfd_send_signal(pidfd, sig, &info, 0) < 0 ? -errno : 0;
}

static int explain_send(int code, int sig, const char *to)
{
    const char *name = sig == 0 ? "the test signal 0" : name_of(sig);

    switch (code) {
    case EPERM:
        return error_set(EPERM, "sending %s to %s: not permitted; it belongs to another user (only root may)",
                         name, to);
    case EAGAIN:
        return error_set(EAGAIN,
                         "sending %s to %s: as many signals are queued for its user as RLIMIT_SIGPENDING "
                         "allows; try again once it has taken some",
                         name, to);
    default:
        return error_set(code, "sending %s to %s: %s", name, to, error_text(code));
    }
}

static int check_send(int sig)
{
    return sig == 0 ? 0 : check_signal(sig, "sending");
}

int naru_signal_send_to(int pidfd, int sig)
{
    int r = check_send(sig);

    if (r < 0)
        return r;
    return pidfd_send_signal(pidfd, sig, NULL, 0) < 0 ? explain_send(errno, sig, "the process") : 0;
}

int naru_signal_send_value_to(int pidfd, int sig, int32_t value)
{
    int r = check_send(sig);

    if (r < 0)
        return r;
    r = signal_queue(pidfd, sig, value, getpid(), getuid());
    return r < 0 ? explain_send(-r, sig, "the process") : 0;
}

static int check_target(int64_t pid, int sig, char *to, size_t capacity)
{
    if (pid <= 0 || pid > INT32_MAX)
        return error_set(EINVAL, "%" PRId64 " is not the number of one process; for groups there is kill(2)",
                         pid);
    (void)snprintf(to, capacity, "process %" PRId64, pid);
    return check_send(sig);
}

int naru_signal_send(int64_t pid, int sig)
{
    char to[40];
    int r = check_target(pid, sig, to, sizeof to);

    if (r < 0)
        return r;
    return kill((pid_t)pid, sig) < 0 ? explain_send(errno, sig, to) : 0;
}

int naru_signal_send_value(int64_t pid, int sig, int32_t value)
{
    char to[40];
    int r = check_target(pid, sig, to, sizeof to);

    if (r < 0)
        return r;
    return sigqueue((pid_t)pid, sig, (union sigval){.sival_int = value}) < 0 ? explain_send(errno, sig, to)
                                                                             : 0;
}

/* As signal_find_open_thread() of this process, looking again while it is not sure. */
static int look_at_own_threads(uint64_t set, struct signal_status *ret_thread)
{
    int64_t step = 0, deadline = deadline_after(NARU_S(10)); /* one that waits for a disk takes no CPU */
    struct signal_doubt doubt = {0};
    int r;

    while ((r = signal_find_open_thread(0, set, ret_thread)) == SIGNAL_UNSURE &&
           !signal_is_lasting(&doubt, 0, ret_thread) && backoff_sleep(&step, deadline))
        ;
    return r;
}

int signal_block_everywhere(uint64_t set, const char *doing)
{
    struct signal_status thread;
    sigset_t converted;
    int r = signal_set_convert(set, doing, &converted);

    if (r == 0)
        r = change_blocked(SIG_BLOCK, &converted, NULL);
    if (r < 0)
        return r;
    r = look_at_own_threads(set, &thread);
    if (r < 0)
        return error_set(-r, "%s: looking at this process's threads in /proc/self/task: %s", doing,
                         signal_status_text(-r));
    if (r == SIGNAL_OPEN)
        return error_set(
            EBUSY,
            "%s: thread %" PRId64 " (%s) of this process does not block %s and would be struck by "
            "it; call naru_signal_block() before starting threads",
            doing, thread.pid, thread.name, name_of(__builtin_ctzll(set & ~thread.sets.blocked) + 1));
    return 0;
}

int signal_open_fd(uint64_t set, const char *doing)
{
    sigset_t converted;
    int fd, r = signal_set_convert(set, doing, &converted);

    if (r < 0)
        return r;
    fd = signalfd(-1, &converted, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? error_set(errno, "%s: signalfd: %s", doing, error_text(errno)) : fd;
}
