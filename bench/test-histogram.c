/* SPDX-License-Identifier: MIT */
/* The histogram: nothing lost, quantiles within the promised 1/128, extremes exact. */
#include "bench/histogram.h"

#include <string.h>

#include "runner.h"

static struct histogram h, other;

TEST(an_empty_histogram_says_zero)
{
    CHECK_INT(histogram_quantile(&h, 0.5), 0);
    CHECK_INT(histogram_quantile(&h, 1), 0);
    CHECK(histogram_mean(&h) == 0);
}

TEST(one_value_is_every_quantile)
{
    histogram_record(&h, 123456789);
    CHECK_INT(histogram_quantile(&h, 0), 123456789);
    CHECK_INT(histogram_quantile(&h, 0.5), 123456789);
    CHECK_INT(histogram_quantile(&h, 1), 123456789);
    CHECK_INT(h.minimum, 123456789);
    CHECK_INT(h.maximum, 123456789);
}

TEST(small_values_are_exact)
{
    for (uint64_t value = 1; value <= 100; value++)
        histogram_record(&h, value);
    CHECK_INT(histogram_quantile(&h, 0.01), 1);
    CHECK_INT(histogram_quantile(&h, 0.5), 50);
    CHECK_INT(histogram_quantile(&h, 0.99), 99);
    CHECK_INT(histogram_quantile(&h, 1), 100);
    CHECK(histogram_mean(&h) == 50.5);
}

/* Each value alone with one larger: the median is the smaller, within 1/128 above it. */
TEST(a_quantile_is_off_by_less_than_a_128th)
{
    for (unsigned bits = 0; bits < 42; bits++)
        for (uint64_t offset = 0; offset < 3; offset++) {
            uint64_t value = (UINT64_C(1) << bits) + offset * (UINT64_C(1) << bits) / 5, seen;

            memset(&h, 0, sizeof h);
            histogram_record(&h, value);
            histogram_record(&h, UINT64_C(1) << 62);
            seen = histogram_quantile(&h, 0.5);
            CHECK(seen >= value && seen <= value + value / 128);
        }
}

TEST(what_is_too_long_counts_as_longest_and_the_maximum_stays_exact)
{
    histogram_record(&h, UINT64_MAX);
    histogram_record(&h, 1);
    CHECK_INT(h.count, 2);
    CHECK(histogram_quantile(&h, 1) == UINT64_MAX);
    CHECK_INT(histogram_quantile(&h, 0.5), 1);
}

TEST(merging_is_recording_all_values)
{
    static struct histogram both;

    for (uint64_t value = 1; value < 100000; value += 7) {
        histogram_record(value % 2 ? &h : &other, value * value);
        histogram_record(&both, value * value);
    }
    histogram_merge(&h, &other);
    CHECK(memcmp(&h, &both, sizeof h) == 0);
}

TEST(merging_with_an_empty_one_changes_nothing)
{
    static struct histogram before;

    histogram_record(&h, 42);
    before = h;
    histogram_merge(&h, &other);
    CHECK(memcmp(&h, &before, sizeof h) == 0);
    histogram_merge(&other, &h);
    CHECK(memcmp(&other, &before, sizeof h) == 0);
}
