/* SPDX-License-Identifier: MIT */
/* Timers in order of their deadlines: a binary heap of pointers, intrusive so that any timer can be taken out
 * in O(log n). */
#ifndef NARU_BASE_TIMERS_H
#define NARU_BASE_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timer {
    int64_t deadline; /* of CLOCK_MONOTONIC */
    size_t place;     /* in the heap, from 1; 0: not in it */
};

struct timers {
    struct timer **heap;
    size_t count, capacity;
};

/* Frees the heap, not the timers. */
void timers_deinit(struct timers *timers);

/* Makes room for one more timer than there will be in the heap, so that timers_set() cannot fail. count: how
 * many timers exist. 0 or -ENOMEM. */
int timers_reserve(struct timers *timers, size_t count);

/* Puts a timer in, or moves it if it is in. Room must have been reserved. */
void timers_set(struct timers *timers, struct timer *timer, int64_t deadline);

/* Takes a timer out, if it is in. */
void timers_unset(struct timers *timers, struct timer *timer);

/* The timer that is due first, or NULL. */
struct timer *timers_first(const struct timers *timers);

#endif
