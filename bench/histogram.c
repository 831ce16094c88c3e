/* SPDX-License-Identifier: MIT */
/* The log-linear histogram: the bucket of a value is its highest set bit and the seven bits below that. */
#include "bench/histogram.h"

static unsigned bucket_of(uint64_t value)
{
    unsigned octave, bucket;

    if (value < HISTOGRAM_FINE)
        return (unsigned)value;
    octave = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_FINE_BITS;
    bucket = ((octave + 1) << HISTOGRAM_FINE_BITS) + ((unsigned)(value >> octave) & (HISTOGRAM_FINE - 1));
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_top(unsigned bucket)
{
    unsigned octave = bucket >> HISTOGRAM_FINE_BITS;
    uint64_t fine = bucket & (HISTOGRAM_FINE - 1);

    if (octave == 0)
        return fine;
    return ((fine + HISTOGRAM_FINE + 1) << (octave - 1)) - 1;
}

void histogram_record(struct histogram *h, uint64_t value)
{
    h->buckets[bucket_of(value)]++;
    if (h->count == 0 || value < h->minimum)
        h->minimum = value;
    if (value > h->maximum)
        h->maximum = value;
    h->sum += value;
    h->count++;
}

void histogram_merge(struct histogram *h, const struct histogram *from)
{
    if (from->count == 0)
        return;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        h->buckets[i] += from->buckets[i];
    if (h->count == 0 || from->minimum < h->minimum)
        h->minimum = from->minimum;
    if (from->maximum > h->maximum)
        h->maximum = from->maximum;
    h->sum += from->sum;
    h->count += from->count;
}

uint64_t histogram_quantile(const struct histogram *h, double q)
{
    double exact = q * (double)h->count;
    uint64_t rank = exact < 1 ? 1 : (uint64_t)exact, seen = 0;

    if (h->count == 0)
        return 0;
    if ((double)rank < exact)
        rank++;
    if (rank >= h->count)
        return h->maximum;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= rank) {
            uint64_t top = bucket_top(i);

            return top < h->maximum ? (top > h->minimum ? top : h->minimum) : h->maximum;
        }
    }
    return h->maximum;
}

double histogram_mean(const struct histogram *h)
{
    return h->count ? (double)h->sum / (double)h->count : 0;
}
