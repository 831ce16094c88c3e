/* SPDX-License-Identifier: MIT */
/* The robust lock underneath, in memory that somebody has written over. */
#include "sync/lock.h"

#include <errno.h>
#include <linux/futex.h>

#include "base/clock.h"
#include "naru/error.h"
#include "naru/semaphore.h"
#include "runner.h"
#include "sync/monitor.h"

/* A holder that there is not is nobody's to wake us: found out, also by who would wait for ever. */
TEST(a_lock_whose_holder_was_overwritten_is_no_lock_any_more)
{
    static const uint32_t words[] = {FUTEX_TID_MASK, FUTEX_WAITERS | FUTEX_TID_MASK, FUTEX_WAITERS};
    static const int64_t timeouts[] = {NARU_S(60), NARU_FOREVER};
    struct lock lock;

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        for (size_t j = 0; j < sizeof timeouts / sizeof *timeouts; j++) {
            lock_init(&lock);
            lock.u.mutex.__data.__lock = (int)words[i];
            CHECK_INT(lock_take(&lock, NARU_NOWAIT), -EAGAIN);
            CHECK_INT(lock_take(&lock, deadline_after(timeouts[j])), -EPROTO);
        }
}

/* A semaphore's inner lock: even NARU_NOWAIT comes back. */
TEST(an_object_whose_inner_lock_was_overwritten_says_so)
{
    union {
        struct naru_semaphore semaphore;
        struct monitor monitor;
    } u;

    CHECK_INT(naru_semaphore_init(&u.semaphore, 1, 1), 0);
    u.monitor.lock.u.mutex.__data.__lock = (int)FUTEX_TID_MASK;
    CHECK_INT(naru_semaphore_acquire(&u.semaphore, NARU_NOWAIT), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "overwritten");
}
