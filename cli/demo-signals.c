/* SPDX-License-Identifier: MIT */
/*
 * Signals: for each thing that a process can do about one, a child process does it, this one sends the
 * signal, and looks what became of the child.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/demo.h"
#include "naru/naru.h"

/* What a child tells of itself. */
struct report {
    int handled;      /* times its handler ran */
    uint64_t pending; /* its pending signals */
    int values[3];    /* that came with queued signals */
    int64_t sender;   /* of the last */
    int from_kernel;  /* whether the kernel sent it */
    int result;       /* of the call that the scene is about */
};

/* A child and the channel to it. */
struct scene {
    int (*play)(struct naru_channel *ch); /* in the child */
    struct naru_channel *ends[2];
    pid_t pid;
};

static int enter(void *argument)
{
    static const struct rlimit no_core = {0, 0};
    struct scene *scene = argument;
    int r;

    (void)setrlimit(RLIMIT_CORE, &no_core); /* lowering is always allowed */
    (void)setpgid(0,
                  0); /* SIGTSTP does not stop an orphaned process group (signal(7)): have one that is none */
    naru_channel_close(scene->ends[0]);
    r = scene->play(scene->ends[1]);
    naru_channel_close(scene->ends[1]);
    return r;
}

static int begin(struct scene *scene, int (*play)(struct naru_channel *ch))
{
    int r = naru_channel_pair("unix:?type=seqpacket", NULL, scene->ends);

    if (r < 0)
        return r;
    scene->play = play;
    scene->pid = demo_start(enter, scene);
    scene->ends[1] = naru_channel_close(scene->ends[1]);
    return scene->pid < 0 ? scene->pid : 0;
}

/* Waits for the child's end: its wait(2) status. */
static int finish(struct scene *scene)
{
    int status = demo_end(scene->pid);

    scene->ends[0] = naru_channel_close(scene->ends[0]);
    return status;
}

static bool killed_by(int status, int sig)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == sig;
}

/* The child says "ready", this side says "go on"; each end of a channel in its own process. */
static int say(struct naru_channel *ch)
{
    return naru_send(ch, "", 1, DEMO_PATIENCE);
}

static int hear(struct naru_channel *ch)
{
    char ignored;
    ssize_t r = naru_recv(ch, &ignored, 1, DEMO_PATIENCE);

    return r < 0 ? (int)r : 0;
}

static int hear_report(struct scene *scene, struct report *ret_report)
{
    ssize_t r = naru_recv(scene->ends[0], ret_report, sizeof *ret_report, DEMO_PATIENCE);

    return r < 0 ? (int)r : 0;
}

/* --- default action --- */

static int do_nothing_special(struct naru_channel *ch)
{
    int r = say(ch);

    return r < 0 ? r : hear(ch); /* nobody speaks: the signal ends it here */
}

static int show_default(struct demo *d)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGUSR1};
    int r = 0;

    for (size_t i = 0; i < sizeof signals / sizeof *signals && r == 0; i++) {
        struct scene scene;

        r = begin(&scene, do_nothing_special);
        if (r == 0)
            r = hear(scene.ends[0]);
        if (r == 0)
            r = naru_signal_send(scene.pid, signals[i]);
        if (r == 0)
            demo_check(d, killed_by(finish(&scene), signals[i]),
                       "%s, nothing prepared: the process is terminated", naru_signal_name(signals[i]));
    }
    return r;
}

/* --- ignored --- */

static int ignore(struct naru_channel *ch)
{
    int r = naru_signal_ignore(SIGINT);

    if (r == 0)
        r = say(ch);
    if (r == 0)
        r = hear(ch); /* SIGINT came and went before this */
    return r < 0 ? r : say(ch);
}

static int show_ignored(struct demo *d)
{
    struct scene scene;
    int r = begin(&scene, ignore);

    if (r == 0)
        r = hear(scene.ends[0]);
    if (r == 0)
        r = naru_signal_send(scene.pid, SIGINT);
    if (r == 0)
        r = say(scene.ends[0]);
    if (r == 0)
        r = hear(scene.ends[0]);
    if (r == 0)
        demo_check(d, finish(&scene) == 0, "SIGINT, ignored: it goes on as if nothing had been sent");
    return r;
}

/* --- caught by a handler --- */

static volatile sig_atomic_t handled;

/* It runs between any two instructions, so it may do next to nothing (signal-safety(7)). */
static void count(int sig)
{
    (void)sig;
    handled++;
}

static int catch_with(int sig)
{
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};

    return sigaction(sig, &action, NULL) < 0 ? -errno : 0;
}

static int handle(struct naru_channel *ch)
{
    struct report report = {0};
    int r = catch_with(SIGINT);

    if (r == 0)
        r = say(ch);
    if (r == 0)
        r = hear(ch);
    report.handled = handled;
    return r < 0 ? r : naru_send(ch, &report, sizeof report, DEMO_PATIENCE);
}

