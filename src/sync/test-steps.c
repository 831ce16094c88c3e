/* SPDX-License-Identifier: MIT */
/*
 * Killed after the n-th instruction, for n all over an operation: a process is single-stepped (ptrace(2))
 * into the middle of it and killed there, and another must find the object usable and whole. Random kills
 * (torture() in test-sync.h) hit the long moments; this hits the short ones.
 */
#include "sync/test-sync.h"

#include <sys/ptrace.h>

#include "naru/barrier.h"
#include "naru/event.h"
#include "naru/mutex.h"
#include "naru/rwlock.h"
#include "naru/semaphore.h"

/* How many moments, and how many instructions in all: sanitizers make many of one. */
enum { POINTS = 80, BUDGET = 80000 };

struct shared {
    union {
        struct naru_mutex mutex;
        struct naru_rwlock rwlock;
        struct naru_semaphore semaphore;
        struct naru_event event;
        struct naru_barrier barrier;
    } u;
};

/* Runs operate() in a child, killed after that many instructions of it; the instructions done, fewer if it
 * came to its end. */
static long run_steps(void (*operate)(struct shared *shared), struct shared *shared, long steps)
{
    long done;
    int status, pid = fork();

    if (pid == 0) {
        (void)alarm(0);
        operate(shared); /* what happens only once in a process (symbols, identity) happens here */
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(77);
        (void)raise(SIGSTOP);
        operate(shared);
        _exit(0);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        test_skip("ptrace is not allowed here");
    CHECK(WIFSTOPPED(status));
    for (done = 0; done < steps; done++) {
        CHECK_INT(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        CHECK_INT(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status)) {
            CHECK_INT(WEXITSTATUS(status), 0);
            return done;
        }
        CHECK(WIFSTOPPED(status));
    }
    test_kill(pid);
    return done;
}

/* The distance between moments, for an operation of that many instructions. */
static long stride_of(long all, long points)
{
    long affordable = 2L * BUDGET / all + 5;

    return all / (affordable < points ? affordable : points) + 1;
}

/* Kills at POINTS moments spread over the operation, never twice the same; verify() looks each time. */
static void kill_all_over(void (*operate)(struct shared *shared), void (*verify)(struct shared *shared),
                          struct shared *shared)
{
    long all = run_steps(operate, shared, 1000000);
    long stride = stride_of(all, POINTS);

    verify(shared);
    CHECK(all > 100 && all < 1000000);
    for (long steps = random() % stride; steps < all; steps += stride) {
        (void)run_steps(operate, shared, steps);
        verify(shared);
    }
}

static void lock_mutex(struct shared *shared)
{
    CHECK_INT(naru_mutex_lock(&shared->u.mutex, NARU_FOREVER), 0);
    CHECK_INT(naru_mutex_unlock(&shared->u.mutex), 0);
}

static void verify_mutex(struct shared *shared)
{
    int r = naru_mutex_lock(&shared->u.mutex, SOON);

    CHECK(r == 0 || r == -EOWNERDEAD);
    if (r == -EOWNERDEAD)
        CHECK_INT(naru_mutex_consistent(&shared->u.mutex), 0);
    CHECK_INT(naru_mutex_unlock(&shared->u.mutex), 0);
}

TEST(a_mutex_is_handed_over_whatever_instruction_its_holder_died_at)
{
    struct shared *shared = shared_new(sizeof *shared);

    CHECK_INT(naru_mutex_init(&shared->u.mutex), 0);
    kill_all_over(lock_mutex, verify_mutex, shared);
}

static void use_semaphore(struct shared *shared)
{
    CHECK_INT(naru_semaphore_acquire(&shared->u.semaphore, NARU_FOREVER), 0);
    CHECK_INT(naru_semaphore_release(&shared->u.semaphore), 0);
}

static void verify_semaphore(struct shared *shared)
{
    struct naru_semaphore_info info = NARU_INIT(struct naru_semaphore_info);

    CHECK_INT(naru_semaphore_acquire(&shared->u.semaphore, SOON), 0);
    CHECK_INT(naru_semaphore_release(&shared->u.semaphore), 0);
    CHECK_INT(naru_semaphore_info(&shared->u.semaphore, &info), 0);
    CHECK_INT(info.value, 1);
    CHECK_INT(info.held, 0);
}

TEST(a_semaphore_loses_no_unit_whatever_instruction_its_holder_died_at)
{
    struct shared *shared = shared_new(sizeof *shared);

    CHECK_INT(naru_semaphore_init(&shared->u.semaphore, 1, 1), 0);
    kill_all_over(use_semaphore, verify_semaphore, shared);
}

static void use_rwlock(struct shared *shared)
{
    int r = naru_rwlock_write(&shared->u.rwlock, NARU_FOREVER);

    if (r == -EOWNERDEAD)
        r = naru_rwlock_consistent(&shared->u.rwlock);
    CHECK_INT(r, 0);
    CHECK_INT(naru_rwlock_unlock(&shared->u.rwlock), 0);
    CHECK_INT(naru_rwlock_read(&shared->u.rwlock, NARU_FOREVER), 0);
    CHECK_INT(naru_rwlock_unlock(&shared->u.rwlock), 0);
}

TEST(an_rwlock_is_free_again_whatever_instruction_its_holder_died_at)
{
    struct shared *shared = shared_new(sizeof *shared);

    CHECK_INT(naru_rwlock_init(&shared->u.rwlock), 0);
    kill_all_over(use_rwlock, use_rwlock, shared);
}

static void use_event(struct shared *shared)
{
    CHECK_INT(naru_event_set(&shared->u.event), 0);
    CHECK_INT(naru_event_wait(&shared->u.event, NARU_FOREVER), 0);
    CHECK_INT(naru_event_pulse(&shared->u.event), 0);
    CHECK_INT(naru_event_reset(&shared->u.event), 0);
}

TEST(an_event_works_on_whatever_instruction_its_user_died_at)
{
    struct shared *shared = shared_new(sizeof *shared);

    CHECK_INT(naru_event_init(&shared->u.event, NARU_EVENT_AUTO), 0);
    kill_all_over(use_event, use_event, shared);
}

/* Its members that died are told of, at most twice a death, and then it works with new ones. */
static void use_barrier(struct shared *shared)
{
    int r;

    do
        r = naru_barrier_wait(&shared->u.barrier, NARU_NOWAIT);
    while (r == -EOWNERDEAD);
    CHECK_INT(r, 1);
    CHECK_INT(naru_barrier_leave(&shared->u.barrier), 0);
}

TEST(a_barrier_tells_of_a_death_at_whatever_instruction)
{
    struct shared *shared = shared_new(sizeof *shared);

    CHECK_INT(naru_barrier_init(&shared->u.barrier, 1), 0);
    kill_all_over(use_barrier, use_barrier, shared);
}

static void post_one(struct shared *shared)
{
    CHECK_INT(naru_semaphore_post(&shared->u.semaphore, 1), 0);
}

/* The units free and held (semaphore.c, `total`), read without waking anybody. */
static uint64_t total_units(struct shared *shared)
{
    return atomic_load((_Atomic uint64_t *)(void *)((char *)shared + 128));
}

/* A second process sleeps all the while, for the unit of the warming up and the one whose poster is killed.
 */
TEST(a_waiter_gets_what_was_posted_though_the_poster_died_before_waking_it)
{
    struct shared *shared = shared_new(sizeof *shared);
    long all, stride;

    CHECK_INT(naru_semaphore_init(&shared->u.semaphore, 0, 0), 0);
    all = run_steps(post_one, shared, 1000000);
    stride = stride_of(all, POINTS / 2);
    for (long steps = random() % stride; steps < all; steps += stride) {
        int waiter;

        CHECK_INT(naru_semaphore_init(&shared->u.semaphore, 0, 0), 0);
        waiter = test_fork();
        if (waiter == 0) {
            CHECK_INT(naru_semaphore_acquire(&shared->u.semaphore, SOON), 0);
            CHECK_INT(naru_semaphore_acquire(&shared->u.semaphore, SOON), 0);
            _exit(0);
        }
        WAIT_UNTIL(is_asleep(waiter));
        (void)run_steps(post_one, shared, steps);
        if (total_units(shared) == 1) /* killed before the store that counts: it posted nothing */
            post_one(shared);
        CHECK_INT(total_units(shared), 2);
        test_join(waiter);
    }
}
