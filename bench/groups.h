/* SPDX-License-Identifier: MIT */
/*
 * What fast messages usually take. A message of 100 ns cannot be timed alone, as reading the clock takes a
 * quarter of that; and the mean of a whole run says how often another program had the CPU. So many messages
 * are timed together, again and again, and the median group counts.
 */
#ifndef BENCH_GROUPS_H
#define BENCH_GROUPS_H

#include <stddef.h>
#include <stdint.h>

struct groups {
    int64_t *ns;  /* of each; the caller's memory, [GROUPS_MAX] */
    size_t count; /* noted; the last GROUPS_MAX of them count */
};

enum { GROUPS_MAX = 1 << 13 };

static inline void groups_note(struct groups *g, int64_t ns)
{
    g->ns[g->count++ % GROUPS_MAX] = ns;
}

/* The median of them; 0 if there are none. Sorts them. */
double groups_median(struct groups *g);

#endif
