/* SPDX-License-Identifier: MIT */
/* Signals: names, sets, waiting, sending with values, and handling them on a loop. */
#include "sync/signal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "naru/error.h"
#include "runner.h"

static const struct naru_signal_info no_info = NARU_INIT(struct naru_signal_info);

TEST(every_signal_has_a_name_that_leads_back_to_it)
{
    for (int sig = 1; sig <= 64; sig++) {
        const char *name = naru_signal_name(sig);

        if (sig == 32 || sig == 33) {
            CHECK(name == NULL); /* the C library's own */
            continue;
        }
        CHECK_INT(naru_signal_by_name(name), sig);
        CHECK_INT(naru_signal_by_name(name + 3), sig); /* without SIG */
    }
    CHECK(naru_signal_name(0) == NULL);
    CHECK(naru_signal_name(65) == NULL);
    CHECK(naru_signal_name(-1) == NULL);
}

TEST(signal_names_are_read_in_all_their_spellings)
{
    CHECK_INT(naru_signal_by_name("int"), SIGINT);
    CHECK_INT(naru_signal_by_name("sigHup"), SIGHUP);
    CHECK_INT(naru_signal_by_name("9"), SIGKILL);
    CHECK_INT(naru_signal_by_name("CLD"), SIGCHLD);
    CHECK_INT(naru_signal_by_name("SIGPOLL"), SIGIO);
    CHECK_INT(naru_signal_by_name("RTMIN"), SIGRTMIN);
    CHECK_INT(naru_signal_by_name("rtmin+3"), SIGRTMIN + 3);
    CHECK_INT(naru_signal_by_name("SIGRTMAX-1"), SIGRTMAX - 1);
}

TEST(wrong_signal_names_are_refused_and_misprints_explained)
{
    static const char *const wrong[] = {"",        "SIG",       "0",
                                        "65",      "33",        "1x",
                                        "RTMIN+",  "RTMIN-1",   "RTMIN+31x",
                                        "RTMAX+1", "RTMIN+-1",  "RTMIN+9999999999",
                                        "FOO",     "SIGSIGINT", "AVERYLONGNAMETHATISNOTASIGNAL"};

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_INT(naru_signal_by_name(wrong[i]), -EINVAL);
    CHECK_INT(naru_signal_by_name("SIGALARM"), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "did you mean SIGALRM?");
    CHECK_INT(naru_signal_by_name("SIGSTP"), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "did you mean SIGSTOP or SIGTSTP?");
    CHECK_INT(naru_signal_by_name("COUNT"), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "did you mean SIGCONT?");
}

TEST(nobody_has_a_choice_about_sigkill)
{
    CHECK_INT(naru_signal_ignore(SIGKILL), -EINVAL);
    CHECK_INT(naru_signal_default(SIGSTOP), -EINVAL);
    CHECK_INT(naru_signal_block(naru_signal_bit(SIGKILL), NULL), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "SIGKILL");
    CHECK_INT(naru_signal_block(0, NULL), -EINVAL);
    CHECK_INT(naru_signal_block(naru_signal_bit(33), NULL), -EINVAL);
}

static void do_nothing(int sig)
{
    (void)sig;
}

