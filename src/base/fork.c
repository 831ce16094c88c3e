/* SPDX-License-Identifier: MIT */
/* Fork detection and the closing of descriptors in children. */
#include "base/fork.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/fork-sanitized.h"

/* The word lies in a page that reads 0 in children (madvise(2), MADV_WIPEONFORK), or, where the kernel
 * refuses that (a sandbox), in ordinary memory: then only fork(3) is noticed, by its handler, and not a bare
 * clone(2). `latest` is what a child goes on counting from. */
static _Atomic uint64_t unwiped = 1;
_Atomic uint64_t *fork_word = &unwiped;
static uint64_t latest = 1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list guards = LIST_HEAD_INIT(guards);

/* Read-locked by threads in fork_hold(), write-locked to fork; a fork that waits goes before those who come
 * later, or busy threads would keep it waiting. Taken before `lock`. */
static const pthread_rwlock_t holding_initial = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static pthread_rwlock_t holding = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

/* How often this thread holds them: a second read lock, behind a fork that waits for the first, would never
 * come; and a handler may fork() in this very thread, which must not wait for itself. So a count is up before
 * its lock is taken and down after it is given back. While it is up, no pthread_cancel(3) ends the thread. */
static _Thread_local struct {
    volatile sig_atomic_t holding, lock;
    int cancel_state;
} has;

/* Counted in each child whose fork came in the middle of its own thread's list surgery: it forgets the list.
 */
static unsigned epoch;

static void begin_holding(int (*take)(pthread_rwlock_t *))
{
    int cancel_state;

    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    has.holding = has.holding + 1;
    if (has.holding > 1)
        return;
    has.cancel_state = cancel_state;
    (void)take(&holding);
}

static void end_holding(void)
{
    int cancel_state = has.cancel_state;

    if (has.holding > 1) {
        has.holding = has.holding - 1;
        return;
    }
    (void)pthread_rwlock_unlock(&holding);
    has.holding = 0;
    (void)pthread_setcancelstate(cancel_state, NULL);
}

void fork_hold(void)
{
    begin_holding(pthread_rwlock_rdlock);
}

void fork_release(void)
{
    end_holding();
}

static void take_lock(void)
{
    has.lock = has.lock + 1;
    if (has.lock == 1)
        (void)pthread_mutex_lock(&lock);
}

static void give_lock(void)
{
    if (has.lock == 1)
        (void)pthread_mutex_unlock(&lock);
    has.lock = has.lock - 1;
}

/* Both, in their order: a handler that comes in between and forks needs none of what others have. */
static void lock_guards(void)
{
    fork_hold();
    take_lock();
}

static void unlock_guards(void)
{
    give_lock();
    fork_release();
}

void fork_close(int *fd)
{
    fork_hold();
    *fd = fd_close(*fd);
    fork_release();
}

static void before_fork(void)
{
    begin_holding(pthread_rwlock_wrlock);
    take_lock();
    fork_await_sleep();
}

static void after_fork_in_parent(void)
{
    give_lock();
    end_holding();
}

/* Closes a descriptor that may stand in more than one place, and leaves -1 in all of them. */
static void close_all(struct fork_guard *guard, int fd)
{
    for (int i = 0; i < FORK_GUARD_FDS; i++)
        if (guard->fds[i] && *guard->fds[i] == fd)
            *guard->fds[i] = -1;
    (void)fd_close(fd);
}

static void close_guarded(struct fork_guard *guard)
{
    for (int i = 0; i < FORK_GUARD_FDS; i++)
        if (guard->fds[i])
            close_all(guard, *guard->fds[i]);
    list_remove(&guard->node);
}

/* ThreadSanitizer must be told of an unlocking that is none. */
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#define TSAN_UNLOCKED(lock) (__tsan_mutex_pre_unlock(lock, 0), __tsan_mutex_post_unlock(lock, 0))
#else
#define TSAN_UNLOCKED(lock) ((void)0)
#endif

