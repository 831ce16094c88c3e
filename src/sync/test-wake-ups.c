/* SPDX-License-Identifier: MIT */
/*
 * Who is woken and killed before it goes on takes nothing with it. Each test lets a process go to sleep on an
 * object, wakes it, and kills it at the very end of its futex(2) call: it was chosen, and has taken nothing
 * yet. The one who sleeps beside it must get what was meant for the dead.
 *
 * ptrace(2) holds the victim there. SIGSTOP cannot: a process that it reaches asleep leaves the queue of the
 * futex, so it is seldom the one who is woken; and one that it reaches at the end of a nap may be inside the
 * object, where it keeps out everybody, the test too (monitor.h).
 */
#include "sync/test-sync.h"

#include <linux/futex.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "naru/barrier.h"
#include "naru/event.h"
#include "naru/mutex.h"
#include "naru/rwlock.h"
#include "naru/semaphore.h"

enum {
    ROUNDS = 8,         /* of victims */
    CHANGED = 16,       /* where the word to sleep on stands: monitor.h, event.c */
    LOCK = 32,          /* the same of the mutex, mutex.c */
    LONG = 1000,        /* seconds that are added to a nap (futex.h), so that nothing else ends it */
    SYSCALL_STOP = 0x80 /* added to SIGTRAP by PTRACE_O_TRACESYSGOOD */
};

union object {
    struct naru_mutex mutex;
    struct naru_rwlock rwlock;
    struct naru_semaphore semaphore;
    struct naru_event event;
    struct naru_barrier barrier;
};

/* What happens to an object in a round. */
struct scene {
    void (*prepare)(union object *object); /* whoever waits then must sleep */
    void (*victim)(union object *object);  /* waits */
    void (*other)(union object *object);   /* waits, and must get through */
    void (*let_go)(union object *object);
    size_t word;
};

static void go(int pid, enum __ptrace_request how)
{
    CHECK_INT(ptrace(how, pid, NULL, NULL), 0);
}

static struct __ptrace_syscall_info wait_for_stop(int pid)
{
    struct __ptrace_syscall_info info;
    int status;

    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFSTOPPED(status));
    CHECK_INT(WSTOPSIG(status), SIGTRAP | SYSCALL_STOP);
    CHECK(ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof info, &info) > 0);
    return info;
}

#define OPTIONS ((void *)(uintptr_t)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL))

/* A child that does this as soon as it may go on. */
static int fork_traced(void (*operate)(union object *object), union object *object)
{
    int status, pid = test_fork();

    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(77);
        (void)raise(SIGSTOP);
        operate(object);
        _exit(0);
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        test_skip("ptrace is not allowed here");
    CHECK(WIFSTOPPED(status));
    CHECK_INT(ptrace(PTRACE_SETOPTIONS, pid, NULL, OPTIONS), 0);
    return pid;
}

/* The end of its nap, a time in its own memory. */
static void lengthen_nap(int pid, const struct __ptrace_syscall_info *info)
{
    uint64_t at = info->entry.args[3] + offsetof(struct timespec, tv_sec);
    long seconds;

    errno = 0;
    seconds = ptrace(PTRACE_PEEKDATA, pid, (void *)(uintptr_t)at, NULL);
    CHECK_INT(errno, 0);
    CHECK_INT(ptrace(PTRACE_POKEDATA, pid, (void *)(uintptr_t)at, (void *)(uintptr_t)(seconds + LONG)), 0);
}

/* Lets it run until it is about to sleep on the word, outside of the object. */
static struct __ptrace_syscall_info run_to_nap(int pid, const char *word)
{
    struct __ptrace_syscall_info info;

    do {
        go(pid, PTRACE_SYSCALL);
        info = wait_for_stop(pid);
    } while (info.op != PTRACE_SYSCALL_INFO_ENTRY || info.entry.nr != SYS_futex ||
             info.entry.args[0] != (uintptr_t)word ||
             ((uint32_t)info.entry.args[1] & (uint32_t)FUTEX_CMD_MASK) != FUTEX_WAIT_BITSET);
    return info;
}

/* Likewise, and until somebody wakes it. */
static void run_to_sleep(int pid, const char *word)
{
    struct __ptrace_syscall_info info = run_to_nap(pid, word);

    lengthen_nap(pid, &info);
}

