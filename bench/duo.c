/* SPDX-License-Identifier: MIT */
/* Two supervised processes. Children die with their supervisor (PR_SET_PDEATHSIG), whatever kills it. */
#include "bench/duo.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct duo_report *mine;    /* in a child: where its sentence goes; in the supervisor: NULL */
static char sentence[DUO_WHY_MAX]; /* the supervisor's own */

void *duo_share(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

void duo_unshare(void *memory, size_t size)
{
    if (memory)
        (void)munmap(memory, size); /* fails only for what is no mapping */
}

int duo_init(struct duo *duo, enum duo_pin pin, int64_t limit_ns, int stop_fd)
{
    duo->pin = pin;
    duo->limit_ns = limit_ns;
    duo->stop_fd = stop_fd;
    duo->reports = duo_share(2 * sizeof *duo->reports);
    return duo->reports ? 0 : -errno;
}

void duo_deinit(struct duo *duo)
{
    duo_unshare(duo->reports, 2 * sizeof *duo->reports);
    duo->reports = NULL;
}

int duo_fail(int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(mine ? mine->why : sentence, DUO_WHY_MAX, format, args);
    va_end(args);
    return code;
}

int duo_fail_errno(const char *what)
{
    int error = errno;
    const char *text = strerrordesc_np(error);

    return duo_fail(-error, "%s: %s", what, text ? text : "unknown error");
}

const char *duo_sentence(void)
{
    return sentence;
}

int duo_cpu_count(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* The nth CPU that we may use, as a set of one. */
static int nth_cpu(int n, cpu_set_t *ret_set)
{
    cpu_set_t allowed;

    if (sched_getaffinity(0, sizeof allowed, &allowed) < 0)
        return duo_fail_errno("sched_getaffinity");
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && n-- == 0) {
            CPU_ZERO(ret_set);
            CPU_SET(cpu, ret_set);
            return 0;
        }
    return duo_fail(-EINVAL, "there is only one CPU, so two processes cannot be pinned apart");
}

int duo_pin(enum duo_pin how, enum duo_side side)
{
    cpu_set_t set;
    int r;

    if (how == DUO_PIN_NONE)
        return 0;
    r = nth_cpu(how == DUO_PIN_APART && side == DUO_FAR ? 1 : 0, &set);
    if (r < 0)
        return r;
    return sched_setaffinity(0, sizeof set, &set) == 0 ? 0 : duo_fail_errno("sched_setaffinity");
}

static int run_child(struct duo *duo, int (*body)(void *, enum duo_side), void *context, enum duo_side side,
                     pid_t supervisor)
{
    int r;

    mine = &duo->reports[side];
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return duo_fail_errno("prctl");
    if (getppid() != supervisor) /* it died before the line above */
        return duo_fail(-ECANCELED, "the supervisor is gone");
    /* The user's Ctrl-C is the supervisor's business: it ends both children and tidies up. */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    r = duo_pin(duo->pin, side);
    return r < 0 ? r : body(context, side);
}

/* Returns the child's pid, with a pidfd to wait on, or -errno. */
static pid_t start(struct duo *duo, int (*body)(void *, enum duo_side), void *context, enum duo_side side,
                   int *ret_pidfd)
{
    pid_t supervisor = getpid(), child;
    int pidfd;

    duo->reports[side] = (struct duo_report){.result = -ECHILD};
    child = fork();
    if (child < 0)
        return duo_fail_errno("fork");
    if (child == 0) {
        duo->reports[side].result = run_child(duo, body, context, side, supervisor);
        _exit(0);
    }
    pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    if (pidfd < 0) {
        int r = duo_fail_errno("pidfd_open");

        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
        return r;
    }
    *ret_pidfd = pidfd;
    return child;
}

static int64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* A child has ended: reaps it. Its result, explained in *why. */
static int reap(const struct duo *duo, pid_t child, enum duo_side side, char *why)
{
    const struct duo_report *report = &duo->reports[side];
    int status = 0;

    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status)) {
        (void)snprintf(why, DUO_WHY_MAX, "the %s process was ended by signal %d (%s)",
                       side == DUO_NEAR ? "near" : "far", WTERMSIG(status), strsignal(WTERMSIG(status)));
        return -ECHILD;
    }
    if (report->result < 0)
        (void)snprintf(why, DUO_WHY_MAX, "%s", report->why);
    return report->result;
}

/* A limit on a run that hangs. Where many others want the CPUs, a run that is well takes many times as long
 * and is not hung for that: while its processes get something done, the limit begins anew, LIMITS_MAX times
 * at most. */
enum { LIMITS_MAX = 10, BUSY_PERCENT = 1 };

struct patience {
    int64_t deadline;
    int64_t cpu_ns[2]; /* what each child had used when the limit began */
    int limits;        /* that have passed */
};

