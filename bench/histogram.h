/* SPDX-License-Identifier: MIT */
/*
 * A log-linear histogram of durations: each power of two is cut into 128 equal buckets, so that a quantile is
 * never off by more than 1/128 (0.8 %) of itself, at a fixed 36 KiB and a few instructions for each value.
 * It holds no pointers, so it can lie in shared memory and be filled by another process.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_FINE_BITS = 7,
    HISTOGRAM_FINE = 1 << HISTOGRAM_FINE_BITS,
    HISTOGRAM_OCTAVES = 36, /* up to 2^42 ns, more than an hour; longer counts as that */
    HISTOGRAM_BUCKETS = HISTOGRAM_OCTAVES * HISTOGRAM_FINE
};

/* All zero is an empty one. */
struct histogram {
    uint64_t count, sum, minimum, maximum; /* the last three are exact */
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_record(struct histogram *h, uint64_t value);

/* Adds what `from` holds. */
void histogram_merge(struct histogram *h, const struct histogram *from);

/* The value below or at which the fraction q of all values lies: 0.5 is the median, 1 the maximum.
 * 0 if it is empty. */
uint64_t histogram_quantile(const struct histogram *h, double q);

double histogram_mean(const struct histogram *h); /* 0 if empty */

#endif
