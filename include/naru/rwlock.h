/* SPDX-License-Identifier: MIT */
/*
 * Reader-writer lock: many readers or one writer. POSIX has no robust one; this one survives its holders. A
 * reader that dies just counts no more; a writer that dies leaves the lock to the next and the news,
 * -EOWNERDEAD, to every one after it until somebody says that the data is whole again.
 *
 * Order: a waiting writer goes before readers that come after it; when a writer is done, the readers that
 * waited meanwhile go before the next writer. So neither starves the other. A process that reads already may
 * read again (recursively, or in another thread) though a writer waits.
 *
 * What naru/sync.h says holds here: where it may live, trust, timeouts, threads and fork. Read locks are held
 * by the process: any of its threads may unlock. The write lock is held by the thread that took it, which
 * must unlock; if that thread ends, it stays held until the process does. A thread that asks for the write
 * lock while its own process reads waits for those reads to end, its own included.
 */
#ifndef NARU_RWLOCK_H
#define NARU_RWLOCK_H

#include "naru/sync.h"

NARU_BEGIN

struct naru_rwlock {
    uint64_t opaque[256];
};

/* How many processes can read at the same time; one more waits, as if somebody wrote. */
enum { NARU_RWLOCK_READERS = 116 };

/* Makes a lock in memory that nobody uses yet. 0; -EINVAL: not aligned to 8 bytes. */
NARU_API NARU_MUST_CHECK int naru_rwlock_init(struct naru_rwlock *lock);

/* Ends it. 0; -EBUSY: it is held, and goes on; -EPROTO. Not needed for named ones. */
NARU_API int naru_rwlock_deinit(struct naru_rwlock *lock);

/* Opens or makes the lock of that name; naru/sync.h lists the errors. */
NARU_API NARU_MUST_CHECK int naru_rwlock_open(const char *name, const struct naru_sync_options *options,
                                              struct naru_rwlock **ret_lock);

/* Unmaps what naru_rwlock_open() gave. What this process holds stays held: unlock first. Returns NULL; NULL
 * is allowed. */
NARU_API struct naru_rwlock *naru_rwlock_close(struct naru_rwlock *lock);

/*
 * Locks for reading, or for writing. 0: held. -EOWNERDEAD: HELD, but a writer died while it changed the data,
 * and nobody has put it right yet. Not held: -EAGAIN or -ETIMEDOUT. -EDEADLK: this thread holds it for
 * writing. -EPROTO, -EXDEV.
 */
NARU_API NARU_MUST_CHECK int naru_rwlock_read(struct naru_rwlock *lock, int64_t timeout_ns);
NARU_API NARU_MUST_CHECK int naru_rwlock_write(struct naru_rwlock *lock, int64_t timeout_ns);

/* Gives back what this thread holds for writing, or else one of the process's read locks. 0; -EPERM: neither;
 * -EPROTO, -EXDEV. */
NARU_API int naru_rwlock_unlock(struct naru_rwlock *lock);

/* Holding it for writing: the data is whole again, and -EOWNERDEAD ends. 0; -EPERM: this thread does not hold
 * it for writing; -EPROTO, -EXDEV. */
NARU_API NARU_MUST_CHECK int naru_rwlock_consistent(struct naru_rwlock *lock);

NARU_END

#endif
