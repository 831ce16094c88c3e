/* SPDX-License-Identifier: MIT */
/* The keeper's thread: when there is one, what it may do, forks beside it, and where none is to be had. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include "channel/shm/test-shm.h"

/* The first line of a task's file that begins with name; "" if the task has ended. */
static const char *task_says(int tid, const char *file, const char *name)
{
    static char line[256];
    char path[64];
    FILE *status;

    snprintf(path, sizeof path, "/proc/self/task/%d/%s", tid, file);
    status = fopen(path, "re");
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, name, strlen(name)) == 0) {
            fclose(status);
            return line + strlen(name);
        }
    if (status)
        fclose(status);
    return "";
}

/* Threads of that name, which each gives itself; *ret_tid is one of them. A sanitizer may have its own. */
static int count_keepers(int *ret_tid)
{
    DIR *directory = opendir("/proc/self/task");
    const struct dirent *entry;
    int count = 0;

    CHECK(directory);
    while ((entry = readdir(directory)))
        if (strcmp(task_says(atoi(entry->d_name), "comm", ""), "naru-keeper\n") == 0) {
            *ret_tid = atoi(entry->d_name);
            count++;
        }
    closedir(directory);
    return count;
}

static void serve_one(struct naru_listener *l)
{
    struct naru_channel *far = NULL, *near = NULL;
    char text[4];

    CHECK_INT(naru_connect(naru_listener_url(l), NULL, patience, &far), 0);
    CHECK_INT(naru_send(far, "hey", 3, patience), 0);
    CHECK_INT(naru_accept(l, patience, &near), 0);
    CHECK_INT(naru_recv(near, text, sizeof text, patience), 3);
    naru_channel_close(far);
    naru_channel_close(near);
}

static struct naru_listener *listen_at(const char *name, const char *query)
{
    struct naru_listener *l = NULL;

    CHECK_INT(naru_listen(test_format("shm://%s/%s%s", test_directory(), name, query), NULL, &l), 0);
    return l;
}

TEST(there_is_one_thread_for_all_listeners_and_none_without)
{
    struct naru_listener *first, *second, *manual = listen_at("m", "?service=manual");
    struct naru_channel *pair[2];
    int tid = 0, other = 0;

    CHECK_INT(naru_channel_pair("shm:", NULL, pair), 0);
    CHECK_INT(count_keepers(&tid), 0);
    first = listen_at("a", "");
    WAIT_UNTIL(count_keepers(&tid) == 1);
    second = listen_at("b", "");
    CHECK(count_keepers(&other) == 1 && other == tid);
    serve_one(first);
    serve_one(second);
    naru_listener_close(first);
    CHECK(count_keepers(&other) == 1 && other == tid);
    serve_one(second);
    naru_listener_close(second);
    WAIT_UNTIL(count_keepers(&other) == 0); /* joined: what /proc shows comes a moment later */
    first = listen_at("a", "");
    WAIT_UNTIL(count_keepers(&tid) == 1);
    serve_one(first);
    naru_listener_close(first);
    naru_listener_close(manual);
    naru_channel_close(pair[0]);
    naru_channel_close(pair[1]);
}

TEST(the_thread_has_a_name_and_no_signals_and_the_programs_mask_is_left_alone)
{
    struct naru_listener *l;
    sigset_t before, after;
    int tid = 0;

    CHECK(sigemptyset(&before) == 0 && sigaddset(&before, SIGUSR1) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    l = listen_at("a", "");
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &after) == 0);
    for (int signal = 1; signal < SIGRTMAX; signal++)
        CHECK_INT(sigismember(&after, signal), signal == SIGUSR1);
    WAIT_UNTIL(count_keepers(&tid) == 1);
    /* all 64, but for SIGKILL, SIGSTOP, and the two that are the C library's own */
    CHECK((strtoull(task_says(tid, "status", "SigBlk:"), NULL, 16) | 1ULL << 31 | 1ULL << 32) ==
          (UINT64_MAX & ~(1ULL << (SIGKILL - 1)) & ~(1ULL << (SIGSTOP - 1))));
    naru_listener_close(l);
}

