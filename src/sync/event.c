/* SPDX-License-Identifier: MIT */
/*
 * The event: one futex word and no lock, so that setting it is a few instructions, safe in signal handlers,
 * and nothing to inherit when somebody dies.
 *
 *   state = turn << 3 | PULSED | SLEEPERS | SET
 *
 * I1  SET is the event. Auto-reset: who changes SET to not SET by compare-and-exchange is let through, so
 *     one set lets through one. Killed after that, a waiter has been let through.
 *
 * I2  `turn` grows with each set and pulse. Manual-reset: a waiter that finds another turn than it began
 *     with was waiting when it happened, and is let through though SET is gone again.
 *
 * I3  A waiter sleeps only on a word that has SLEEPERS and nothing for it, and only while it is unchanged.
 *     SLEEPERS is cleared only when all who slept were woken (manual), or when the kernel had none to wake
 *     and the word, turn included, is still what it was before asking (auto).
 *
 * I4  Auto-reset: SET with PULSED is there only for who began to wait in another turn, which is before the
 *     pulse. So it need not be taken back, neither if nobody waits, nor if the one who was woken is killed:
 *     nobody who comes later is let through by it. And it must not be: who was woken may be on its way.
 *
 * Killed between the change and the wake-up, or woken and killed before going on: being woken changes nothing
 * in the word, so what was set is still there, and the others find it when they look again after their nap
 * (futex.h).
 */
#include "naru/event.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "sync/futex.h"
#include "sync/head.h"
#include "sync/named.h"

struct event {
    struct head head;
    _Atomic uint32_t state;
    uint32_t manual; /* never changes */
    uint64_t reserved[5];
};

static_assert(sizeof(struct event) == sizeof(struct naru_event) && offsetof(struct event, state) == 16 &&
                  offsetof(struct event, manual) == 20,
              "the layout is shared between processes");

enum { SET = 1, SLEEPERS = 2, PULSED = 4, TURN = 8 };

static struct event *event_of(struct naru_event *event)
{
    return (struct event *)(void *)event;
}

static int init(void *object, void *argument)
{
    struct event *e = object;
    const enum naru_event_reset_mode *mode = argument;

    memset((void *)e, 0, sizeof *e);
    e->manual = *mode;
    head_finish(&e->head, NARU_SYNC_EVENT);
    return 0;
}

static int check_mode(enum naru_event_reset_mode mode)
{
    if (mode == NARU_EVENT_AUTO || mode == NARU_EVENT_MANUAL)
        return 0;
    return error_set(EINVAL, "event: expected NARU_EVENT_AUTO or NARU_EVENT_MANUAL, got %d", (int)mode);
}

int naru_event_init(struct naru_event *event, enum naru_event_reset_mode mode)
{
    int r = head_check_address(event, NARU_SYNC_EVENT);

    if (r == 0)
        r = check_mode(mode);
    return r < 0 ? r : init(event, &mode);
}

int naru_event_deinit(struct naru_event *event)
{
    struct event *e = event_of(event);
    int r = head_check(&e->head, NARU_SYNC_EVENT);

    if (r == 0)
        head_clear(&e->head);
    return r;
}

int naru_event_open(const char *name, const struct naru_sync_options *options,
                    enum naru_event_reset_mode mode, struct naru_event **ret_event)
{
    void *object;
    int r = check_mode(mode);

    if (r == 0)
        r = named_open(NARU_SYNC_EVENT, name, options, sizeof(struct event), init, &mode, &object);
    if (r < 0)
        return r;
    if (((struct event *)object)->manual != (uint32_t)mode) {
        named_close(object, sizeof(struct event));
        return error_set(EINVAL, "event '%s': it exists and is %s-reset; remove it first to change that",
                         name, mode == NARU_EVENT_AUTO ? "manual" : "auto");
    }
    *ret_event = object;
    return 0;
}

struct naru_event *naru_event_close(struct naru_event *event)
{
    if (event)
        named_close(event, sizeof(struct event));
    return NULL;
}

/* Changes the word to what next(word) says; the word it was. */
static uint32_t change(struct event *e, uint32_t (*next)(uint32_t state))
{
    uint32_t state =
        atomic_load_explicit(&e->state, memory_order_relaxed); /* only a guess for the exchange */

    /* [E1] release: pairs with [E2]; what was written before is seen by whom this lets through. */
    while (!atomic_compare_exchange_weak_explicit(&e->state, &state, next(state), memory_order_release,
                                                  memory_order_relaxed))
        ;
    return state;
}

