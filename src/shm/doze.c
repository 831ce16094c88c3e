/* SPDX-License-Identifier: MIT */
/* Waking those who sleep on a word: the part that is rare. */
#include "shm/doze.h"

#include <limits.h>

void doze_ring(_Atomic uint32_t *asleep, uint32_t found)
{
    /* No exchange is needed: while it is odd, sleepers do not change it. futex(2) reads it under a lock. */
    atomic_store_explicit(asleep, found + 1, memory_order_relaxed);
    (void)futex_wake(asleep, INT_MAX);
}
