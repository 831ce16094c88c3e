/* SPDX-License-Identifier: MIT */
/* Deadlines over CLOCK_MONOTONIC. */
#include "base/clock.h"

enum { NS_PER_S = 1000000000 };

int64_t clock_now(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail: the clock exists and the pointer is ours */
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

uint32_t clock_tick(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now); /* cannot fail: the clock exists */
    return (uint32_t)(now.tv_sec * 1000 + now.tv_nsec / (1000 * 1000));
}

int64_t deadline_after(int64_t timeout_ns)
{
    int64_t deadline;

    if (timeout_ns == NARU_FOREVER)
        return NARU_FOREVER;
    if (timeout_ns <= 0)
        return 0;
    if (__builtin_add_overflow(clock_now(), timeout_ns, &deadline))
        return NARU_FOREVER;
    return deadline;
}

int64_t deadline_left(int64_t deadline)
{
    int64_t now;

    if (deadline == NARU_FOREVER || deadline == 0)
        return deadline;
    now = clock_now();
    return deadline > now ? deadline - now : 0;
}

const struct timespec *deadline_left_timespec(int64_t deadline, struct timespec *storage)
{
    int64_t left = deadline_left(deadline);

    if (left == NARU_FOREVER)
        return NULL;
    storage->tv_sec = left / NS_PER_S;
    storage->tv_nsec = left % NS_PER_S;
    return storage;
}

int64_t backoff_until(int64_t *step, int64_t deadline)
{
    int64_t left = deadline_left(deadline);

    *step = *step == 0 ? NARU_US(50) : *step < NARU_MS(5) ? *step * 2 : NARU_MS(10);
    return *step < left ? clock_now() + *step : deadline;
}

bool backoff_sleep(int64_t *step, int64_t deadline)
{
    struct timespec end;
    int64_t until;

    if (deadline_left(deadline) == 0)
        return false;
    until = backoff_until(step, deadline);
    end.tv_sec = (time_t)(until / NARU_S(1));
    end.tv_nsec = (long)(until % NARU_S(1));
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end,
                          NULL); /* woken early: the caller looks once more, no harm */
    return true;
}
