/* SPDX-License-Identifier: MIT */
/* What fork() does to handles: children are told apart, and guarded descriptors close in them. */
#include "base/fork.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "naru/error.h"
#include "runner.h"

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

TEST(the_generation_changes_in_a_child_and_stays_in_the_parent)
{
    uint64_t mine = fork_generation();
    int pid;

    CHECK(mine != 0);
    pid = test_fork();
    if (pid == 0) {
        uint64_t childs = fork_generation();
        int grandchild;

        CHECK(childs != mine && childs != 0);
        CHECK(fork_generation() == childs);
        grandchild = test_fork();
        if (grandchild == 0) {
            CHECK(fork_generation() != childs && fork_generation() != mine);
            _exit(0);
        }
        test_join(grandchild);
        CHECK(fork_generation() == childs);
        _exit(0);
    }
    test_join(pid);
    CHECK(fork_generation() == mine);
}

static atomic_size_t allocating; /* threads */

static void *allocate_a_while(void *size)
{
    for (size_t i = 1; i < 300; i++)
        free(malloc(i * *(const size_t *)size));
    atomic_fetch_sub(&allocating, 1);
    return NULL;
}

static const char *each_room(size_t index)
{
    static const char *const rooms[] = {"no descriptor", "one descriptor", "descriptors"};

    return index < sizeof rooms / sizeof *rooms ? rooms[index] : NULL;
}

/* Not so under a sanitizer, by itself: fork-sanitized.h. */
TEST_EACH(a_child_allocates_whatever_other_threads_of_its_parent_do, each_room)
{
    enum { FORKS = 100 };
    static size_t sizes[FORKS];

    for (size_t i = 0; i < FORKS; i++) {
        pthread_t thread;
        int pid;

        sizes[i] = 16 + i;
        test_limit_descriptors(index < 2 ? index : SIZE_MAX);
        atomic_fetch_add(&allocating, 1);
        CHECK_INT(pthread_create(&thread, NULL, allocate_a_while, &sizes[i]), 0);
        CHECK_INT(pthread_detach(thread), 0); /* or it leaks in the child, as ThreadSanitizer sees it */
        pid = test_fork();
        if (pid == 0) {
            (void)allocate_a_while(&sizes[i]);
            _exit(0);
        }
        test_limit_descriptors(SIZE_MAX);
        test_join(pid);
    }
    WAIT_UNTIL(atomic_load(&allocating) == 0);
}