static int show_handler(struct demo *d)
{
    struct report report;
    struct scene scene;
    int r = begin(&scene, handle);

    if (r == 0)
        r = hear(scene.ends[0]);
    if (r == 0)
        r = naru_signal_send(scene.pid, SIGINT);
    if (r == 0)
        r = say(scene.ends[0]);
    if (r == 0)
        r = hear_report(&scene, &report);
    if (r == 0)
        demo_check(d, report.handled == 1 && finish(&scene) == 0,
                   "SIGINT, with a handler: it ran once, and the process goes on");
    return r;
}

/* --- blocked, pending, delivered on unblocking --- */

static int block(struct naru_channel *ch)
{
    struct naru_signal_sets sets = NARU_INIT(struct naru_signal_sets);
    struct report report = {0};
    int r = catch_with(SIGUSR1);

    if (r == 0)
        r = naru_signal_block(naru_signal_bit(SIGUSR1), NULL);
    if (r == 0)
        r = say(ch);
    if (r == 0)
        r = hear(ch); /* sent three times by now */
    if (r == 0)
        r = naru_signal_sets(0, &sets);
    report.pending = sets.process_pending;
    report.result = handled;
    if (r == 0)
        r = naru_signal_unblock(naru_signal_bit(SIGUSR1), NULL);
    report.handled = handled;
    return r < 0 ? r : naru_send(ch, &report, sizeof report, DEMO_PATIENCE);
}

static int show_blocked(struct demo *d)
{
    struct report report;
    struct scene scene;
    int r = begin(&scene, block);

    if (r == 0)
        r = hear(scene.ends[0]);
    for (int i = 0; i < 3 && r == 0; i++)
        r = naru_signal_send(scene.pid, SIGUSR1);
    if (r == 0)
        r = say(scene.ends[0]);
    if (r == 0)
        r = hear_report(&scene, &report);
    if (r < 0)
        return r;
    demo_check(d, report.result == 0, "SIGUSR1, blocked, sent three times: the handler does not run");
    demo_check(d, report.pending & naru_signal_bit(SIGUSR1),
               "it is pending: the mask in /proc/PID/status is %016" PRIx64, report.pending);
    demo_check(d, report.handled == 1 && finish(&scene) == 0,
               "unblocked: the handler runs, once; standard signals do not queue");
    return 0;
}

/* --- queued, with values --- */

static int take_values(struct naru_channel *ch)
{
    uint64_t set = naru_signal_bit(SIGRTMIN);
    struct report report = {0};
    int r = naru_signal_block(set, NULL);

    if (r == 0)
        r = say(ch);
    for (int i = 0; i < 3 && r == 0; i++) {
        struct naru_signal_info info = NARU_INIT(struct naru_signal_info);

        r = naru_signal_wait(set, DEMO_PATIENCE, &info); /* an ordinary call: no handler */
        report.values[i] = info.value;
        report.sender = info.sender.pid;
    }
    return r < 0 ? r : naru_send(ch, &report, sizeof report, DEMO_PATIENCE);
}

static int show_queued(struct demo *d)
{
    struct report report;
    struct scene scene;
    int r = begin(&scene, take_values);

    if (r == 0)
        r = hear(scene.ends[0]);
    for (int i = 0; i < 3 && r == 0; i++)
        r = naru_signal_send_value(scene.pid, SIGRTMIN, 10 * (i + 1));
    if (r == 0)
        r = hear_report(&scene, &report);
    if (r < 0)
        return r;
    demo_check(d, report.values[0] == 10 && report.values[1] == 20 && report.values[2] == 30,
               "SIGRTMIN, sent three times with a value: %d, %d and %d arrive, in order", report.values[0],
               report.values[1], report.values[2]);
    demo_check(d, report.sender == getpid() && finish(&scene) == 0,
               "and each says who sent it: process %" PRId64, report.sender);
    return 0;
}

/* --- a clock --- */

static int set_alarm(struct naru_channel *ch)
{
    static const struct itimerval in_20_ms = {.it_value.tv_usec = 20000};
    struct naru_signal_info info = NARU_INIT(struct naru_signal_info);
    struct report report = {0};
    int r = naru_signal_block(naru_signal_bit(SIGALRM), NULL);

    if (r == 0 && setitimer(ITIMER_REAL, &in_20_ms, NULL) < 0)
        r = -errno;
    if (r == 0)
        r = naru_signal_wait(naru_signal_bit(SIGALRM), DEMO_PATIENCE, &info);
    report.from_kernel = info.cause == NARU_SIGNAL_BY_KERNEL;
    return r < 0 ? r : naru_send(ch, &report, sizeof report, DEMO_PATIENCE);
}