/* In a new turn SLEEPERS goes when all are woken, which manual-reset does. */
static uint32_t set_manual(uint32_t state)
{
    return state & SET ? state : ((state + TURN) & ~(uint32_t)SLEEPERS) | SET;
}

static uint32_t set_auto(uint32_t state)
{
    return ((state + TURN) & ~(uint32_t)PULSED) | SET;
}

static uint32_t pulse_manual(uint32_t state)
{
    return (state + TURN) & ~(uint32_t)(SET | SLEEPERS);
}

static uint32_t pulse_auto(uint32_t state)
{
    return (state + TURN) | PULSED | SET;
}

static uint32_t not_set(uint32_t state)
{
    return state & ~(uint32_t)(SET | PULSED);
}

/* Wakes one; if there was none, the word has no SLEEPERS any more, unless it has changed. */
static void wake_one(struct event *e, uint32_t state)
{
    uint32_t nobody = state & ~(uint32_t)SLEEPERS;

    if (futex_wake(&e->state, 1) == 0)
        (void)atomic_compare_exchange_strong_explicit(&e->state, &state, nobody, memory_order_relaxed,
                                                      memory_order_relaxed); /* I3; publishes nothing new */
}

/* Lets waiters through, by a new turn; each mode has its own next state. */
static int let_go(struct event *e, uint32_t (*manual)(uint32_t state), uint32_t (*automatic)(uint32_t state))
{
    int r = head_check(&e->head, NARU_SYNC_EVENT);
    uint32_t state;

    if (r < 0)
        return r;
    if (e->manual) {
        if (change(e, manual) & SLEEPERS)
            (void)futex_wake(&e->state, INT_MAX);
        return 0;
    }
    state = automatic(change(e, automatic));
    if (state & SLEEPERS)
        wake_one(e, state);
    return 0;
}

int naru_event_set(struct naru_event *event)
{
    return let_go(event_of(event), set_manual, set_auto);
}

int naru_event_pulse(struct naru_event *event)
{
    return let_go(event_of(event), pulse_manual, pulse_auto);
}

int naru_event_reset(struct naru_event *event)
{
    struct event *e = event_of(event);
    int r = head_check(&e->head, NARU_SYNC_EVENT);

    if (r == 0)
        (void)change(e, not_set);
    return r;
}

/* Whether this state lets a waiter through who began in turn `first`. */
static bool let_through(struct event *e, uint32_t *state, uint32_t first)
{
    if (e->manual)
        return *state & SET || *state / TURN != first;
    while (*state & SET && !(*state & PULSED && *state / TURN == first)) /* I4 */
        /* [E2] acquire: pairs with [E1]. */
        if (atomic_compare_exchange_weak_explicit(&e->state, state, not_set(*state), memory_order_acquire,
                                                  memory_order_acquire))
            return true;
    return false;
}

int naru_event_wait(struct naru_event *event, int64_t timeout_ns)
{
    struct event *e = event_of(event);
    int r = head_check(&e->head, NARU_SYNC_EVENT);
    int64_t deadline = deadline_after(timeout_ns);
    struct nap nap = {0};
    uint32_t state, first;

    if (r < 0)
        return r;
    state = atomic_load_explicit(&e->state, memory_order_acquire); /* [E2] */
    first = state / TURN;
    for (;;) {
        if (let_through(e, &state, first))
            return 0;
        if (deadline == 0)
            return error_expected(EAGAIN);
        if (r == -ETIMEDOUT)
            return error_expected(ETIMEDOUT);
        /* acquire only for the failure, which reads the word anew [E2]; it announces nothing but a sleeper.
         */
        if (!(state & SLEEPERS) &&
            !atomic_compare_exchange_weak_explicit(&e->state, &state, state | SLEEPERS, memory_order_acquire,
                                                   memory_order_acquire))
            continue;
        r = nap_wait(&nap, &e->state, state | SLEEPERS, deadline);
        state = atomic_load_explicit(&e->state, memory_order_acquire); /* [E2] */
    }
}

int naru_event_is_set(const struct naru_event *event)
{
    const struct event *e = (const struct event *)(const void *)event;
    int r = head_check(&e->head, NARU_SYNC_EVENT);

    if (r < 0)
        return r;
    return (atomic_load_explicit(&e->state, memory_order_acquire) & (SET | PULSED)) == SET; /* [E2] */
}

int naru_event_mode(const struct naru_event *event)
{
    const struct event *e = (const struct event *)(const void *)event;
    int r = head_check(&e->head, NARU_SYNC_EVENT);

    if (r < 0)
        return r;
    return e->manual ? NARU_EVENT_MANUAL : NARU_EVENT_AUTO;
}