static void fall_asleep(int pid, enum __ptrace_request how)
{
    go(pid, how);
    WAIT_UNTIL(is_asleep(pid));
}

/* Waits for the end of its sleep, where it stays. */
static void stop_woken(int pid)
{
    struct __ptrace_syscall_info info = wait_for_stop(pid);

    CHECK_INT(info.op, PTRACE_SYSCALL_INFO_EXIT);
    CHECK_INT(info.exit.rval, 0);
}

/* A child that sleeps, and stops when it wakes. */
static int fork_sleeper(void (*operate)(union object *object), union object *object, const char *word)
{
    int pid = fork_traced(operate, object);

    run_to_sleep(pid, word);
    fall_asleep(pid, PTRACE_SYSCALL);
    return pid;
}

/* One round. The victim comes first, so that it is first in every queue. */
static void kill_woken(const struct scene *scene, union object *object)
{
    const char *word = (const char *)object + scene->word;
    int victim, other;

    scene->prepare(object);
    victim = fork_traced(scene->victim, object);
    run_to_sleep(victim, word);
    other = fork_traced(scene->other, object);
    (void)run_to_nap(other, word);
    fall_asleep(victim, PTRACE_SYSCALL);
    fall_asleep(other, PTRACE_CONT);
    scene->let_go(object);
    stop_woken(victim);
    test_kill(victim);
    test_join(other);
}

static void play(const struct scene *scene, union object *object)
{
    for (int round = 0; round < ROUNDS; round++)
        kill_woken(scene, object);
}

static union object *new_object(void)
{
    return shared_new(sizeof(union object));
}

static void no_unit(union object *object)
{
    CHECK_INT(naru_semaphore_init(&object->semaphore, 0, 0), 0);
}

static void wait_for_unit(union object *object)
{
    CHECK_INT(naru_semaphore_wait(&object->semaphore, SOON), 0);
}

static void post_unit(union object *object)
{
    CHECK_INT(naru_semaphore_post(&object->semaphore, 1), 0);
}

static void acquire_unit(union object *object)
{
    CHECK_INT(naru_semaphore_acquire(&object->semaphore, SOON), 0);
}

static void release_unit(union object *object)
{
    CHECK_INT(naru_semaphore_release(&object->semaphore), 0);
}

TEST(a_unit_posted_for_a_waiter_that_is_killed_goes_to_another)
{
    const struct scene scene = {no_unit, wait_for_unit, wait_for_unit, post_unit, CHANGED};
    union object *object = new_object();

    play(&scene, object);
    CHECK_INT(naru_semaphore_wait(&object->semaphore, NARU_NOWAIT), -EAGAIN); /* one was posted */
}

/* Nobody gives the unit back: each round gets that which the last round's survivor died with. */
TEST(a_unit_released_to_a_waiter_that_is_killed_goes_to_another)
{
    const struct scene scene = {acquire_unit, acquire_unit, acquire_unit, release_unit, CHANGED};
    union object *object = new_object();

    CHECK_INT(naru_semaphore_init(&object->semaphore, 1, 1), 0);
    play(&scene, object);
}

static void not_set(union object *object)
{
    CHECK_INT(naru_event_init(&object->event, NARU_EVENT_AUTO), 0);
}

static void wait_for_event(union object *object)
{
    CHECK_INT(naru_event_wait(&object->event, SOON), 0);
}

static void set_event(union object *object)
{
    CHECK_INT(naru_event_set(&object->event), 0);
}

static void pulse_event(union object *object)
{
    CHECK_INT(naru_event_pulse(&object->event), 0);
}

TEST(an_event_set_for_a_waiter_that_is_killed_lets_another_through)
{
    const struct scene set = {not_set, wait_for_event, wait_for_event, set_event, CHANGED};
    const struct scene pulse = {not_set, wait_for_event, wait_for_event, pulse_event, CHANGED};
    union object *object = new_object();

    play(&set, object);
    CHECK_INT(naru_event_is_set(&object->event), 0);
    play(&pulse, object);
    CHECK_INT(naru_event_is_set(&object->event), 0);
}

