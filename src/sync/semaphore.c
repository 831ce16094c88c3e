/* SPDX-License-Identifier: MIT */
/*
 * naru's semaphore: units, and a table of the processes that hold some.
 *
 * I1  The units free are total minus what the table's slots hold. Acquiring adds to a slot, waiting takes
 *     from total, and so on: each operation is one store, so no unit is ever lost or made by a death
 *     (monitor.h).
 * I2  A slot whose process is dead is freed by whoever finds nothing free for a whole nap, so its units come
 *     back to those who need them. Who could take something does not spend the time.
 *
 * The numbers may have been overwritten: they are added in 64 bits and compared, never believed to add up.
 */
#include "naru/semaphore.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/sized.h"
#include "sync/monitor.h"
#include "sync/named.h"
#include "sync/owner.h"

struct semaphore {
    struct monitor monitor;
    _Atomic uint64_t total; /* units free and held */
    uint64_t recovered;     /* units that came back from the dead */
    uint32_t maximum;       /* never changes */
    uint32_t used;          /* slots below this are or were in use */
    uint64_t reserved;
    struct holder holders[NARU_SEMAPHORE_HOLDERS];
};

static_assert(sizeof(struct semaphore) == sizeof(struct naru_semaphore) &&
                  offsetof(struct semaphore, total) == 128 && offsetof(struct semaphore, recovered) == 136 &&
                  offsetof(struct semaphore, maximum) == 144 && offsetof(struct semaphore, used) == 148 &&
                  offsetof(struct semaphore, holders) == 160 && sizeof(struct holder) == 16,
              "the layout is shared between processes");

struct values {
    uint32_t value, maximum;
};

static struct semaphore *semaphore_of(struct naru_semaphore *semaphore)
{
    return (struct semaphore *)(void *)semaphore;
}

static struct holders table_of(struct semaphore *s)
{
    return (struct holders){s->holders, NARU_SEMAPHORE_HOLDERS, &s->used};
}

static uint64_t total_of(const struct semaphore *s)
{
    return atomic_load_explicit(&s->total, memory_order_relaxed); /* inside the monitor, which orders */
}

/* I1: the one store. */
static void set_total(struct semaphore *s, uint64_t total)
{
    atomic_store_explicit(&s->total, total, memory_order_relaxed); /* inside the monitor, which orders */
}

static int init(void *object, void *argument)
{
    struct semaphore *s = object;
    const struct values *values = argument;

    monitor_init(&s->monitor, sizeof *s);
    set_total(s, values->value);
    s->maximum = values->maximum ? values->maximum : UINT32_MAX;
    head_finish(&s->monitor.head, NARU_SYNC_SEMAPHORE);
    return 0;
}

static int check_values(const struct values *values)
{
    if (values->maximum == 0 || values->value <= values->maximum)
        return 0;
    return error_set(EINVAL, "semaphore: %" PRIu32 " units at first are more than its maximum of %" PRIu32,
                     values->value, values->maximum);
}

int naru_semaphore_init(struct naru_semaphore *semaphore, uint32_t value, uint32_t maximum)
{
    struct values values = {value, maximum};
    int r = head_check_address(semaphore, NARU_SYNC_SEMAPHORE);

    if (r == 0)
        r = check_values(&values);
    return r < 0 ? r : init(semaphore, &values);
}

int naru_semaphore_deinit(struct naru_semaphore *semaphore)
{
    struct semaphore *s = semaphore_of(semaphore);
    int r = head_check(&s->monitor.head, NARU_SYNC_SEMAPHORE);

    if (r == 0)
        head_clear(&s->monitor.head);
    return r;
}

int naru_semaphore_open(const char *name, const struct naru_sync_options *options, uint32_t value,
                        uint32_t maximum, struct naru_semaphore **ret_semaphore)
{
    struct values values = {value, maximum};
    struct semaphore *s;
    void *object;
    int r = check_values(&values);

    if (r == 0)
        r = named_open(NARU_SYNC_SEMAPHORE, name, options, sizeof *s, init, &values, &object);
    if (r < 0)
        return r;
    s = object;
    if (maximum && s->maximum != maximum) {
        r = error_set(EINVAL, "semaphore '%s': it exists with a maximum of %" PRIu32 ", not %" PRIu32, name,
                      s->maximum, maximum);
        named_close(object, sizeof *s);
        return r;
    }
    *ret_semaphore = object;
    return 0;
}

struct naru_semaphore *naru_semaphore_close(struct naru_semaphore *semaphore)
{
    if (semaphore)
        named_close(semaphore, sizeof(struct semaphore));
    return NULL;
}

static uint64_t free_units(struct semaphore *s)
{
    struct holders table = table_of(s);
    uint64_t held = holders_sum(&table, NULL), total = total_of(s);

    return held < total ? total - held : 0;
}

/* I2. Whether anything came back. */
static bool recover(struct semaphore *s, bool urgent)
{
    struct holders table = table_of(s);
    int64_t begun = monitor_look_begin(&s->monitor, urgent);
    uint64_t units;

    if (begun == 0)
        return false;
    units = holders_reap(&table);
    monitor_look_end(&s->monitor, begun);
    s->recovered += units; /* killed before this, a number for people is too low */
    return units > 0;
}

