/* SPDX-License-Identifier: MIT */
/*
 * The mutex: a thin coat over the robust lock, which does the work (lock.h).
 *
 * I1  Only the lock decides whether and by whom it is held. `holder` and `last_dead` are written by the
 *     holder alone, right after locking, and are for people: if it is killed in between, they name the one
 *     before.
 */
#include "naru/mutex.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "sync/head.h"
#include "sync/lock.h"
#include "sync/named.h"
#include "sync/owner.h"

struct mutex {
    struct head head;
    _Atomic uint32_t holder;    /* pid of who locked it last */
    _Atomic uint32_t last_dead; /* pid, 0: none yet */
    uint64_t reserved;
    struct lock lock;
    uint64_t reserved2[4];
};

static_assert(sizeof(struct mutex) == sizeof(struct naru_mutex) && offsetof(struct mutex, holder) == 16 &&
                  offsetof(struct mutex, last_dead) == 20 && offsetof(struct mutex, lock) == 32,
              "the layout is shared between processes");

static struct mutex *mutex_of(struct naru_mutex *mutex)
{
    return (struct mutex *)(void *)mutex;
}

static int init(void *object, void *argument)
{
    struct mutex *m = object;

    (void)argument;
    memset((void *)m, 0, sizeof *m);
    lock_init(&m->lock);
    head_finish(&m->head, NARU_SYNC_MUTEX);
    return 0;
}

int naru_mutex_init(struct naru_mutex *mutex)
{
    int r = head_check_address(mutex, NARU_SYNC_MUTEX);

    return r < 0 ? r : init(mutex, NULL);
}

int naru_mutex_deinit(struct naru_mutex *mutex)
{
    struct mutex *m = mutex_of(mutex);
    int r = head_check(&m->head, NARU_SYNC_MUTEX);

    if (r < 0)
        return r;
    if (lock_deinit(&m->lock) < 0)
        return error_set(EBUSY, "the mutex is held by process %u",
                         atomic_load_explicit(&m->holder, memory_order_relaxed)); /* for people */
    head_clear(&m->head);
    return 0;
}

int naru_mutex_open(const char *name, const struct naru_sync_options *options, struct naru_mutex **ret_mutex)
{
    void *object;
    int r = named_open(NARU_SYNC_MUTEX, name, options, sizeof(struct mutex), init, NULL, &object);

    if (r == 0)
        *ret_mutex = object;
    return r;
}

struct naru_mutex *naru_mutex_close(struct naru_mutex *mutex)
{
    if (mutex) {
        (void)naru_mutex_unlock(mutex); /* or the thread's robust list would point into unmapped memory */
        named_close(mutex, sizeof(struct mutex));
    }
    return NULL;
}

static int explain(const struct mutex *m, int r)
{
    switch (-r) {
    case EAGAIN:
    case ETIMEDOUT:
        return error_expected(-r);
    case EDEADLK:
        return error_set(EDEADLK, "this thread holds the mutex already and would wait for itself");
    case ENOTRECOVERABLE:
        return error_set(ENOTRECOVERABLE,
                         "the mutex was given up: its holder (process %u) died, and the next one unlocked it "
                         "without naru_mutex_consistent(); initialise it anew or remove it",
                         atomic_load_explicit(&m->last_dead, memory_order_relaxed));
    case EPROTO:
        return error_set(EPROTO, "the memory of the mutex was overwritten: its lock makes no sense any more");
    default:
        return error_set(-r, "cannot use the mutex: %s", error_text(-r));
    }
}

int naru_mutex_lock(struct naru_mutex *mutex, int64_t timeout_ns)
{
    struct mutex *m = mutex_of(mutex);
    int r = head_check(&m->head, NARU_SYNC_MUTEX);

    if (r < 0)
        return r;
    r = lock_take(&m->lock, deadline_after(timeout_ns));
    if (r < 0 && r != -EOWNERDEAD)
        return explain(m, r);
    if (r == -EOWNERDEAD) {
        uint32_t dead = atomic_load_explicit(&m->holder, memory_order_relaxed); /* the lock orders */

        atomic_store_explicit(&m->last_dead, dead, memory_order_relaxed);
        r = error_set(EOWNERDEAD,
                      "the mutex is held now, but process %u died holding it: put right what it guards, then "
                      "call naru_mutex_consistent()",
                      dead);
    }
    atomic_store_explicit(&m->holder, owner_self().pid, memory_order_relaxed); /* I1 */
    return r;
}

int naru_mutex_unlock(struct naru_mutex *mutex)
{
    struct mutex *m = mutex_of(mutex);
    int r = head_check(&m->head, NARU_SYNC_MUTEX);

    if (r < 0)
        return r;
    r = lock_give(&m->lock);
    if (r == -EPERM)
        return error_set(EPERM, "this thread does not hold the mutex");
    return r < 0 ? explain(m, r) : 0;
}

int naru_mutex_consistent(struct naru_mutex *mutex)
{
    struct mutex *m = mutex_of(mutex);
    int r = head_check(&m->head, NARU_SYNC_MUTEX);

    if (r < 0)
        return r;
    r = lock_consistent(&m->lock);
    if (r == -EINVAL)
        return error_set(EINVAL, "nobody died holding the mutex that this thread now holds");
    return r < 0 ? explain(m, r) : 0;
}

int64_t naru_mutex_holder(const struct naru_mutex *mutex)
{
    const struct mutex *m = (const struct mutex *)(const void *)mutex;
    int r = head_check(&m->head, NARU_SYNC_MUTEX);

    if (r < 0)
        return r;
    return lock_is_taken(&m->lock) ? atomic_load_explicit(&m->holder, memory_order_relaxed) : 0; /* I1 */
}

int64_t naru_mutex_last_dead(const struct naru_mutex *mutex)
{
    const struct mutex *m = (const struct mutex *)(const void *)mutex;
    int r = head_check(&m->head, NARU_SYNC_MUTEX);

    if (r < 0)
        return r;
    return atomic_load_explicit(&m->last_dead, memory_order_relaxed); /* I1 */
}
