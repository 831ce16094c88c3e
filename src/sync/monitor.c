/* SPDX-License-Identifier: MIT */
/* A robust lock and a futex word around an object's state; the invariants stand in monitor.h. */
#include "sync/monitor.h"

#include <limits.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"

void monitor_init(struct monitor *monitor, size_t size)
{
    memset((void *)monitor, 0, size);
    lock_init(&monitor->lock);
}

static int enter_failed(int r, enum naru_sync_kind kind)
{
    const char *name = naru_sync_kind_name(kind);

    if (r == -EDEADLK)
        return error_set(EDEADLK,
                         "the %s is being used by the very thread that calls: it cannot be used in a signal "
                         "handler that interrupted another call on it",
                         name);
    return error_set(-r, "the memory of the %s was overwritten: its lock makes no sense any more", name);
}

/* Who is inside is out again in microseconds, unless he was stopped there, or the memory was overwritten. */
#define PATIENCE NARU_S(1)

static int stayed_out(enum naru_sync_kind kind, int64_t deadline)
{
    return error_set(
        deadline == 0 ? EAGAIN : ETIMEDOUT,
        "a process inside a call on the %s does not end it and keeps the others out: it was stopped "
        "there (SIGSTOP), or the memory was overwritten",
        naru_sync_kind_name(kind));
}

int monitor_enter(struct monitor *monitor, enum naru_sync_kind kind, int64_t deadline)
{
    int r = head_check(&monitor->head, kind);

    if (r < 0)
        return r;
    r = lock_take(&monitor->lock, 0); /* what is free needs no clock */
    if (r == -EAGAIN) {
        int64_t least = deadline == NARU_FOREVER ? NARU_FOREVER : deadline_after(PATIENCE);

        r = lock_take(&monitor->lock, deadline > least ? deadline : least);
    }
    if (r == -ETIMEDOUT)
        return stayed_out(kind, deadline);
    /* I1: whoever died inside left nothing to repair. What it may have left undone is a wake-up, and those
     * who miss it look again after their nap. */
    if (r == -EOWNERDEAD)
        r = lock_consistent(&monitor->lock);
    return r < 0 ? enter_failed(r, kind) : 0;
}

void monitor_exit(struct monitor *monitor)
{
    (void)lock_give(&monitor->lock); /* ours; if it was overwritten meanwhile, the next to enter will see */
}

void monitor_exit_and_wake(struct monitor *monitor, int count)
{
    /* relaxed: the lock orders this; the kernel compares the word only to decide about sleeping (I2). */
    uint32_t sleepers = atomic_load_explicit(&monitor->sleepers, memory_order_relaxed);

    (void)atomic_fetch_add_explicit(&monitor->changed, 1, memory_order_relaxed);
    monitor_exit(monitor);
    /* After leaving, or those woken would run into the lock. */
    if (sleepers && futex_wake(&monitor->changed, count) < count)
        (void)atomic_compare_exchange_strong_explicit(&monitor->sleepers, &sleepers, 0, memory_order_relaxed,
                                                      memory_order_relaxed); /* I3; a hint needs no order */
}

int monitor_sleep(struct monitor *monitor, enum naru_sync_kind kind, struct nap *nap, int64_t deadline,
                  int64_t enter_deadline)
{
    uint32_t seen = atomic_load_explicit(&monitor->changed, memory_order_relaxed); /* inside: ordered */
    int r, entered;

    monitor->last_sleeper += monitor->last_sleeper == UINT32_MAX ? 2 : 1;                   /* never 0 */
    atomic_store_explicit(&monitor->sleepers, monitor->last_sleeper, memory_order_relaxed); /* inside */
    monitor_exit(monitor);
    r = nap_wait(nap, &monitor->changed, seen, deadline);
    entered = monitor_enter(monitor, kind, enter_deadline);
    if (entered < 0)
        return monitor_timed_out(entered) ? MONITOR_STAYED_OUT : entered;
    return r == -ETIMEDOUT ? error_expected(ETIMEDOUT) : r;
}

int64_t monitor_look_begin(struct monitor *monitor, bool urgent)
{
    int64_t now = clock_now(), again = monitor->look_again_at;

    /* A time that is far off is none of ours: overwritten. */
    return urgent || now >= again || again - now > NARU_S(1) ? now : 0;
}

void monitor_look_end(struct monitor *monitor, int64_t begun)
{
    int64_t now = clock_now(), again;

    if (__builtin_mul_overflow(now - begun, 15, &again) || again > NARU_MS(500))
        again = NARU_MS(500);
    monitor->look_again_at = now + again;
}