/* At the deadline: whether to wait on. */
static bool wait_on(const struct duo *duo, struct patience *p, const pid_t children[2],
                    const struct pollfd fds[3])
{
    int64_t used_ns = 0;

    for (int side = DUO_NEAR; side <= DUO_FAR; side++) {
        struct timespec used;
        clockid_t clock;
        int64_t cpu_ns;

        if (fds[side].fd < 0 || clock_getcpuclockid(children[side], &clock) != 0 ||
            clock_gettime(clock, &used) < 0)
            continue;
        cpu_ns = (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
        used_ns += cpu_ns - p->cpu_ns[side];
        p->cpu_ns[side] = cpu_ns;
    }
    p->deadline = now_ns() + duo->limit_ns;
    return ++p->limits < LIMITS_MAX && used_ns >= duo->limit_ns / 100 * BUSY_PERCENT;
}

/* That the other side has gone says nothing of why. */
static bool is_consequence(int r)
{
    return r == -EPIPE || r == -ECONNRESET || r == -EOWNERDEAD || r == -ECONNREFUSED;
}

/* A side has failed because the other one has gone: a process that was killed closes its descriptors before
 * it can be seen to have ended, so the cause may be a moment behind. Returns it, or r where there is none. */
static int find_death(const struct duo *duo, const pid_t children[2], struct pollfd fds[3], int r, char *why)
{
    enum { MOMENT_MS = 2000 };

    for (int side = DUO_NEAR; side <= DUO_FAR; side++) {
        char cause[DUO_WHY_MAX];
        int theirs;

        if (fds[side].fd < 0 || poll(&fds[side], 1, MOMENT_MS) != 1)
            continue;
        theirs = reap(duo, children[side], (enum duo_side)side, cause);
        (void)close(fds[side].fd);
        fds[side].fd = -1;
        if (theirs == -ECHILD) {
            (void)snprintf(why, DUO_WHY_MAX, "%s", cause);
            return theirs;
        }
    }
    return r;
}

/* Waits until both have ended; returns at the first failure. fds[side].fd is -1 once that child is reaped. */
static int supervise(const struct duo *duo, const pid_t children[2], struct pollfd fds[3], char *why)
{
    struct patience patience = {.deadline = now_ns() + duo->limit_ns};

    while (fds[DUO_NEAR].fd >= 0 || fds[DUO_FAR].fd >= 0) {
        int64_t left = patience.deadline - now_ns();
        struct timespec timeout = {left / 1000000000, left % 1000000000};
        int n = left > 0 ? ppoll(fds, 3, &timeout, NULL) : 0;

        if (n < 0 && errno != EINTR)
            return duo_fail_errno("ppoll");
        if (n < 0)
            continue;
        if (n == 0 && wait_on(duo, &patience, children, fds))
            continue;
        if (n == 0) {
            (void)snprintf(why, DUO_WHY_MAX, "it did not end within %g s", (double)duo->limit_ns / 1e9);
            return -ETIMEDOUT;
        }
        if (fds[2].revents)
            return -ECANCELED;
        for (int side = DUO_NEAR; side <= DUO_FAR; side++)
            if (fds[side].revents) {
                int r = reap(duo, children[side], (enum duo_side)side, why);

                (void)close(fds[side].fd);
                fds[side].fd = -1;
                if (r < 0)
                    return is_consequence(r) ? find_death(duo, children, fds, r, why) : r;
            }
    }
    return 0;
}

/* One side's failure often makes the other fail, and that may be seen first. Puts the cause first, and what
 * the other said behind it; returns the cause's code. */
static int explain_both(const struct duo *duo, int result, char why[DUO_WHY_MAX])
{
    for (int side = DUO_NEAR; side <= DUO_FAR; side++) {
        const struct duo_report *report = &duo->reports[side];
        char both[DUO_WHY_MAX];
        bool cause = is_consequence(result) && !is_consequence(report->result);

        if (report->result == 0 || report->result == -ECHILD || report->result == result)
            continue;
        (void)snprintf(both, sizeof both, "%.180s; the other side: %.180s", cause ? report->why : why,
                       cause ? why : report->why);
        memcpy(why, both, sizeof both);
        return cause ? report->result : result;
    }
    return result;
}

int duo_run(struct duo *duo, int (*body)(void *, enum duo_side), void (*after_fork)(void *), void *context,
            char ret_why[DUO_WHY_MAX])
{
    struct pollfd fds[3] = {{-1, POLLIN, 0}, {-1, POLLIN, 0}, {duo->stop_fd, POLLIN, 0}};
    pid_t children[2] = {-1, -1};
    int r = 0;

    ret_why[0] = sentence[0] = '\0';
    (void)fflush(NULL); /* or the children would hold copies of what is not written yet */
    for (int side = DUO_NEAR; side <= DUO_FAR && r == 0; side++) {
        children[side] = start(duo, body, context, (enum duo_side)side, &fds[side].fd);
        r = children[side] < 0 ? children[side] : 0;
    }
    if (after_fork)
        after_fork(context);
    if (r == 0)
        r = supervise(duo, children, fds, ret_why);
    else
        (void)snprintf(ret_why, DUO_WHY_MAX, "%s", sentence);
    for (int side = DUO_NEAR; side <= DUO_FAR; side++)
        if (fds[side].fd >= 0) {
            (void)kill(children[side], SIGKILL);
            while (waitpid(children[side], NULL, 0) < 0 && errno == EINTR)
                ;
            (void)close(fds[side].fd);
        }
    if (r < 0 && r != -ECANCELED)
        r = explain_both(duo, r, ret_why);
    return r;
}