static bool take_held(struct semaphore *s)
{
    struct holders table = table_of(s);
    struct holder *slot = free_units(s) ? holders_claim(&table, owner_self()) : NULL;

    if (!slot || holder_count(slot) == UINT32_MAX)
        return false;
    holder_commit(slot, holder_count(slot) + 1);
    return true;
}

static bool take_for_good(struct semaphore *s)
{
    if (free_units(s) == 0)
        return false;
    set_total(s, total_of(s) - 1);
    return true;
}

static int take(struct naru_semaphore *semaphore, bool (*try)(struct semaphore *s), int64_t timeout_ns)
{
    struct semaphore *s = semaphore_of(semaphore);
    int64_t deadline = deadline_after(timeout_ns);
    struct nap nap = {0};
    int r = monitor_enter(&s->monitor, NARU_SYNC_SEMAPHORE, deadline);

    if (r < 0)
        return r;
    for (;;) {
        bool recovered = false, taken = try(s);

        if (!taken && monitor_should_look(r, deadline)) {
            recovered = recover(s, r != 1);
            taken = recovered && try(s);
        }
        if (taken) {
            /* Several units may have come back at once: they are for the others who sleep. */
            if (recovered)
                monitor_exit_and_wake(&s->monitor, INT_MAX);
            else
                monitor_exit(&s->monitor);
            return 0;
        }
        if (deadline == 0)
            r = error_expected(EAGAIN);
        if (monitor_timed_out(r)) {
            monitor_exit(&s->monitor);
            return r;
        }
        r = monitor_sleep(&s->monitor, NARU_SYNC_SEMAPHORE, &nap, deadline, deadline);
        if (r < 0 && !monitor_timed_out(r))
            return r == MONITOR_STAYED_OUT ? -ETIMEDOUT : r;
    }
}

int naru_semaphore_acquire(struct naru_semaphore *semaphore, int64_t timeout_ns)
{
    return take(semaphore, take_held, timeout_ns);
}

int naru_semaphore_wait(struct naru_semaphore *semaphore, int64_t timeout_ns)
{
    return take(semaphore, take_for_good, timeout_ns);
}

int naru_semaphore_release(struct naru_semaphore *semaphore)
{
    struct semaphore *s = semaphore_of(semaphore);
    struct holders table = table_of(s);
    struct holder *slot;
    int r = monitor_enter(&s->monitor, NARU_SYNC_SEMAPHORE, NARU_FOREVER);

    if (r < 0)
        return r;
    slot = holders_find(&table, owner_self());
    if (!slot) {
        monitor_exit(&s->monitor);
        return error_set(EPERM,
                         "this process holds no unit of the semaphore; naru_semaphore_post() adds one");
    }
    holder_commit(slot, holder_count(slot) - 1);
    /* The last unit of a process also frees its slot, which others may wait for when the table is full. */
    monitor_exit_and_wake(&s->monitor, 1);
    return 0;
}

int naru_semaphore_post(struct naru_semaphore *semaphore, uint32_t count)
{
    struct semaphore *s = semaphore_of(semaphore);
    uint64_t total;
    int r = monitor_enter(&s->monitor, NARU_SYNC_SEMAPHORE, NARU_FOREVER);

    if (r < 0)
        return r;
    total = total_of(s);
    if (total > s->maximum || count > s->maximum - total) {
        uint32_t maximum = s->maximum;

        monitor_exit(&s->monitor);
        return error_set(EOVERFLOW,
                         "the semaphore has %" PRIu64 " units of at most %" PRIu32 ", and %" PRIu32
                         " more were to be posted",
                         total, maximum, count);
    }
    set_total(s, total + count);
    monitor_exit_and_wake(&s->monitor, count < INT_MAX ? (int)count : INT_MAX);
    return 0;
}

int naru_semaphore_info(struct naru_semaphore *semaphore, struct naru_semaphore_info *ret_info)
{
    struct semaphore *s = semaphore_of(semaphore);
    struct holders table = table_of(s);
    struct naru_semaphore_info info = {.size = ret_info->size};
    uint64_t value, held;
    bool recovered;
    int r = SIZED_CHECK("naru_semaphore_info()", "info", naru_semaphore_info, ret_info);

    if (r == 0)
        r = monitor_enter(&s->monitor, NARU_SYNC_SEMAPHORE, 0);
    if (r < 0)
        return r;
    recovered = recover(s, true);
    held = holders_sum(&table, &info.holders);
    value = free_units(s);
    info.held = held < UINT32_MAX ? (uint32_t)held : UINT32_MAX;
    info.value = value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
    info.maximum = s->maximum;
    info.recovered = s->recovered;
    if (recovered)
        monitor_exit_and_wake(&s->monitor, INT_MAX);
    else
        monitor_exit(&s->monitor);
    *ret_info = info;
    return 0;
}
