/* SPDX-License-Identifier: MIT */
/*
 * The frame of rwlock, semaphore and barrier: a short robust lock around the object's state, and one futex
 * word on which those sleep whom the state does not let through.
 *
 * I1  State changes only inside (between monitor_enter() and _exit()), and every change that counts is one
 *     atomic store (holder_commit(), a total, a round). So whoever is killed inside leaves the state before
 *     or after that store, never in between, and nothing has to be repaired: the next to enter goes on.
 *
 * I2  After a change that may let somebody through, `changed` differs from what it was before, from within.
 *     A waiter reads it inside and sleeps only while it is the same: a change after it looked is never
 *     missed.
 *
 * I3  Who sleeps has put a new number into `sleepers`, from within. Who changes wakes unless it is 0, and
 *     puts 0 back only if it woke all and nobody put in a new number meanwhile: it may say "somebody" when
 *     nobody sleeps (a waiter killed), never "nobody" when one does.
 *
 * I4  A wake-up is an advice to look and hands over nothing: who is woken has to enter and take, as everybody
 *     does. So a waiter that is killed anywhere between being woken and taking dies with the advice alone;
 *     what it was to have is still in the state, for the next who looks.
 *
 * Killed between a change and the wake-up, or woken and killed: the others sleep on, though they could go.
 * That is why sleep is taken in naps (futex.h), after each of which a waiter looks again. (Waking one more
 * for each would not do: nobody learns that who was woken has died, except by looking.)
 *
 * Inside, nobody waits and calls nothing that does, except to ask the kernel whether a holder lives. Only a
 * process that is stopped (SIGSTOP) inside keeps the others out until it goes on. Calls with a timeout then
 * give up, a second after they came at the earliest. Waiters are inside at the end of each nap, so who stops
 * one may well hit that, and must not then change the object before it goes on or is killed.
 */
#ifndef NARU_SYNC_MONITOR_H
#define NARU_SYNC_MONITOR_H

#include <errno.h>
#include <stdbool.h>

#include "sync/futex.h"
#include "sync/head.h"
#include "sync/lock.h"

struct monitor {
    struct head head;
    _Atomic uint32_t changed;
    _Atomic uint32_t sleepers;
    uint32_t last_sleeper; /* the number put into sleepers last */
    uint32_t reserved;
    struct lock lock;
    int64_t look_again_at; /* when to look next whether holders live; see monitor_look_begin() */
    uint64_t reserved2[3];
};

static_assert(sizeof(struct monitor) == 128 && offsetof(struct monitor, changed) == 16 &&
                  offsetof(struct monitor, sleepers) == 20 && offsetof(struct monitor, last_sleeper) == 24 &&
                  offsetof(struct monitor, lock) == 32 && offsetof(struct monitor, look_again_at) == 96,
              "the layout is shared between processes");

/* Makes it, in memory of size bytes that is zeroed; the head is left to head_finish(). */
void monitor_init(struct monitor *monitor, size_t size);

/* -EPROTO, -EXDEV, -ENOTRECOVERABLE, -EDEADLK (called from a signal handler that interrupted a call); -EAGAIN
 * (deadline 0), -ETIMEDOUT: somebody stays inside. All explained; not inside. */
int monitor_enter(struct monitor *monitor, enum naru_sync_kind kind, int64_t deadline);

/* Leaves; nothing that others wait for has changed. */
void monitor_exit(struct monitor *monitor);

/* Leaves and wakes up to count of those who sleep; INT_MAX: all. */
void monitor_exit_and_wake(struct monitor *monitor, int count);

/* Inside: leaves, naps until something changes, enters again. 0: inside again, look. 1: the same, and nothing
 * happened during a whole nap. -ETIMEDOUT: the deadline (which may not be 0) is reached; inside again, to
 * clean up and leave. MONITOR_STAYED_OUT: NOT inside, explained as -ETIMEDOUT, somebody stayed inside beyond
 * enter_deadline. Any other error: NOT inside, explained. */
enum { MONITOR_STAYED_OUT = -ENOLCK };
int monitor_sleep(struct monitor *monitor, enum naru_sync_kind kind, struct nap *nap, int64_t deadline,
                  int64_t enter_deadline);

/*
 * When a waiter should look whether holders live: at the end of its nap, and before it gives up. Not whenever
 * it is woken, as asking the kernel costs some microseconds a holder, inside, where everybody waits for it. r
 * is what monitor_sleep() returned, 0 before the first.
 */
static inline bool monitor_should_look(int r, int64_t deadline)
{
    return deadline == 0 || r == 1 || r == -ETIMEDOUT;
}

/* Inside, around looking at a whole table. Many waiters with many holders would do nothing else, so all of
 * them together spend a sixteenth of the time on it, unless it is urgent. The time it began, for
 * monitor_look_end(); 0: somebody looked not long ago, do not. */
int64_t monitor_look_begin(struct monitor *monitor, bool urgent);
void monitor_look_end(struct monitor *monitor, int64_t begun);

/* Whether a failed monitor_sleep() left us inside. */
static inline bool monitor_timed_out(int r)
{
    return r == -EAGAIN || r == -ETIMEDOUT;
}

#endif