TEST(a_pulse_for_a_waiter_that_is_killed_lets_nobody_through_who_comes_later)
{
    union object *object = new_object();

    for (int round = 0; round < ROUNDS; round++) {
        int victim;

        not_set(object);
        victim = fork_sleeper(wait_for_event, object, (const char *)object + CHANGED);
        pulse_event(object);
        stop_woken(victim);
        test_kill(victim);
        CHECK_INT(naru_event_is_set(&object->event), 0);
        CHECK_INT(naru_event_wait(&object->event, NARU_NOWAIT), -EAGAIN);
        CHECK_INT(naru_event_wait(&object->event, NARU_MS(1)), -ETIMEDOUT);
        set_event(object);
        CHECK_INT(naru_event_wait(&object->event, NARU_NOWAIT), 0);
    }
}

TEST(a_pulse_does_not_take_back_the_one_before)
{
    union object *object = new_object();

    for (int round = 0; round < ROUNDS; round++) {
        int waiter;

        not_set(object);
        waiter = fork_sleeper(wait_for_event, object, (const char *)object + CHANGED);
        pulse_event(object);
        stop_woken(waiter);
        pulse_event(object); /* nobody sleeps */
        go(waiter, PTRACE_CONT);
        test_join(waiter);
        CHECK_INT(naru_event_is_set(&object->event), 0);
        CHECK_INT(naru_event_wait(&object->event, NARU_NOWAIT), -EAGAIN);
    }
}

static void lock_mutex(union object *object)
{
    CHECK_INT(naru_mutex_lock(&object->mutex, SOON), 0);
}

static void unlock_mutex(union object *object)
{
    CHECK_INT(naru_mutex_unlock(&object->mutex), 0);
}

static void use_mutex(union object *object)
{
    lock_mutex(object);
    unlock_mutex(object);
}

TEST(a_mutex_unlocked_for_a_waiter_that_is_killed_goes_to_another)
{
    const struct scene scene = {lock_mutex, use_mutex, use_mutex, unlock_mutex, LOCK};
    union object *object = new_object();

    CHECK_INT(naru_mutex_init(&object->mutex), 0);
    play(&scene, object);
}

/* Also where a round before left a reader killed that was to go first, or a writer that stood in the way. */
static void write_lock(union object *object)
{
    CHECK_INT(naru_rwlock_write(&object->rwlock, SOON), 0);
}

static void rw_unlock(union object *object)
{
    CHECK_INT(naru_rwlock_unlock(&object->rwlock), 0);
}

static void write_once(union object *object)
{
    write_lock(object);
    rw_unlock(object);
}

static void read_once(union object *object)
{
    CHECK_INT(naru_rwlock_read(&object->rwlock, SOON), 0);
    rw_unlock(object);
}

TEST(an_rwlock_unlocked_for_a_waiter_that_is_killed_goes_to_another)
{
    const struct scene scenes[] = {
        {write_lock, write_once, write_once, rw_unlock, CHANGED},
        {write_lock, write_once, read_once, rw_unlock, CHANGED},
        {write_lock, read_once, write_once, rw_unlock, CHANGED},
        {write_lock, read_once, read_once, rw_unlock, CHANGED},
    };
    union object *object = new_object();

    CHECK_INT(naru_rwlock_init(&object->rwlock), 0);
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++)
        play(&scenes[i], object);
}

static void new_barrier(union object *object)
{
    CHECK_INT(naru_barrier_init(&object->barrier, 3), 0);
}

static void arrive(union object *object)
{
    CHECK_INT(naru_barrier_wait(&object->barrier, SOON), 0);
    CHECK_INT(naru_barrier_leave(&object->barrier), 0);
}

static void arrive_last(union object *object)
{
    CHECK_INT(naru_barrier_wait(&object->barrier, SOON), 1);
}

TEST(a_barrier_lets_the_rest_go_when_a_waiter_is_killed_on_its_way_out)
{
    const struct scene scene = {new_barrier, arrive, arrive, arrive_last, CHANGED};
    union object *object = new_object();

    play(&scene, object);
    CHECK_INT(naru_barrier_wait(&object->barrier, SOON), -EOWNERDEAD); /* the victim was a member */
}
