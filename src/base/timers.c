/* SPDX-License-Identifier: MIT */
/* The heap of timers. heap[i - 1] is the timer at place i; it is due no later than those at 2i and 2i + 1. */
#include "base/timers.h"

#include <errno.h>
#include <stdlib.h>

void timers_deinit(struct timers *timers)
{
    free(timers->heap);
    timers->heap = NULL;
    timers->count = timers->capacity = 0;
}

int timers_reserve(struct timers *timers, size_t count)
{
    size_t capacity = timers->capacity ? timers->capacity : 8;
    struct timer **heap;

    while (capacity < count)
        capacity *= 2;
    if (capacity == timers->capacity)
        return 0;
    heap = reallocarray(timers->heap, capacity, sizeof *heap);
    if (!heap)
        return -ENOMEM;
    timers->heap = heap;
    timers->capacity = capacity;
    return 0;
}

static void put(struct timers *timers, size_t place, struct timer *timer)
{
    timers->heap[place - 1] = timer;
    timer->place = place;
}

static void move_up(struct timers *timers, struct timer *timer)
{
    size_t place = timer->place;

    while (place > 1 && timers->heap[place / 2 - 1]->deadline > timer->deadline) {
        put(timers, place, timers->heap[place / 2 - 1]);
        place /= 2;
    }
    put(timers, place, timer);
}

static void move_down(struct timers *timers, struct timer *timer)
{
    size_t place = timer->place;

    for (;;) {
        size_t child = place * 2;

        if (child < timers->count && timers->heap[child]->deadline < timers->heap[child - 1]->deadline)
            child++;
        if (child > timers->count || timers->heap[child - 1]->deadline >= timer->deadline)
            break;
        put(timers, place, timers->heap[child - 1]);
        place = child;
    }
    put(timers, place, timer);
}

void timers_set(struct timers *timers, struct timer *timer, int64_t deadline)
{
    timer->deadline = deadline;
    if (timer->place == 0)
        put(timers, ++timers->count, timer);
    move_up(timers, timer);
    move_down(timers, timer);
}

void timers_unset(struct timers *timers, struct timer *timer)
{
    struct timer *last;

    if (timer->place == 0)
        return;
    last = timers->heap[--timers->count];
    if (last != timer) {
        put(timers, timer->place, last);
        move_up(timers, last);
        move_down(timers, last);
    }
    timer->place = 0;
}

struct timer *timers_first(const struct timers *timers)
{
    return timers->count ? timers->heap[0] : NULL;
}
