/* SPDX-License-Identifier: MIT */
/* The robust lock underneath. */
#include "sync/lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "sync/owner.h"

enum { NS_PER_S = 1000000000 };

/* How long a waiter sleeps at most before it looks whether there is a holder at all. */
#define LOOK_EVERY NARU_MS(200)

/* gcc 12's ThreadSanitizer does not know pthread_mutex_clocklock(), and must be told what it does. */
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#define TSAN_LOCKED(mutex)     __tsan_mutex_post_lock(mutex, 0, 0)
#define TSAN_LOCKING(mutex)    __tsan_mutex_pre_lock(mutex, 0)
#define TSAN_NOT_LOCKED(mutex) __tsan_mutex_post_lock(mutex, __tsan_mutex_try_lock_failed, 0)
#else
#define TSAN_LOCKED(mutex)     ((void)0)
#define TSAN_LOCKING(mutex)    ((void)0)
#define TSAN_NOT_LOCKED(mutex) ((void)0)
#endif

void lock_init(struct lock *lock)
{
    pthread_mutexattr_t attributes;

    /* None of these can fail on Linux: the values are valid and nothing is allocated. Error checking: locking
     * twice is -EDEADLK and not a thread that waits for itself. */
    memset(lock, 0, sizeof *lock);
    (void)pthread_mutexattr_init(&attributes);
    (void)pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    (void)pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    (void)pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    (void)pthread_mutex_init(&lock->u.mutex, &attributes);
    (void)pthread_mutexattr_destroy(&attributes);
}

/* The word is the holder's thread id and two flags (futex(2), "Robust futexes"); a snapshot, unless it is us.
 */
static uint32_t lock_word(const struct lock *lock)
{
    return (uint32_t)__atomic_load_n(&lock->u.mutex.__data.__lock, __ATOMIC_RELAXED);
}

static uint32_t holder_thread(const struct lock *lock)
{
    return lock_word(lock) & FUTEX_TID_MASK;
}

bool lock_is_taken(const struct lock *lock)
{
    return holder_thread(lock) != 0;
}

int lock_deinit(struct lock *lock)
{
    /* pthread_mutex_destroy() would not say that a robust mutex is held. */
    return lock_is_taken(lock) ? -EBUSY : -pthread_mutex_destroy(&lock->u.mutex);
}

/* glibc trusts the word that says which kind of mutex it is, and asserts where it makes no sense. Anybody may
 * have written it: robust 16, error-checking 2, process-shared 128 (glibc's bits/pthreadtypes and pthreadP.h;
 * part of its ABI, as statically initialised mutexes hold them). */
static bool is_ours(const struct lock *lock)
{
    return lock->u.mutex.__data.__kind == (16 | PTHREAD_MUTEX_ERRORCHECK | 128);
}

static int take_timed(struct lock *lock, int64_t deadline)
{
    struct timespec until = {.tv_sec = deadline / NS_PER_S, .tv_nsec = deadline % NS_PER_S};
    int code;

    TSAN_LOCKING(&lock->u.mutex);
    code = pthread_mutex_clocklock(&lock->u.mutex, CLOCK_MONOTONIC, &until);
    if (code == 0 || code == EOWNERDEAD)
        TSAN_LOCKED(&lock->u.mutex);
    else
        TSAN_NOT_LOCKED(&lock->u.mutex);
    return code;
}

/*
 * Whether the word names a holder that there cannot be. The kernel marks the word of every thread that ends
 * (robust futexes) before its id becomes free, so if it still says the same after no such thread was found,
 * somebody has written it, and nobody would ever wake those who wait. Waiters alone, with neither holder nor
 * death, are no state of the word's either.
 */
static bool is_held_by_nobody(const struct lock *lock)
{
    uint32_t word = lock_word(lock);
    pid_t thread = (pid_t)(word & FUTEX_TID_MASK);

    if (thread == 0)
        return word == FUTEX_WAITERS;
    return kill(thread, 0) < 0 && errno == ESRCH && lock_word(lock) == word; /* kill(2) finds threads, too */
}

/*
 * pthread_mutex_trylock() of glibc (2.36, and before) takes a mutex that was given up, finds that out, and
 * returns ENOTRECOVERABLE without letting go of it again: the caller would seem to hold it for ever. Nothing
 * else undoes that, as pthread_mutex_unlock() would first ask whether the caller owns it.
 */
static void let_go_of_given_up(struct lock *lock)
{
    uint32_t *word = (uint32_t *)(void *)&lock->u.mutex.__data.__lock;

    if (holder_thread(lock) != owner_thread())
        return;
    if (__atomic_exchange_n(word, 0, __ATOMIC_RELEASE) &
        FUTEX_WAITERS) /* who waits learns it from the lock, too */
        (void)syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

int lock_take(struct lock *lock, int64_t deadline)
{
    int code;

    if (!is_ours(lock))
        return -EPROTO;
    code = pthread_mutex_trylock(&lock->u.mutex); /* what is free needs no clock */
    if (code == ENOTRECOVERABLE)
        let_go_of_given_up(lock);
    while (code == EBUSY && deadline != 0) {
        int64_t look = deadline_after(LOOK_EVERY);

        code = take_timed(lock, look < deadline ? look : deadline);
        if (code != ETIMEDOUT || look >= deadline)
            break;
        if (is_held_by_nobody(lock))
            return -EPROTO;
        code = EBUSY;
    }
    return code == EBUSY ? -EAGAIN : -code;
}

/* pthread_mutex_consistent() would not ask who calls. */
static bool is_mine(const struct lock *lock)
{
    return holder_thread(lock) == owner_thread();
}

int lock_give(struct lock *lock)
{
    if (!is_ours(lock))
        return -EPROTO;
    return is_mine(lock) ? -pthread_mutex_unlock(&lock->u.mutex) : -EPERM;
}

int lock_consistent(struct lock *lock)
{
    if (!is_ours(lock))
        return -EPROTO;
    return is_mine(lock) ? -pthread_mutex_consistent(&lock->u.mutex) : -EINVAL;
}