/* How often it slept and was made to stop: each system call that waits, and each turn it was given, counts.
 */
static long turns(int tid)
{
    return atol(task_says(tid, "status", "voluntary_ctxt_switches:")) +
           atol(task_says(tid, "status", "nonvoluntary_ctxt_switches:"));
}

static bool sleeps_in_epoll_wait(int tid)
{
    long call = atol(task_says(tid, "syscall", ""));

    return call == SYS_epoll_pwait
#ifdef SYS_epoll_wait
           || call == SYS_epoll_wait
#endif
        ;
}

TEST(a_keeper_whom_nobody_asks_does_not_wake_up)
{
    const struct timespec while_idle = {1, 300000000}; /* longer than it waits for the silent */
    struct naru_listener *l = listen_there(""), *other = listen_at("b", "");
    int tid = 0, silent;
    long before;

    WAIT_UNTIL(count_keepers(&tid) == 1);
    WAIT_UNTIL(sleeps_in_epoll_wait(tid));
    before = turns(tid);
    silent = raw_connect();
    WAIT_UNTIL(turns(tid) > before && sleeps_in_epoll_wait(tid)); /* for a second, then */
    close(silent);
    serve_one(l); /* it looks at all who are there: whatever it did for them is over */
    WAIT_UNTIL(sleeps_in_epoll_wait(tid));
    before = turns(tid);
    CHECK(nanosleep(&while_idle, NULL) == 0);
    CHECK_INT(turns(tid), before);
    CHECK(sleeps_in_epoll_wait(tid));
    serve_one(other);
    WAIT_UNTIL(turns(tid) > before); /* it would have been seen; a turn counts when it has ended */
    naru_listener_close(other);
    naru_listener_close(l);
}

/* --- threads --- */

enum { CYCLES = 60 };

static void *open_and_close(void *at)
{
    for (int i = 0; i < CYCLES; i++) {
        struct naru_listener *l = NULL;

        CHECK_INT(naru_listen(at, NULL, &l), 0);
        serve_one(l);
        naru_listener_close(l);
    }
    return NULL;
}

TEST(threads_that_open_and_close_listeners_share_it)
{
    const char *ats[3];
    pthread_t threads[3];
    int other;

    for (int i = 0; i < 3; i++)
        ats[i] = test_format("shm://%s/%d?ring=16k", test_directory(), i);
    for (int i = 0; i < 3; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, open_and_close, (void *)(uintptr_t)ats[i]), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    WAIT_UNTIL(count_keepers(&other) == 0);
}

static void *connect_again_and_again(void *l)
{
    for (int i = 0; i < CYCLES; i++) {
        struct naru_channel *ch = NULL;

        CHECK_INT(naru_connect(naru_listener_url(l), NULL, patience, &ch), 0);
        CHECK_INT(naru_send(ch, &i, sizeof i, patience), 0);
        naru_channel_close(ch);
    }
    return NULL;
}

TEST(the_program_accepts_while_the_keeper_answers)
{
    struct naru_listener *l = listen_at("a", "?backlog=2&ring=16k");
    pthread_t threads[2];
    int sum = 0;

    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, connect_again_and_again, l), 0);
    for (int i = 0; i < 2 * CYCLES; i++) {
        struct naru_channel *ch = NULL;
        int number;

        CHECK_INT(naru_accept(l, patience, &ch), 0);
        CHECK_INT(naru_recv(ch, &number, sizeof number, patience), sizeof number);
        sum += number;
        naru_channel_close(ch);
    }
    CHECK_INT(sum, CYCLES * (CYCLES - 1));
    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    naru_listener_close(l);
}

/* --- forks --- */

