/* SPDX-License-Identifier: MIT */
/* The median of groups. */
#include "bench/groups.h"

#include <stdlib.h>

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

double groups_median(struct groups *g)
{
    size_t n = g->count < GROUPS_MAX ? g->count : GROUPS_MAX;

    if (n == 0)
        return 0;
    qsort(g->ns, n, sizeof *g->ns, by_time);
    return (double)g->ns[n / 2];
}