TEST(the_sets_show_what_is_blocked_pending_ignored_and_caught)
{
    struct naru_signal_sets sets = NARU_INIT(struct naru_signal_sets);
    struct sigaction action = {.sa_handler = do_nothing};
    uint64_t before = 1;

    CHECK_INT(naru_signal_block(naru_signal_bit(SIGUSR1), &before), 0);
    CHECK_INT(before & naru_signal_bit(SIGUSR1), 0);
    CHECK_INT(naru_signal_ignore(SIGUSR2), 0);
    CHECK_INT(sigaction(SIGHUP, &action, NULL), 0);
    CHECK_INT(naru_signal_send(getpid(), SIGUSR1), 0);
    CHECK_INT(pthread_kill(pthread_self(), SIGUSR1), 0);
    CHECK_INT(naru_signal_sets(0, &sets), 0);
    CHECK(sets.process_pending & naru_signal_bit(SIGUSR1));
    CHECK(sets.thread_pending & naru_signal_bit(SIGUSR1));
    CHECK(sets.blocked & naru_signal_bit(SIGUSR1));
    CHECK(sets.ignored & naru_signal_bit(SIGUSR2));
    CHECK(sets.caught & naru_signal_bit(SIGHUP));
    CHECK(sets.queued >= 2);
    CHECK(sets.queue_limit > 0);
    CHECK_INT(naru_signal_default(SIGUSR2), 0);
    CHECK_INT(naru_signal_ignore(SIGUSR1), 0); /* also throws away what is pending (sigaction(2)) */
    CHECK_INT(naru_signal_set_blocked(before), 0);
    CHECK_INT(naru_signal_sets(getpid(), &sets), 0);
    CHECK_INT(sets.process_pending | sets.thread_pending, 0);
    CHECK_INT(sets.blocked & naru_signal_bit(SIGUSR1), 0);
    CHECK_INT(sets.ignored & naru_signal_bit(SIGUSR2), 0);
}

TEST(the_sets_of_another_process_are_readable)
{
    struct naru_signal_sets sets = NARU_INIT(struct naru_signal_sets);
    struct test_gate ready;
    int child;

    test_gate_init(&ready);
    child = test_fork();
    if (child == 0) {
        CHECK_INT(naru_signal_block(naru_signal_bit(SIGRTMIN + 4), NULL), 0);
        test_gate_open(&ready);
        pause();
    }
    test_gate_wait(&ready);
    CHECK_INT(naru_signal_send_value(child, SIGRTMIN + 4, 7), 0);
    CHECK_INT(naru_signal_sets(child, &sets), 0);
    CHECK(sets.blocked & naru_signal_bit(SIGRTMIN + 4));
    CHECK(sets.process_pending & naru_signal_bit(SIGRTMIN + 4));
    test_kill(child);
    CHECK_INT(naru_signal_sets(child, &sets), -ESRCH);
    CHECK_INT(naru_signal_sets(-1, &sets), -ESRCH);
}

TEST(waiting_for_what_is_not_blocked_is_refused)
{
    struct naru_signal_info info = no_info;

    CHECK_INT(naru_signal_wait(naru_signal_bit(SIGUSR1), NARU_NOWAIT, &info), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "naru_signal_block()");
    CHECK_INT(info.signal, 0);
}

TEST(queued_values_arrive_in_order_with_their_sender_and_lower_numbers_first)
{
    uint64_t set = naru_signal_bit(SIGRTMIN + 1) | naru_signal_bit(SIGRTMIN + 2);
    struct naru_signal_info info = no_info;
    int child;

    CHECK_INT(naru_signal_block(set, NULL), 0);
    CHECK_INT(naru_signal_wait(set, NARU_NOWAIT, &info), -EAGAIN);
    CHECK_INT(naru_signal_wait(set, NARU_MS(1), &info), -ETIMEDOUT);
    child = test_fork();
    if (child == 0) {
        CHECK_INT(naru_signal_send_value(getppid(), SIGRTMIN + 2, -99), 0);
        for (int i = 0; i < 50; i++)
            CHECK_INT(naru_signal_send_value(getppid(), SIGRTMIN + 1, i), 0);
        _exit(0);
    }
    test_join(child);
    for (int i = 0; i < 50; i++) {
        CHECK_INT(naru_signal_wait(set, NARU_FOREVER, &info), 0);
        CHECK_INT(info.signal, SIGRTMIN + 1);
        CHECK_INT(info.cause, NARU_SIGNAL_BY_QUEUE);
        CHECK_INT(info.value, i);
        CHECK_INT(info.sender.pid, child);
        CHECK_INT(info.sender.uid, getuid());
    }
    CHECK_INT(naru_signal_wait(set, NARU_FOREVER, &info), 0);
    CHECK_INT(info.signal, SIGRTMIN + 2);
    CHECK_INT(info.value, -99);
}

