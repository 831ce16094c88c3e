/* SPDX-License-Identifier: MIT */
/*
 * Sleeping until somebody else has changed a word of memory that both may write: one word, `asleep`, which is
 * odd while somebody sleeps or is about to, and which futex(2) sleeps on. For rings and cells in memory of
 * the user's own, where there is no socket as channels have it (wakeup.h).
 *
 *     sleeper                                waker, of which there is one
 *     S1 asleep: odd, if it is not yet       W1 publish
 *     S2 fence                               W2 fence
 *     S3 look once more; if nothing:         W3 if asleep is odd: add 1, wake all
 *     S4 sleep while asleep is as at S1
 *
 * Two fences come one after the other: either S3 sees W1, or W3 sees S1. There may be many sleepers, so the
 * word counts: with a mere flag, one that looked before W1 and then comes late to S4 could find the flag that
 * another has set anew since W3, and sleep on. Who gives up leaves the word as it is, which costs the waker
 * one call for nothing.
 *
 * A waker that is killed between W1 and the wake-up, or that never comes to it, lets sleepers sleep; and so
 * does whoever overwrites the word. So a sleep is a nap (sync/futex.h), after which they look for themselves.
 */
#ifndef NARU_SHM_DOZE_H
#define NARU_SHM_DOZE_H

#include <stdatomic.h>
#include <stdint.h>

/* S1 and S2: what to sleep on. Then look once more. */
static inline uint32_t doze_arm(_Atomic uint32_t *asleep)
{
    /* relaxed: the fence orders it */
    uint32_t found = atomic_fetch_or_explicit(asleep, 1, memory_order_relaxed);

    atomic_thread_fence(memory_order_seq_cst);
    return found | 1;
}

/* S1 to S4, as often as it takes: until look(argument), which is S3, gives something other than -EAGAIN,
 * which is returned. timeout: as in naru/time.h; -EAGAIN (NARU_NOWAIT) or -ETIMEDOUT, explained, at its end.
 */
int doze_until(_Atomic uint32_t *asleep, int (*look)(void *argument), void *argument, int64_t timeout_ns);

/* The rest of W3. */
void doze_ring(_Atomic uint32_t *asleep, uint32_t found);

/* W2 and W3. */
static inline void doze_wake(_Atomic uint32_t *asleep)
{
    uint32_t found;

    atomic_thread_fence(memory_order_seq_cst);
    found = atomic_load_explicit(asleep, memory_order_relaxed); /* the fence orders it */
    if (__builtin_expect(found & 1, 0))
        doze_ring(asleep, found);
}

#endif
