/* SPDX-License-Identifier: MIT */
/*
 * Mutex: one holder at a time, a thread of any process. If the holder dies, the next gets the lock together
 * with -EOWNERDEAD, that is, with the news that what the lock guards may be half-changed.
 *
 * What naru/sync.h says holds here: where it may live, trust, timeouts, threads and fork. The holder is a
 * thread: the thread that locked must unlock, and one that ends while holding counts as dead.
 */
#ifndef NARU_MUTEX_H
#define NARU_MUTEX_H

#include "naru/sync.h"

NARU_BEGIN

struct naru_mutex {
    uint64_t opaque[16];
};

/* Makes a mutex in memory that nobody uses yet. 0; -EINVAL: not aligned to 8 bytes. */
NARU_API NARU_MUST_CHECK int naru_mutex_init(struct naru_mutex *mutex);

/* Ends it. 0; -EBUSY: it is held, and goes on; -EPROTO. Not needed for named ones. */
NARU_API int naru_mutex_deinit(struct naru_mutex *mutex);

/* Opens or makes the mutex of that name; naru/sync.h lists the errors. */
NARU_API NARU_MUST_CHECK int naru_mutex_open(const char *name, const struct naru_sync_options *options,
                                             struct naru_mutex **ret_mutex);

/* Unmaps what naru_mutex_open() gave, unlocking it if this thread holds it. Returns NULL; NULL is allowed. */
NARU_API struct naru_mutex *naru_mutex_close(struct naru_mutex *mutex);

/*
 * Locks. 0: held. -EOWNERDEAD: HELD, and its former holder died holding it: put right what it guards, then
 * naru_mutex_consistent(); unlocking without that makes it -ENOTRECOVERABLE for everybody.
 * Not held: -EAGAIN or -ETIMEDOUT. -EDEADLK: this thread holds it already. -ENOTRECOVERABLE: somebody gave it
 * up as just said; naru_mutex_init() or removing the name is the way out. -EPROTO: there is no mutex there.
 * -EXDEV: of another PID namespace.
 */
NARU_API NARU_MUST_CHECK int naru_mutex_lock(struct naru_mutex *mutex, int64_t timeout_ns);

/* Unlocks. 0; -EPERM: this thread does not hold it. -EPROTO. Never waits. */
NARU_API int naru_mutex_unlock(struct naru_mutex *mutex);

/* After -EOWNERDEAD: what it guards is whole again. 0; -EINVAL: it was no such case, or not held. -EPROTO. */
NARU_API NARU_MUST_CHECK int naru_mutex_consistent(struct naru_mutex *mutex);

/* The process that holds it, 0 for none: a snapshot for people, old the moment it is read. -EPROTO. */
NARU_API int64_t naru_mutex_holder(const struct naru_mutex *mutex);

/* The process that died holding it last, 0 if that never happened. -EPROTO. */
NARU_API int64_t naru_mutex_last_dead(const struct naru_mutex *mutex);

NARU_END

#endif