TEST(standard_signals_sent_twice_arrive_once)
{
    struct naru_signal_info info = no_info;

    CHECK_INT(naru_signal_block(naru_signal_bit(SIGUSR1), NULL), 0);
    CHECK_INT(naru_signal_send(getpid(), SIGUSR1), 0);
    CHECK_INT(naru_signal_send(getpid(), SIGUSR1), 0);
    CHECK_INT(naru_signal_wait(naru_signal_bit(SIGUSR1), NARU_NOWAIT, &info), 0);
    CHECK_INT(info.cause, NARU_SIGNAL_BY_KILL);
    CHECK_INT(info.sender.pid, getpid());
    CHECK_INT(info.value, 0);
    CHECK_INT(naru_signal_wait(naru_signal_bit(SIGUSR1), NARU_NOWAIT, &info), -EAGAIN);
}

TEST(the_end_of_a_child_is_told_with_its_status)
{
    struct naru_signal_info info = no_info;
    int child;

    CHECK_INT(naru_signal_block(naru_signal_bit(SIGCHLD), NULL), 0);
    child = fork();
    if (child == 0)
        _exit(42);
    CHECK_INT(naru_signal_wait(naru_signal_bit(SIGCHLD), NARU_FOREVER, &info), 0);
    CHECK_INT(info.cause, NARU_SIGNAL_BY_CHILD);
    CHECK_INT(info.sender.pid, child);
    CHECK_INT(info.status, 42);
    CHECK_INT(waitpid(child, NULL, 0), child);
}

/* Interrupts the waiter again and again, then sends what it waits for. */
static void *interrupt_waiter(void *data)
{
    for (int i = 0; i < 500; i++)
        CHECK_INT(pthread_kill(*(pthread_t *)data, SIGUSR2), 0);
    CHECK_INT(naru_signal_send_value(getpid(), SIGRTMIN, 5), 0);
    return NULL;
}

TEST(handlers_of_other_signals_do_not_end_the_wait)
{
    struct sigaction action = {.sa_handler =
                                   do_nothing}; /* without SA_RESTART, which sigtimedwait(2) ignores */
    struct naru_signal_info info = no_info;
    pthread_t waiter = pthread_self(), thread;

    CHECK_INT(naru_signal_block(naru_signal_bit(SIGRTMIN), NULL), 0);
    CHECK_INT(sigaction(SIGUSR2, &action, NULL), 0);
    CHECK_INT(pthread_create(&thread, NULL, interrupt_waiter, &waiter), 0);
    CHECK_INT(naru_signal_wait(naru_signal_bit(SIGRTMIN), NARU_S(60), &info), 0);
    CHECK_INT(info.value, 5);
    CHECK_INT(pthread_join(thread, NULL), 0);
}

static bool shows_as_waiting(int pid, uint64_t set)
{
    struct naru_signal_sets sets = NARU_INIT(struct naru_signal_sets);
    char path[64], state[256] = "";
    int fd;

    CHECK_INT(naru_signal_sets(pid, &sets), 0);
    CHECK(sets.blocked & set); /* whenever one looks */
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    fd = open(path, O_RDONLY);
    CHECK(read(fd, state, sizeof state - 1) > 0);
    close(fd);
    return strstr(state, ") S ") != NULL;
}

TEST(one_who_waits_still_shows_the_signal_as_blocked)
{
    uint64_t set = naru_signal_bit(SIGRTMIN);
    int child;

    CHECK_INT(naru_signal_block(set, NULL), 0);
    child = test_fork();
    if (child == 0) {
        CHECK_INT(naru_signal_wait(set, NARU_S(60), NULL), 0);
        _exit(0);
    }
    WAIT_UNTIL(shows_as_waiting(child, set));
    CHECK_INT(naru_signal_send(child, SIGRTMIN), 0);
    test_join(child);
}