static int show_alarm(struct demo *d)
{
    struct report report;
    struct scene scene;
    int r = begin(&scene, set_alarm);

    if (r == 0)
        r = hear_report(&scene, &report);
    if (r == 0)
        demo_check(d, report.from_kernel && finish(&scene) == 0,
                   "SIGALRM: the kernel sends it 20 ms after setitimer(2), as asked");
    return r;
}

/* --- stop and continue --- */

static int show_stop(struct demo *d)
{
    struct scene scene;
    int r = begin(&scene, ignore), status = 0;

    if (r == 0)
        r = hear(scene.ends[0]);
    if (r == 0)
        r = naru_signal_send(scene.pid, SIGTSTP);
    if (r < 0)
        return r;
    if (waitpid(scene.pid, &status, WUNTRACED) < 0)
        return -errno;
    demo_check(d, WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP,
               "SIGTSTP (what Ctrl-Z sends): the process is stopped");
    r = naru_signal_send(scene.pid, SIGCONT);
    if (r < 0)
        return r;
    if (waitpid(scene.pid, &status, WCONTINUED) < 0)
        return -errno;
    demo_check(d, WIFCONTINUED(status), "SIGCONT: it is running again");
    r = say(scene.ends[0]);
    if (r == 0)
        r = hear(scene.ends[0]);
    if (r == 0)
        demo_check(d, finish(&scene) == 0, "and goes on where it was");
    return r;
}

/* --- a fault --- */

static int touch_forbidden_memory(struct naru_channel *ch)
{
    char *page = mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int r = naru_signal_default(SIGSEGV); /* debugging tools may have a handler */

    (void)ch;
    if (page == MAP_FAILED)
        return -errno;
    if (r == 0)
        *(volatile char *)page = 1;
    return r;
}

static int show_fault(struct demo *d)
{
    struct scene scene;
    int r = begin(&scene, touch_forbidden_memory);

    if (r == 0)
        demo_check(d, killed_by(finish(&scene), SIGSEGV),
                   "SIGSEGV: the kernel sends it to who writes to memory that is not his");
    return r;
}

/* --- the two that nobody can catch --- */

static bool is_refused(int sig)
{
    return naru_signal_ignore(sig) == -EINVAL && naru_signal_block(naru_signal_bit(sig), NULL) == -EINVAL &&
           catch_with(sig) == -EINVAL;
}

static int try_to_catch_both(struct naru_channel *ch)
{
    struct report report = {.result = is_refused(SIGSTOP) && is_refused(SIGKILL)};
    sigset_t all;
    int r;

    (void)sigfillset(&all);
    if (sigprocmask(SIG_BLOCK, &all, NULL) < 0) /* these two are silently left out (sigprocmask(2)) */
        return -errno;
    r = naru_send(ch, &report, sizeof report, DEMO_PATIENCE);
    return r < 0 ? r : hear(ch);
}

static int show_uncatchable(struct demo *d)
{
    struct report report;
    struct scene scene;
    int r = begin(&scene, try_to_catch_both), status = 0;

    if (r == 0)
        r = hear_report(&scene, &report);
    if (r == 0)
        r = naru_signal_send(scene.pid, SIGTERM);
    if (r == 0)
        r = naru_signal_send(scene.pid, SIGSTOP);
    if (r < 0)
        return r;
    demo_check(d, report.result,
               "SIGSTOP, SIGKILL: ignoring, blocking and catching them is refused (EINVAL)");
    if (waitpid(scene.pid, &status, WUNTRACED) < 0)
        return -errno;
    demo_check(d, WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP,
               "SIGTERM, blocked, does nothing; SIGSTOP stops the process");
    if (!WIFSTOPPED(status)) /* then it has ended */
        return 0;
    r = naru_signal_send(scene.pid, SIGKILL);
    if (r < 0)
        return r;
    demo_check(d, killed_by(finish(&scene), SIGKILL), "SIGKILL ends the process, stopped as it is");
    return 0;
}

static int run(struct demo *d)
{
    static const struct {
        const char *heading;
        int (*show)(struct demo *d);
    } scenes[] = {
        {"The default action", show_default},
        {"Ignored", show_ignored},
        {"Caught by a handler", show_handler},
        {"Blocked, then unblocked", show_blocked},
        {"Queued with a value", show_queued},
        {"A clock", show_alarm},
        {"Stop and continue", show_stop},
        {"A fault", show_fault},
        {"The two that nobody can catch", show_uncatchable},
    };
    int r = 0;

    demo_say(d, "A signal is a number that the kernel delivers to a process. What happens then, the\n"
                "process has decided before: here a child process each time, and what became of it.");
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes && r == 0; i++) {
        demo_heading(d, "%s", scenes[i].heading);
        r = scenes[i].show(d);
    }
    return r;
}

const struct demo_kind demo_signals = {
    .name = "signals",
    .title = "Signals: what a process can do about them",
    .source = "cli/demo-signals.c",
    .run = run,
};
