/* SPDX-License-Identifier: MIT */
/* Bells that are words of shared memory. */
#include "shm/bell.h"

#include <errno.h>

#include "base/clock.h"
#include "sync/futex.h"

int64_t bell_slice_ns = BELL_SLICE_NS;

void bell_ring(struct waker *w)
{
    /* release: whoever is awake by it sees what it was rung for, without another barrier. */
    atomic_store_explicit(w->bell, w->seen, memory_order_release);
    (void)futex_wake(w->bell, 1);
}

static bool is_rung(const struct sleeper *s, uint32_t *ret_word)
{
    *ret_word = atomic_load_explicit(s->bell, memory_order_acquire); /* pairs with bell_ring() */
    return *ret_word == s->last && s->last != 0;
}

int bell_take(struct sleeper *s)
{
    uint32_t word;

    if (sleeper_is_armed(s) && is_rung(s, &word)) {
        sleeper_disarm(s);
        return 0;
    }
    return s->is_gone(s->peer) ? 1 : -EAGAIN;
}

/* Whoever sleeps wakes before its time for a signal, too, and comes again: it is the time to ask that counts,
 * and not how long one sleep lasted. */
static bool is_time_to_ask(struct sleeper *s, int64_t now)
{
    bool is_time = s->ask_at != 0 && now >= s->ask_at;

    if (is_time || s->ask_at == 0)
        s->ask_at = now + bell_slice_ns;
    return is_time;
}

int bell_sleep(struct sleeper *s, int64_t deadline)
{
    for (;;) {
        int64_t now = clock_now(), until;
        uint32_t word;

        if (is_rung(s, &word))
            return 0;
        if (is_time_to_ask(s, now) && s->is_gone(s->peer))
            return 1;
        if (now >= deadline)
            return -ETIMEDOUT;
        until = s->unsure ? now + WAKEUP_SLICE_NS : s->ask_at;
        if (futex_wait(s->bell, word, until < deadline ? until : deadline) == 0 || s->unsure)
            return 0;
    }
}