TEST(bad_targets_and_signals_are_refused)
{
    int child = fork();

    if (child == 0)
        _exit(0);
    CHECK_INT(waitpid(child, NULL, 0), child);
    CHECK_INT(naru_signal_send(child, SIGTERM), -ESRCH);
    CHECK_INT(naru_signal_send_value(child, SIGTERM, 1), -ESRCH);
    CHECK_INT(naru_signal_pidfd(child), -ESRCH);
    CHECK_INT(naru_signal_send(0, SIGTERM), -EINVAL);
    CHECK_INT(naru_signal_send(-1, SIGKILL), -EINVAL); /* everybody */
    CHECK_CONTAINS(naru_explain(), "kill(2)");
    CHECK_INT(naru_signal_send(INT64_C(1) << 40, SIGTERM), -EINVAL);
    CHECK_INT(naru_signal_send(getpid(), 65), -EINVAL);
    CHECK_INT(naru_signal_send(getpid(), 0), 0);
    CHECK_INT(naru_signal_send_to(1000000, SIGTERM), -EBADF);
}

TEST(a_pidfd_reaches_its_process_and_never_another)
{
    struct test_gate ready, go;
    int child, pidfd;

    test_gate_init(&ready);
    test_gate_init(&go);
    child = test_fork();
    if (child == 0) {
        struct naru_signal_info info = no_info;

        CHECK_INT(naru_signal_block(naru_signal_bit(SIGRTMIN), NULL), 0);
        test_gate_open(&ready);
        CHECK_INT(naru_signal_wait(naru_signal_bit(SIGRTMIN), NARU_S(60), &info), 0);
        CHECK_INT(info.value, 123);
        CHECK_INT(info.sender.pid, getppid());
        _exit(0);
    }
    pidfd = naru_signal_pidfd(child);
    CHECK(pidfd >= 0);
    CHECK(fcntl(pidfd, F_GETFD) & FD_CLOEXEC);
    test_gate_wait(&ready);
    CHECK_INT(naru_signal_send_value_to(pidfd, SIGRTMIN, 123), 0);
    test_join(child);
    CHECK_INT(naru_signal_send_to(pidfd, SIGTERM), -ESRCH);
    close(pidfd);
}

TEST(a_full_queue_is_told)
{
    struct rlimit limit = {5, 5};
    int r = 0;

    CHECK_INT(naru_signal_block(naru_signal_bit(SIGRTMIN), NULL), 0);
    CHECK_INT(setrlimit(RLIMIT_SIGPENDING, &limit), 0);
    for (int i = 0; i < 10 && r == 0; i++)
        r = naru_signal_send_value(getpid(), SIGRTMIN, i);
    CHECK_INT(r, -EAGAIN);
    CHECK_CONTAINS(naru_explain(), "RLIMIT_SIGPENDING");
}

TEST(another_users_process_is_out_of_reach_and_told_so)
{
    int child, parent = getpid();

    test_need_root();
    child = test_fork_as_nobody();
    if (child == 0) {
        CHECK_INT(naru_signal_send(parent, SIGTERM), -EPERM);
        CHECK_CONTAINS(naru_explain(), "another user");
        _exit(0);
    }
    test_join(child);
}

/* --- on a loop --- */

struct heard {
    int count, values[8];
    struct naru_source *remove;
};

static int hear(struct naru_source *source, const struct naru_signal_info *info, void *data)
{
    struct heard *heard = data;

    (void)source;
    heard->values[heard->count++] = info->value;
    if (heard->remove)
        heard->remove = naru_source_remove(heard->remove);
    return 0;
}

