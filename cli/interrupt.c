/* SPDX-License-Identifier: MIT */
#include "cli/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "cli/exit.h"
#include "naru/channel.h"

/* A signal this soon after the first is the same request: timeout(1) signals the command and then its group.
 * Between the two it may have to wait for a CPU, so one from the same process has longer to come; a
 * terminal's have no pid. */
enum { SAME_REQUEST_MS = 300, SAME_SENDER_MS = 3000 };

static volatile sig_atomic_t caught;
static struct timespec caught_at; /* written once, as caught_from, before `caught` */
static pid_t caught_from;         /* 0: not from a process */
static _Atomic bool graceful;
static int wake_fd = -1;
static struct naru_channel *_Atomic watched[INTERRUPT_WATCH_MAX];

static pid_t sender_of(const siginfo_t *info)
{
    return info->si_code == SI_USER ? info->si_pid : 0;
}

static bool is_same_request(const siginfo_t *info)
{
    pid_t from = sender_of(info);
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - caught_at.tv_sec) * 1000 + (now.tv_nsec - caught_at.tv_nsec) / 1000000 <
           (from != 0 && from == caught_from ? SAME_SENDER_MS : SAME_REQUEST_MS);
}

/* Only async-signal-safe calls: _exit, clock_gettime, write, naru_interrupt. A second signal is from somebody
 * whom tidying up takes too long. */
static void on_signal(int number, siginfo_t *info, void *context)
{
    const uint64_t one = 1;
    int error = errno;

    (void)context;
    if (caught && is_same_request(info))
        return;
    if (!atomic_load(&graceful) || caught)
        _exit(NARU_EXIT_SIGNAL + number);
    (void)clock_gettime(CLOCK_MONOTONIC, &caught_at);
    caught_from = sender_of(info);
    caught = number;
    if (write(wake_fd, &one, sizeof one) < 0) {
        /* An eventfd takes one more unless it is full, and then it is readable already. */
    }
    for (int i = 0; i < INTERRUPT_WATCH_MAX; i++) {
        struct naru_channel *ch = atomic_load(&watched[i]);

        if (ch)
            (void)naru_interrupt(ch);
    }
    errno = error;
}

/* SIGPIPE, SIGXFSZ: the write says EPIPE or EFBIG as well, and is reported. Not SIG_IGN, which commands that
 * we run would inherit. */
static void on_failed_write(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    (void)context;
}

static void install(int number, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction old;
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};

    if (sigaction(number, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
        (void)sigaction(number, &action, NULL); /* fails for no valid signal */
}

void interrupt_install(void)
{
    install(SIGINT, on_signal);
    install(SIGTERM, on_signal);
    install(SIGHUP, on_signal);
    install(SIGPIPE, on_failed_write);
    install(SIGXFSZ, on_failed_write);
}

int interrupt_graceful(void)
{
    if (wake_fd < 0)
        wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_fd < 0)
        return -errno;
    atomic_store(&graceful, true);
    return 0;
}

void interrupt_watch(struct naru_channel *ch)
{
    for (int i = 0; i < INTERRUPT_WATCH_MAX; i++) {
        struct naru_channel *none = NULL;

        if (atomic_compare_exchange_strong(&watched[i], &none, ch))
            break;
    }
    if (caught) /* it came just before */
        (void)naru_interrupt(ch);
}

void interrupt_unwatch(struct naru_channel *ch)
{
    for (int i = 0; i < INTERRUPT_WATCH_MAX; i++) {
        struct naru_channel *expected = ch;

        (void)atomic_compare_exchange_strong(&watched[i], &expected, NULL);
    }
}

int interrupt_fd(void)
{
    return wake_fd;
}

void interrupt_wake(void)
{
    const uint64_t one = 1;

    if (write(wake_fd, &one, sizeof one) < 0) {
        /* Full, and so readable already. */
    }
}

int interrupt_signal(void)
{
    return caught;
}

int interrupt_exit_code(void)
{
    return caught ? NARU_EXIT_SIGNAL + caught : NARU_EXIT_INTERRUPTED;
}
