/* SPDX-License-Identifier: MIT */
/* Deadlines. Nothing here asserts how long something takes, only that it does not end early. */
#include "base/clock.h"

#include "runner.h"

TEST(the_clock_does_not_go_back)
{
    int64_t before = clock_now();

    CHECK(before > 0);
    CHECK(clock_now() >= before);
}

TEST(special_timeouts_make_special_deadlines)
{
    CHECK(deadline_after(NARU_FOREVER) == NARU_FOREVER);
    CHECK(deadline_after(NARU_FOREVER - 1) == NARU_FOREVER); /* would overflow */
    CHECK(deadline_after(NARU_NOWAIT) == 0);
    CHECK(deadline_after(-5) == 0);
    CHECK(deadline_after(INT64_MIN) == 0);
}

TEST(a_deadline_is_a_point_of_the_monotonic_clock)
{
    int64_t before = clock_now();
    int64_t deadline = deadline_after(NARU_S(5));

    CHECK(deadline >= before + NARU_S(5));
    CHECK(deadline <= clock_now() + NARU_S(5));
}

TEST(what_is_left_never_falls_below_zero)
{
    CHECK(deadline_left(NARU_FOREVER) == NARU_FOREVER);
    CHECK(deadline_left(0) == 0);
    CHECK(deadline_left(1) == 0); /* long past */
    CHECK(deadline_left(clock_now() + NARU_S(100)) > NARU_S(90));
    CHECK(deadline_left(clock_now() + NARU_S(100)) <= NARU_S(100));
}

TEST(a_timespec_is_null_for_no_limit)
{
    struct timespec storage;
    const struct timespec *left;

    CHECK(deadline_left_timespec(NARU_FOREVER, &storage) == NULL);
    left = deadline_left_timespec(0, &storage);
    CHECK(left && left->tv_sec == 0 && left->tv_nsec == 0);
    left = deadline_left_timespec(clock_now() + NARU_S(100), &storage);
    CHECK(left && left->tv_sec >= 90 && left->tv_sec <= 100);
    CHECK(left->tv_nsec >= 0 && left->tv_nsec < NARU_S(1));
}

TEST(backing_off_doubles_up_to_ten_milliseconds)
{
    int64_t step = 0, expected = NARU_US(50);

    for (int i = 0; i < 10; i++) {
        int64_t before = clock_now();

        CHECK(backoff_sleep(&step, NARU_FOREVER));
        CHECK_INT(step, expected);
        CHECK(clock_now() - before >= step); /* no signal comes here to end it early */
        expected = expected * 2 < NARU_MS(10) ? expected * 2 : NARU_MS(10);
    }
}

TEST(backing_off_ends_at_the_deadline)
{
    int64_t step = 0;
    int64_t deadline = deadline_after(NARU_MS(3));

    CHECK(!backoff_sleep(&step, 0));
    CHECK_INT(step, 0);
    while (backoff_sleep(&step, deadline))
        CHECK(step <= NARU_MS(10));
    CHECK(clock_now() >= deadline);
}