TEST(a_loop_hears_signals_without_a_handler)
{
    struct naru_signal_sets sets = NARU_INIT(struct naru_signal_sets);
    struct naru_loop *loop;
    struct heard heard = {0};
    int sig = SIGRTMIN + 3;

    CHECK_INT(naru_loop_new(&loop), 0);
    CHECK_INT(naru_loop_add_signal(loop, naru_signal_bit(sig), hear, &heard, NULL), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(naru_signal_send_value(getpid(), sig, 10 + i), 0);
    CHECK_INT(naru_loop_run_once(loop, NARU_FOREVER), 1);
    CHECK_INT(heard.count, 3);
    CHECK_INT(heard.values[2], 12);
    CHECK_INT(naru_signal_sets(0, &sets), 0);
    CHECK_INT(sets.caught & naru_signal_bit(sig), 0);
    naru_loop_free(loop);
}

TEST(a_removed_signal_source_leaves_the_rest_pending)
{
    struct naru_signal_info info = no_info;
    struct naru_loop *loop;
    struct heard heard = {0};
    int sig = SIGRTMIN + 3;

    CHECK_INT(naru_loop_new(&loop), 0);
    CHECK_INT(naru_loop_add_signal(loop, naru_signal_bit(sig), hear, &heard, &heard.remove), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(naru_signal_send_value(getpid(), sig, i), 0);
    CHECK_INT(naru_loop_run_once(loop, NARU_FOREVER), 1);
    CHECK_INT(heard.count, 1);
    naru_loop_free(loop);
    CHECK_INT(naru_signal_wait(naru_signal_bit(sig), NARU_NOWAIT, &info), 0); /* still blocked, still there */
    CHECK_INT(info.value, 1);
}

static void *wait_at_gates(void *data)
{
    struct test_gate *gates = data;

    test_gate_open(&gates[0]);
    test_gate_wait(&gates[1]);
    return NULL;
}

TEST(a_thread_that_would_be_struck_instead_is_found)
{
    struct test_gate gates[2];
    struct naru_loop *loop;
    pthread_t thread;

    test_gate_init(&gates[0]);
    test_gate_init(&gates[1]);
    CHECK_INT(naru_loop_new(&loop), 0);
    CHECK_INT(pthread_create(&thread, NULL, wait_at_gates, gates), 0); /* before the signal is blocked */
    CHECK_INT(pthread_setname_np(thread, "too-early"), 0);
    test_gate_wait(&gates[0]);
    CHECK_INT(naru_loop_add_signal(loop, naru_signal_bit(SIGRTMIN), hear, NULL, NULL), -EBUSY);
    CHECK_CONTAINS(naru_explain(), "too-early");
    CHECK_CONTAINS(naru_explain(), "SIGRTMIN");
    test_gate_open(&gates[1]);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(naru_loop_add_signal(loop, naru_signal_bit(SIGRTMIN), hear, NULL, NULL), 0);
    naru_loop_free(loop);
}

/* How many looks in a hundred, one right behind the other, count. */
static int looks_that_count(int64_t pid, int64_t tid)
{
    const struct signal_status thread = {.pid = tid};
    struct signal_doubt doubt = {0};

    for (int i = 0; i < 100; i++)
        (void)signal_is_lasting(&doubt, pid, &thread);
    return doubt.looks;
}

/* A new process that waits for its first turn on a CPU is like this sleeper. */
TEST(a_doubt_lasts_in_turns_on_a_cpu_and_not_in_time)
{
    const struct signal_status own = {.pid = gettid()};
    struct signal_doubt of_own = {0}, of_spinner = {0};
    int sleeper = test_fork(), spinner;

    if (sleeper == 0)
        for (;;)
            pause();
    WAIT_UNTIL(looks_that_count(sleeper, sleeper) == 1); /* the first: it had turns before */
    test_kill(sleeper);
    spinner = test_fork();
    if (spinner == 0)
        for (;;)
            getppid();
    WAIT_UNTIL(signal_is_lasting(&of_spinner, spinner, &(struct signal_status){.pid = spinner}));
    test_kill(spinner);
    WAIT_UNTIL(signal_is_lasting(&of_own, 0, &own));
    CHECK_INT(of_own.looks, of_spinner.looks);
    CHECK(of_own.looks > 10);
}