/* ThreadSanitizer lets no child of a process with threads start one. */
#ifdef __SANITIZE_THREAD__
enum { CHILD_MAY_START_THREADS = false };
#else
enum { CHILD_MAY_START_THREADS = true };
#endif

static void be_child(struct naru_listener *inherited)
{
    struct naru_channel *ch = NULL;
    int tid = 0;

    CHECK_INT(count_keepers(&tid), 0);
    CHECK_INT(naru_accept(inherited, NARU_NOWAIT, &ch), -ECHILD);
    CHECK_INT(naru_listener_dispatch(inherited), -ECHILD);
    CHECK_INT(naru_listener_fd(inherited), -ECHILD);
    if (CHILD_MAY_START_THREADS) {
        struct naru_listener *own = listen_at("child", "");

        WAIT_UNTIL(count_keepers(&tid) == 1);
        serve_one(own);
        naru_listener_close(inherited);
        serve_one(own);
        naru_listener_close(own);
        WAIT_UNTIL(count_keepers(&tid) == 0);
    } else {
        naru_listener_close(inherited);
    }
}

TEST(a_child_has_no_keeper_but_may_have_one_of_its_own)
{
    struct naru_listener *l = listen_at("parent", "");
    struct naru_channel *far = NULL, *near = NULL;
    char text[8];
    int pid;

    CHECK_INT(naru_connect(naru_listener_url(l), NULL, patience, &far), 0); /* one in the queue */
    pid = test_fork();
    if (pid == 0) {
        be_child(l);
        test_child_end();
    }
    test_join(pid);
    CHECK_INT(naru_send(far, "hey", 3, patience), 0); /* the child's closing was nobody's */
    CHECK_INT(naru_accept(l, patience, &near), 0);
    CHECK_INT(naru_recv(near, text, sizeof text, patience), 3);
    serve_one(l);
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}

/* A child that lives on does not keep the queued connections of a dead parent open. */
TEST(a_child_keeps_no_connection_that_waits_to_be_accepted)
{
    struct naru_channel *far = NULL;
    struct test_gate listening, connected, done;
    int pid;

    test_gate_init(&listening);
    test_gate_init(&connected);
    test_gate_init(&done);
    pid = test_fork();
    if (pid == 0) {
        struct naru_listener *l = listen_at("parent", "");

        test_gate_open(&listening);
        test_gate_wait(&connected);
        if (test_fork() == 0) {
            test_gate_wait(&done);
            naru_listener_close(l);
            test_child_end();
        }
        test_gate_open(&listening);
        pause();
    }
    test_gate_wait(&listening);
    CHECK_INT(naru_connect(test_format("shm://%s/parent", test_directory()), NULL, patience, &far), 0);
    test_gate_open(&connected);
    test_gate_wait(&listening);
    test_kill(pid);
    CHECK_INT(naru_recv(far, NULL, 0, patience), -EOWNERDEAD);
    test_gate_open(&done);
    naru_channel_close(far);
    CHECK_INT(naru_remove(test_format("shm://%s/parent", test_directory())), 0);
}

static atomic_bool stop;

static void *connect_until_told(void *l)
{
    while (!stop) {
        struct naru_channel *ch = NULL;

        CHECK_INT(naru_connect(naru_listener_url(l), NULL, patience, &ch), 0);
        naru_channel_close(ch);
    }
    return NULL;
}

/* The descriptors open below 200; the runner's own stand above. */
static int count_descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 200; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

TEST(forks_in_the_middle_of_handshakes_leave_nothing_in_children)
{
    enum { FORKS = 60 };
    int known = count_descriptors();
    struct naru_listener *l = listen_at("a", "?ring=16k");
    pthread_t thread;

    CHECK_INT(pthread_create(&thread, NULL, connect_until_told, l), 0);
    for (int i = 0; i < FORKS; i++) {
        struct naru_channel *ch = NULL;
        int pid = test_fork();

        if (pid == 0) {
            CHECK_INT(count_descriptors(), known);
            test_child_end();
        }
        test_join(pid);
        CHECK_INT(naru_accept(l, patience, &ch), 0); /* forks do not starve it */
        naru_channel_close(ch);
    }
    stop = true;
    while (test_is_readable(naru_listener_fd(l))) {
        struct naru_channel *ch = NULL;

        if (naru_accept(l, NARU_NOWAIT, &ch) == 0)
            naru_channel_close(ch);
    }
    CHECK_INT(pthread_join(thread, NULL), 0);
    naru_listener_close(l);
}