static void after_fork_in_child(void)
{
    bool is_handlers = has.holding > 1; /* its thread was in the middle of something, and may go on with it */

    atomic_store_explicit(fork_word, 0, memory_order_relaxed); /* a wiped page is 0; other memory is not */
    if (has.lock > 1) {
        list_init(&guards);
        epoch++;
    }
    while (!list_is_empty(&guards))
        close_guarded(list_entry(guards.next, struct fork_guard, node));
    give_lock();
    if (!is_handlers) {
        TSAN_UNLOCKED(&holding);
        holding = holding_initial; /* its writer had another thread id: it cannot be unlocked here */
        (void)pthread_setcancelstate(has.cancel_state, NULL);
    }
    has.holding = has.holding - 1;
}

__attribute__((constructor)) static void watch_forks(void)
{
    long size = sysconf(_SC_PAGESIZE);
    void *mapped = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (mapped != MAP_FAILED && madvise(mapped, (size_t)size, MADV_WIPEONFORK) == 0) {
        fork_word = mapped;
        atomic_store_explicit(fork_word, latest, memory_order_relaxed); /* no other thread exists yet */
    }
    (void)pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* The first look in a child. */
static uint64_t next_generation(void)
{
    uint64_t now;

    lock_guards();
    now = atomic_load_explicit(fork_word, memory_order_relaxed); /* another thread may have been first */
    if (now == 0) {
        now = ++latest;
        atomic_store_explicit(fork_word, now, memory_order_relaxed); /* says all there is to know */
    }
    unlock_guards();
    return now;
}

uint64_t fork_generation(void)
{
    uint64_t now = atomic_load_explicit(fork_word, memory_order_relaxed);

    return now ? now : next_generation();
}

static void guard_clear(struct fork_guard *guard, uint64_t owner)
{
    atomic_store_explicit(&guard->generation, owner, memory_order_relaxed); /* see fork_guard_generation() */
    for (int i = 0; i < FORK_GUARD_FDS; i++)
        guard->fds[i] = NULL;
    list_init(&guard->node);
    guard->epoch = epoch;
}

void fork_guard_init(struct fork_guard *guard)
{
    guard_clear(guard, fork_generation());
}

void fork_guard_init_unowned(struct fork_guard *guard)
{
    guard_clear(guard, 0);
}

void fork_guard_add(struct fork_guard *guard, int *fd)
{
    int free_slot = 0;

    lock_guards();
    while (free_slot < FORK_GUARD_FDS && guard->fds[free_slot])
        free_slot++;
    assert(free_slot < FORK_GUARD_FDS);
    guard->fds[free_slot] = fd;
    if (list_is_empty(&guard->node))
        list_append(&guards, &guard->node);
    unlock_guards();
}

void fork_guard_deinit(struct fork_guard *guard)
{
    lock_guards();
    if (guard->epoch == epoch)
        list_remove(&guard->node);
    else
        list_init(&guard->node); /* its list is forgotten */
    unlock_guards();
}

void fork_guard_close(struct fork_guard *guard)
{
    fork_hold();
    fork_guard_deinit(guard);
    close_guarded(guard); /* without `lock`: other threads need not wait for close(2) */
    fork_release();
}

bool fork_guard_claim(struct fork_guard *guard)
{
    uint64_t nobody = 0;

    /* relaxed: see fork_guard_generation() */
    return fork_guard_generation(guard) == 0 &&
           atomic_compare_exchange_strong_explicit(&guard->generation, &nobody, fork_generation(),
                                                   memory_order_relaxed, memory_order_relaxed);
}

int fork_guard_enter_slowly(struct fork_guard *guard)
{
    /* The other thread may have claimed it between this one's two looks. */
    if (fork_guard_claim(guard) || fork_guard_generation(guard) == fork_generation())
        return 0;
    return error_set(ECHILD,
                     "this handle belongs to the parent process; open one of your own after fork(), or see "
                     "naru_channel_adopt()");
}

bool fork_guard_is_mine(const struct fork_guard *guard)
{
    uint64_t owner = fork_guard_generation(guard);

    return owner == 0 || owner == fork_generation();
}
