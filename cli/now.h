/* SPDX-License-Identifier: MIT */
/* The time, for deadlines and durations. */
#ifndef NARU_CLI_NOW_H
#define NARU_CLI_NOW_H

#include <stdint.h>
#include <time.h>

#include "naru/time.h"

/* Nanoseconds of CLOCK_MONOTONIC, which all processes share. */
static inline int64_t now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail: the clock exists */
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* What is left until a deadline: NARU_NOWAIT if it has passed, NARU_FOREVER of that. */
static inline int64_t now_left(int64_t deadline)
{
    int64_t left;

    if (deadline == NARU_FOREVER)
        return NARU_FOREVER;
    left = deadline - now();
    return left > 0 ? left : NARU_NOWAIT;
}

#endif
