/* SPDX-License-Identifier: MIT */
/*
 * Deadlines. A timeout is turned into a point of CLOCK_MONOTONIC once, on entry, so that interruptions and
 * retries do not lengthen it. NARU_FOREVER stays INT64_MAX and costs no clock reading; NARU_NOWAIT is 0, a
 * point long past.
 */
#ifndef NARU_BASE_CLOCK_H
#define NARU_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "naru/time.h"

/* Nanoseconds of CLOCK_MONOTONIC. */
int64_t clock_now(void);

/* A number that is another one some milliseconds later, for who wants to do something from time to time: a
 * fifth of what clock_now() takes. */
uint32_t clock_tick(void);

/* The point at which a timeout ends. Negative timeouts count as NARU_NOWAIT; what would overflow is for ever.
 */
int64_t deadline_after(int64_t timeout_ns);

/* Nanoseconds left: 0 when past, NARU_FOREVER when there is no limit. */
int64_t deadline_left(int64_t deadline);

/* The same as a timespec for ppoll(2) and futex(2), or NULL for no limit. */
const struct timespec *deadline_left_timespec(int64_t deadline, struct timespec *storage);

/* For waits that nothing announces: until when to sleep before the next look, 50 us at first, twice as long
 * each time, 10 ms at most, and not past the deadline. Set *step to 0 before the first. */
int64_t backoff_until(int64_t *step, int64_t deadline);

/* Sleeps so long. false: the deadline was already past, and it did not sleep. */
bool backoff_sleep(int64_t *step, int64_t deadline);

#endif
