/* SPDX-License-Identifier: MIT */
/* futex(2): sleeping until a word in shared memory changes. */
#ifndef NARU_SYNC_FUTEX_H
#define NARU_SYNC_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

/* Sleeps while *word is expected, until woken or the deadline (base/clock.h; not 0). 0: look again, for
 * whatever reason (woken, changed already, a signal); -ETIMEDOUT at the deadline. */
int futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline);

/* Wakes up to count sleepers of any process; the number woken. Async-signal-safe. */
int futex_wake(_Atomic uint32_t *word, int count);

/*
 * Naps: how long a waiter sleeps at most before it looks whether something happened that nobody told it: a
 * holder died, or a waker died between its change and its wake-up. Short at first, so that an unlucky
 * hand-over is quick, and long later, so that waiting is cheap. Start with a zeroed struct.
 */
struct nap {
    int64_t length;
    int64_t until; /* 0: between naps. A nap goes on after a wake-up, so that a storm of them cannot keep a
                      waiter from ever looking */
};

/* Sleeps on the word until the nap or the deadline ends. 0: look again; 1: the same, and a nap has ended;
 * -ETIMEDOUT: the deadline is reached. */
int nap_wait(struct nap *nap, _Atomic uint32_t *word, uint32_t expected, int64_t deadline);

#endif
