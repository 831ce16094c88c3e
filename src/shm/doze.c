/* SPDX-License-Identifier: MIT */
/* Sleeping on a word, and waking those who do. */
#include "shm/doze.h"

#include <errno.h>
#include <limits.h>

#include "base/clock.h"
#include "base/error.h"
#include "sync/futex.h"

void doze_ring(_Atomic uint32_t *asleep, uint32_t found)
{
    /* No exchange is needed: while it is odd, sleepers do not change it. futex(2) reads it under a lock. */
    atomic_store_explicit(asleep, found + 1, memory_order_relaxed);
    (void)futex_wake(asleep, INT_MAX);
}

int doze_until(_Atomic uint32_t *asleep, int (*look)(void *argument), void *argument, int64_t timeout_ns)
{
    int64_t deadline = deadline_after(timeout_ns);
    struct nap nap = {0};
    int r = look(argument), slept = 0;

    while (r == -EAGAIN && deadline != 0 && slept != -ETIMEDOUT) {
        uint32_t armed = doze_arm(asleep);

        r = look(argument);
        if (r == -EAGAIN) {
            slept = nap_wait(&nap, asleep, armed, deadline);
            r = look(argument);
        }
    }
    return r == -EAGAIN ? error_expected(slept == -ETIMEDOUT ? ETIMEDOUT : EAGAIN) : r;
}
