/* SPDX-License-Identifier: MIT */
/*
 * How long to wait. Every call that can wait takes a timeout in nanoseconds of CLOCK_MONOTONIC: NARU_NOWAIT
 * (0) tries once, NARU_FOREVER waits without limit, and anything between is a duration that interruptions by
 * signal handlers do not lengthen. What is negative tries once, too: it is what is left of a time that is up
 * (and not, as with poll(2), without limit).
 */
#ifndef NARU_TIME_H
#define NARU_TIME_H

#include <stdint.h>

#define NARU_NOWAIT  ((int64_t)0)
#define NARU_FOREVER INT64_MAX

#define NARU_US(n) ((int64_t)(n)*1000)
#define NARU_MS(n) ((int64_t)(n)*1000000)
#define NARU_S(n)  ((int64_t)(n)*1000000000)

#endif
