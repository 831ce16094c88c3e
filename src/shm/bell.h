/* SPDX-License-Identifier: MIT */
/*
 * A bell that is a word of shared memory, where there is no socket between two sides: who rings stores the
 * ticket it rings for, and wakes by futex(2) whoever sleeps on that word.
 *
 *     sleeper                             waker
 *     S4 unless the word is the ticket,   W3 as in wakeup.h; then the word = ticket, and wake
 *        sleep while it is what it was
 *
 * A word that changes between the two steps of S4 does not let the sleeper fall asleep (futex(2),
 * FUTEX_WAIT), so no wake-up is lost. No hang-up tells of a death here: whoever sleeps gets up every
 * BELL_SLICE_NS and asks whether the other side still lives, whatever else wakes it in between. Each word has
 * one writer, the waker.
 */
#ifndef NARU_SHM_BELL_H
#define NARU_SHM_BELL_H

#include "shm/wakeup.h"

/* Within this time a sleeper notices that the other side was killed. 100 looks a second are some 0.05 % of a
 * processor. */
#define BELL_SLICE_NS (INT64_C(10) * 1000 * 1000)

/* What it is here. Only tests change it, which want to know what a process does next. */
extern int64_t bell_slice_ns;

/* waker_ring() with a bell. */
void bell_ring(struct waker *w);

/* sleeper_take() with a bell. */
int bell_take(struct sleeper *s);

/* sleeper_sleep() with a bell, up to a deadline as well. 0: rung, or look again; 1: the other side is gone;
 * -ETIMEDOUT. */
int bell_sleep(struct sleeper *s, int64_t deadline);

#endif
