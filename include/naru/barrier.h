/* SPDX-License-Identifier: MIT */
/*
 * Barrier: who arrives waits until as many as agreed have arrived, then all go on, and it is ready for the
 * next round.
 *
 * A party that dies would be waited for in vain, so a process that has arrived once is a member: if it
 * dies, waiting or not, or ends without naru_barrier_leave(), everybody who waits then or next gets
 * -EOWNERDEAD, once; after that the dead one is forgotten and another process may take its place. A round
 * that is complete before the death is noticed counts as complete, as the dead one had arrived; the next one
 * brings the news.
 *
 * What naru/sync.h says holds here: where it may live, trust, timeouts, threads and fork. Several threads of
 * a process may be parties; the member is the process.
 */
#ifndef NARU_BARRIER_H
#define NARU_BARRIER_H

#include "naru/sync.h"

NARU_BEGIN

struct naru_barrier {
    uint64_t opaque[512];
};

/* How many processes can be members at the same time. */
enum { NARU_BARRIER_MEMBERS = 163 };

/* Makes a barrier for that many parties (1 or more) in memory that nobody uses yet. 0; -EINVAL: parties is 0,
 * or not aligned to 8 bytes. */
NARU_API NARU_MUST_CHECK int naru_barrier_init(struct naru_barrier *barrier, uint32_t parties);

/* Ends it; nobody may be waiting. 0; -EPROTO. Not needed for named ones. */
NARU_API int naru_barrier_deinit(struct naru_barrier *barrier);

/* Opens or makes the barrier of that name; naru/sync.h lists the errors. -EINVAL: it exists for another
 * number of parties (0 takes it as it is). */
NARU_API NARU_MUST_CHECK int naru_barrier_open(const char *name, const struct naru_sync_options *options,
                                               uint32_t parties, struct naru_barrier **ret_barrier);

/* Leaves, then unmaps what naru_barrier_open() gave. Returns NULL; NULL is allowed. */
NARU_API struct naru_barrier *naru_barrier_close(struct naru_barrier *barrier);

/*
 * Arrives, and waits for the others. 1 for one of them, the last to arrive, and 0 for the others: all have
 * arrived. -EOWNERDEAD: a member died, the round is broken, nobody waits in it any more. -EAGAIN, -ETIMEDOUT:
 * the others did not come in time; the arrival is taken back. -EUSERS: too many processes. -EPROTO, -EXDEV.
 */
NARU_API NARU_MUST_CHECK int naru_barrier_wait(struct naru_barrier *barrier, int64_t timeout_ns);

/* This process is a member no more: its end is no news to the others. 0; -EBUSY: a thread of it waits there;
 * -EPROTO, -EXDEV. */
NARU_API int naru_barrier_leave(struct naru_barrier *barrier);

NARU_END

#endif