/* --- scarcity --- */

static int fork_connector(const char *to)
{
    int pid = test_fork();

    if (pid == 0) {
        struct naru_channel *ch = NULL;

        CHECK_INT(naru_connect(to, NULL, patience, &ch), 0);
        CHECK_INT(naru_send(ch, "hey", 3, patience), 0);
        CHECK_INT(naru_recv(ch, NULL, 0, patience), -EPIPE);
        naru_channel_close(ch);
        test_child_end();
    }
    return pid;
}

TEST(a_keeper_without_descriptors_goes_on_by_itself_when_there_are_some)
{
    for (size_t room = 0; room < 3; room++) {
        struct naru_listener *l = listen_at("a", "");
        struct naru_channel *ch = NULL;
        char text[4];
        int pid, tid = 0, r;

        WAIT_UNTIL(count_keepers(&tid) == 1);
        test_limit_descriptors(room);
        pid = fork_connector(naru_listener_url(l));        /* with a limit that lets it have its own */
        WAIT_UNTIL(test_is_readable(naru_listener_fd(l))); /* somebody has to be told */
        test_limit_descriptors(SIZE_MAX);
        while ((r = naru_accept(l, patience, &ch)) == -EMFILE) /* whoever was sent away is not back yet */
            ;
        CHECK_INT(r, 0);
        CHECK_INT(naru_recv(ch, text, sizeof text, patience), 3);
        naru_channel_close(ch);
        test_join(pid);
        naru_listener_close(l);
    }
}

TEST(a_program_whose_keeper_has_no_descriptors_is_told)
{
    /* 0: nobody can be let in; 1, 2: who was let in is sent away, and is gone for a while when the program
     * asks. */
    for (size_t room = 0; room < 3; room++) {
        struct naru_listener *l = listen_at("a", "");
        struct naru_channel *ch = NULL;
        char text[4];
        int pid, r;

        test_limit_descriptors(room);
        pid = fork_connector(naru_listener_url(l));
        for (int i = 0; i < 3; i++) {
            CHECK_INT(naru_accept(l, patience, &ch), -EMFILE);
            CHECK_CONTAINS(naru_explain(), naru_listener_url(l));
        }
        test_limit_descriptors(SIZE_MAX);
        while ((r = naru_accept(l, patience, &ch)) == -EMFILE)
            ;
        CHECK_INT(r, 0);
        CHECK_INT(naru_recv(ch, text, sizeof text, patience), 3);
        naru_channel_close(ch);
        test_join(pid);
        naru_listener_close(l);
    }
}

/* A user's limit is not root's. */
TEST(where_no_thread_is_to_be_had_listening_says_how_to_do_without)
{
    const struct rlimit none = {0, 0};
    const char *at = test_format("shm:@naru%s", test_directory());
    int pid;

    test_need_root();
    pid = test_fork_as_nobody();
    if (pid == 0) {
        struct naru_listener *l = NULL;
        struct naru_channel *ch = NULL;

        CHECK(setrlimit(RLIMIT_NPROC, &none) == 0);
        CHECK_INT(naru_listen(at, NULL, &l), -EAGAIN);
        CHECK_CONTAINS(naru_explain(), "?service=manual");
        CHECK(!l);
        CHECK_INT(naru_listen(test_format("%s?service=manual", at), NULL, &l), 0);
        CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
        naru_listener_close(l);
        test_child_end();
    }
    test_join(pid);
}
