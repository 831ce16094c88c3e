/* SPDX-License-Identifier: MIT */
/*
 * The barrier.
 *
 * I1  A round ends by one store, the next number in `round`; before it, `broken` has a bit saying how round
 *     number % 64 ended. Who waits remembers its round and goes when the number has moved on. (A waiter
 *     cannot be 64 rounds late: without it, or a member's death, the later ones do not end so often.)
 *
 * I2  What a slot says of arrivals counts only for the round it names, so a new round needs no clearing.
 *
 * I3  A process is a member from its first arrival until it leaves or is found dead, by somebody who waits.
 *     Found dead, it breaks the round for everybody in it: bit, round, slot, in this order. Who does that and
 *     is killed before the slot leaves a dead member, and the next round is broken too: told twice, which is
 *     better than never.
 */
#include "naru/barrier.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>

#include "base/clock.h"
#include "base/error.h"
#include "sync/monitor.h"
#include "sync/named.h"
#include "sync/owner.h"

struct member {
    struct holder process; /* count: 1; 0: a free slot */
    uint32_t round;        /* in which `arrived` counts */
    uint32_t arrived;      /* threads of it that wait */
};

struct barrier {
    struct monitor monitor;
    _Atomic uint32_t round;
    uint32_t parties; /* never changes */
    uint64_t broken;  /* bit n: the last round whose number % 64 is n was broken */
    uint32_t used;    /* slots below this are or were in use */
    uint32_t reserved;
    uint64_t reserved2;
    struct member members[NARU_BARRIER_MEMBERS];
    uint64_t reserved3[3];
};

static_assert(sizeof(struct barrier) == sizeof(struct naru_barrier) && sizeof(struct member) == 24 &&
                  offsetof(struct barrier, round) == 128 && offsetof(struct barrier, parties) == 132 &&
                  offsetof(struct barrier, broken) == 136 && offsetof(struct barrier, used) == 144 &&
                  offsetof(struct barrier, members) == 160,
              "the layout is shared between processes");

static struct barrier *barrier_of(struct naru_barrier *barrier)
{
    return (struct barrier *)(void *)barrier;
}

static uint32_t round_of(const struct barrier *b)
{
    return atomic_load_explicit(&b->round, memory_order_relaxed); /* inside the monitor, which orders */
}

static uint64_t bit_of(uint32_t round)
{
    return UINT64_C(1) << (round % 64);
}

static int init(void *object, void *argument)
{
    struct barrier *b = object;
    const uint32_t *parties = argument;

    monitor_init(&b->monitor, sizeof *b);
    b->parties = *parties;
    head_finish(&b->monitor.head, NARU_SYNC_BARRIER);
    return 0;
}

int naru_barrier_init(struct naru_barrier *barrier, uint32_t parties)
{
    int r = head_check_address(barrier, NARU_SYNC_BARRIER);

    if (r < 0)
        return r;
    if (parties == 0)
        return error_set(EINVAL, "barrier: expected one party or more");
    return init(barrier, &parties);
}

int naru_barrier_deinit(struct naru_barrier *barrier)
{
    struct barrier *b = barrier_of(barrier);
    int r = head_check(&b->monitor.head, NARU_SYNC_BARRIER);

    if (r == 0)
        head_clear(&b->monitor.head);
    return r;
}

static int init_named(void *object, void *argument)
{
    if (*(uint32_t *)argument == 0)
        return error_set(EINVAL, "barrier: to be made it needs one party or more");
    return init(object, argument);
}

int naru_barrier_open(const char *name, const struct naru_sync_options *options, uint32_t parties,
                      struct naru_barrier **ret_barrier)
{
    struct barrier *b;
    void *object;
    int r = named_open(NARU_SYNC_BARRIER, name, options, sizeof *b, init_named, &parties, &object);

    if (r < 0)
        return r;
    b = object;
    if (parties && b->parties != parties) {
        r = error_set(EINVAL, "barrier '%s': it exists for %" PRIu32 " parties, not %" PRIu32, name,
                      b->parties, parties);
        named_close(object, sizeof *b);
        return r;
    }
    *ret_barrier = object;
    return 0;
}

struct naru_barrier *naru_barrier_close(struct naru_barrier *barrier)
{
    if (barrier) {
        (void)naru_barrier_leave(barrier); /* a thread of ours that still waits is documented misuse */
        named_close(barrier, sizeof(struct barrier));
    }
    return NULL;
}

static uint32_t used(const struct barrier *b)
{
    return b->used < NARU_BARRIER_MEMBERS ? b->used : NARU_BARRIER_MEMBERS; /* anybody may have written it */
}

static struct member *find_member(struct barrier *b)
{
    for (uint32_t i = 0, end = used(b); i < end; i++)
        if (holder_count(&b->members[i].process) && holder_is(&b->members[i].process, owner_self()))
            return &b->members[i];
    return NULL;
}

/* This process's slot; NULL: all are in use. */
static struct member *become_member(struct barrier *b)
{
    struct member *member = find_member(b);
    uint32_t i = 0, end = used(b);