TEST(a_handle_is_its_makers)
{
    struct fork_guard guard;
    int pid;

    fork_guard_init(&guard);
    CHECK_INT(fork_guard_enter(&guard), 0);
    CHECK(fork_guard_is_mine(&guard));
    pid = test_fork();
    if (pid == 0) {
        CHECK(!fork_guard_is_mine(&guard));
        CHECK_INT(fork_guard_enter(&guard), -ECHILD);
        CHECK_STR(naru_explain(), "this handle belongs to the parent process; open one of your own after "
                                  "fork(), or see naru_channel_adopt()");
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(fork_guard_enter(&guard), 0);
    fork_guard_deinit(&guard);
}

TEST(an_unowned_handle_is_the_first_users)
{
    struct fork_guard guard;
    int pid;

    fork_guard_init_unowned(&guard);
    CHECK(fork_guard_is_mine(&guard));
    pid = test_fork();
    if (pid == 0) {
        CHECK(fork_guard_is_mine(&guard));
        CHECK_INT(fork_guard_enter(&guard), 0);
        pid = test_fork();
        if (pid == 0) {
            CHECK_INT(fork_guard_enter(&guard), -ECHILD);
            _exit(0);
        }
        test_join(pid);
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(fork_guard_enter(&guard), 0);
    fork_guard_deinit(&guard);
}

TEST(guarded_descriptors_close_in_children_only)
{
    struct fork_guard one, other;
    int fds[2], kept, pid;

    CHECK_INT(pipe2(fds, O_CLOEXEC), 0);
    kept = dup(fds[0]);
    CHECK(kept >= 0);
    fork_guard_init(&one);
    fork_guard_init(&other);
    fork_guard_add(&one, &fds[0]);
    fork_guard_add(&one, &fds[1]);
    fork_guard_add(&other, &kept);
    fork_guard_deinit(&other);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(fds[0], -1);
        CHECK_INT(fds[1], -1);
        CHECK(is_open(kept));
        fork_guard_deinit(&one); /* closing the handle in the child is allowed */
        _exit(0);
    }
    test_join(pid);
    CHECK(is_open(fds[0]) && is_open(fds[1]) && is_open(kept));
    fork_guard_deinit(&one);
    (void)fd_close(fds[0]);
    (void)fd_close(fds[1]);
    (void)fd_close(kept);
}

TEST(a_guard_holds_as_many_descriptors_as_it_says)
{
    struct fork_guard guard;
    int fds[FORK_GUARD_FDS], pid;

    fork_guard_init(&guard);
    for (int i = 0; i < FORK_GUARD_FDS; i++) {
        fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        CHECK(fds[i] >= 0);
        fork_guard_add(&guard, &fds[i]);
    }
    pid = test_fork();
    if (pid == 0) {
        for (int i = 0; i < FORK_GUARD_FDS; i++)
            CHECK_INT(fds[i], -1);
        _exit(0);
    }
    test_join(pid);
    fork_guard_deinit(&guard);
    for (int i = 0; i < FORK_GUARD_FDS; i++)
        (void)fd_close(fds[i]);
}

static _Atomic bool stop;

/* Opens and closes guarded handles as fast as it can. */
static void *churn(void *arg)
{
    while (!atomic_load(&stop)) {
        struct fork_guard guard;
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        CHECK(fd >= 0);
        fork_guard_init(&guard);
        fork_guard_add(&guard, &fd);
        fork_guard_deinit(&guard);
        (void)fd_close(fd);
    }
    return arg;
}

/* A fork() in the middle of another thread's list surgery must find the list whole and the lock free. */
TEST(forking_beside_busy_threads_leaves_a_usable_child)
{
    pthread_t threads[2];

    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, churn, NULL), 0);
    for (int i = 0; i < 50; i++) {
        int pid = test_fork();

        if (pid == 0) {
            struct fork_guard guard;
            int fd = -1;

            fork_guard_init(&guard);
            fork_guard_add(&guard, &fd);
            fork_guard_deinit(&guard);
            _exit(0);
        }
        test_join(pid);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
}

static volatile sig_atomic_t forks;

/* What a restarter of children does upon SIGCHLD, and a crash handler upon its signal. */
static void fork_in_handler(int sig)
{
    int saved = errno, status = 0, pid = fork();

    (void)sig;
    if (pid == 0)
        _exit(0);
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    forks = forks + 1;
    errno = saved;
}

/* Guards and closes until the handler has run. */
static void be_interrupted(void)
{
    const struct itimerval soon = {.it_value.tv_usec = (suseconds_t)(1 + test_random() % 200)};
    int before = forks;

    CHECK_INT(setitimer(ITIMER_REAL, &soon, NULL),
              0); /* once: a slow fork must not be followed by the next */
    while (forks == before) {
        struct fork_guard guard;
        int fd;

        fork_hold();
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        fork_guard_init(&guard);
        fork_guard_add(&guard, &fd);
        fork_release();
        CHECK(fd >= 0);
        fork_guard_close(&guard);
    }
}

TEST(a_handler_that_forks_does_not_wait_for_the_thread_that_it_interrupted)
{
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART}, before;

    CHECK_INT(sigaction(SIGALRM, &action, &before), 0);
    for (int i = 0; i < 300; i++)
        be_interrupted();
    CHECK_INT(sigaction(SIGALRM, &before, NULL), 0);
}

static void *hold_until_cancelled(void *argument)
{
    _Atomic int *held = argument;

    fork_hold();
    (void)atomic_fetch_add(held, 1);
    while (atomic_load(held) < 2)
        (void)close(-1); /* a cancellation point */
    fork_release();
    (void)atomic_fetch_add(held, 1);
    for (;;)
        (void)pause();
    return NULL;
}

TEST(a_thread_that_holds_off_forks_is_cancelled_afterwards)
{
    _Atomic int held = 0;
    pthread_t thread;
    void *result;
    int pid;

    CHECK_INT(pthread_create(&thread, NULL, hold_until_cancelled, &held), 0);
    WAIT_UNTIL(atomic_load(&held) == 1);
    CHECK_INT(pthread_cancel(thread), 0);
    (void)atomic_fetch_add(&held, 1);
    CHECK_INT(pthread_join(thread, &result), 0);
    CHECK(result == PTHREAD_CANCELED && atomic_load(&held) == 3);
    pid = test_fork(); /* waits for nobody */
    if (pid == 0)
        _exit(0);
    test_join(pid);
}