    if (member)
        return member;
    while (i < end && holder_count(&b->members[i].process))
        i++;
    if (i == NARU_BARRIER_MEMBERS)
        return NULL;
    member = &b->members[i];
    holder_commit(&member->process, 0);
    member->process.pid = owner_self().pid;
    member->process.start = owner_self().start;
    member->round = round_of(b);
    member->arrived = 0;
    if (i == end)
        b->used = end + 1;
    holder_commit(&member->process, 1);
    return member;
}

static uint64_t count_arrived(const struct barrier *b)
{
    uint64_t arrived = 0;

    for (uint32_t i = 0, end = used(b); i < end; i++)
        if (holder_count(&b->members[i].process) && b->members[i].round == round_of(b))
            arrived += b->members[i].arrived;
    return arrived;
}

/* I1: the one store. */
static void next_round(struct barrier *b)
{
    atomic_store_explicit(&b->round, round_of(b) + 1, memory_order_release); /* after the bit; see I3 */
}

static bool is_dead(const struct member *member)
{
    return holder_count(&member->process) && owner_is_dead(holder_owner(&member->process));
}

/* I3. Whether a member was dead, and the round is over. */
static bool break_if_dead(struct barrier *b, bool urgent)
{
    int64_t begun = monitor_look_begin(&b->monitor, urgent);
    uint32_t end = used(b), i = 0;

    if (begun == 0)
        return false;
    while (i < end && !is_dead(&b->members[i]))
        i++;
    monitor_look_end(&b->monitor, begun);
    if (i == end)
        return false;
    b->broken |= bit_of(round_of(b));
    next_round(b);
    for (; i < end; i++)
        if (is_dead(&b->members[i]))
            holder_commit(&b->members[i].process, 0);
    return true;
}

static int broken(void)
{
    return error_set(EOWNERDEAD, "a member of the barrier died (or ended without naru_barrier_leave()): this "
                                 "round is over for all");
}

/* Arrives: 1 if that made the round complete, 0 to wait, or -errno. */
static int arrive(struct barrier *b)
{
    struct member *member = become_member(b);

    if (!member)
        return error_set(EUSERS, "the barrier has %d member processes already", NARU_BARRIER_MEMBERS);
    if (member->round != round_of(b)) {
        member->arrived = 0;
        member->round = round_of(b);
    }
    member->arrived++;
    if (count_arrived(b) < b->parties)
        return 0;
    b->broken &= ~bit_of(round_of(b));
    next_round(b);
    return 1;
}

/* Waits inside the monitor until our round is over, one way or another. */
static int wait_for_round(struct barrier *b, uint32_t mine, int64_t deadline)
{
    struct nap nap = {0};
    int r = 0;

    while (round_of(b) == mine) {
        struct member *member;

        if (monitor_should_look(r, deadline) && break_if_dead(b, r != 1)) {
            monitor_exit_and_wake(&b->monitor, INT_MAX);
            return broken();
        }
        if (deadline == 0)
            r = error_expected(EAGAIN);
        if (monitor_timed_out(r)) {
            member = find_member(b);
            if (member && member->round == mine && member->arrived > 0)
                member->arrived--;
            monitor_exit(&b->monitor);
            return r;
        }
        r = monitor_sleep(&b->monitor, NARU_SYNC_BARRIER, &nap, deadline, NARU_FOREVER);
        if (r < 0 && !monitor_timed_out(r))
            return r;
    }
    r = b->broken & bit_of(mine) ? 1 : 0;
    monitor_exit(&b->monitor);
    return r ? broken() : 0;
}

int naru_barrier_wait(struct naru_barrier *barrier, int64_t timeout_ns)
{
    struct barrier *b = barrier_of(barrier);
    int64_t deadline = deadline_after(timeout_ns);
    uint32_t mine;
    int r = monitor_enter(&b->monitor, NARU_SYNC_BARRIER, deadline);

    if (r < 0)
        return r;
    mine = round_of(b);
    /* Who waits looks later, and who completes the round does not: those who died in it had arrived. */
    if (deadline == 0 && break_if_dead(b, true)) {
        monitor_exit_and_wake(&b->monitor, INT_MAX);
        return broken();
    }
    r = arrive(b);
    if (r == 0)
        return wait_for_round(b, mine, deadline);
    if (r == -EUSERS && break_if_dead(b, true)) { /* the dead, whom nobody has missed yet, took the room */
        monitor_exit_and_wake(&b->monitor, INT_MAX);
        return broken();
    }
    if (r == 1)
        monitor_exit_and_wake(&b->monitor, INT_MAX);
    else
        monitor_exit(&b->monitor);
    return r;
}

int naru_barrier_leave(struct naru_barrier *barrier)
{
    struct barrier *b = barrier_of(barrier);
    struct member *member;
    int r = monitor_enter(&b->monitor, NARU_SYNC_BARRIER, NARU_FOREVER);

    if (r < 0)
        return r;
    member = find_member(b);
    if (member && member->round == round_of(b) && member->arrived > 0)
        r = error_set(EBUSY, "a thread of this process waits at the barrier");
    else if (member)
        holder_commit(&member->process, 0);
    monitor_exit(&b->monitor);
    return r;
}
