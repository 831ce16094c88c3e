/* SPDX-License-Identifier: MIT */
/*
 * The reader-writer lock.
 *
 * I1  Held for writing: writer.count is not 0. Held for reading: a slot in the table has a count. Never
 *     both. Each becomes so, and ends, by one store (monitor.h), so a process killed at any instruction
 *     either holds or does not.
 *
 * I2  A holder whose process is dead is removed by whoever it keeps out for a nap; before a dead writer is,
 *     `damaged` is set, so killed between the two stores, the next does both again.
 *
 * I3  `next` is the writer that waits longest; while it lives, new readers wait for it. It is a name in a
 *     slot: if its process dies, or gives up, the slot is free again.
 *
 * I4  `readers_first` is how many waiting readers go before the next writer: set when a writer unlocks. The
 *     count of those who wait is too high when one is killed waiting; a writer that waited a whole nap for
 *     readers that did not come sets both to 0.
 */
#include "naru/rwlock.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>

#include "base/clock.h"
#include "base/error.h"
#include "sync/monitor.h"
#include "sync/named.h"
#include "sync/owner.h"

struct rwlock {
    struct monitor monitor;
    struct holder writer; /* count: the thread's id */
    struct holder next;   /* count: the thread's id */
    uint32_t damaged;
    uint32_t readers_first;
    uint32_t readers_waiting;
    uint32_t used;
    uint64_t reserved[2];
    struct holder readers[NARU_RWLOCK_READERS];
};

static_assert(sizeof(struct rwlock) == sizeof(struct naru_rwlock) && offsetof(struct rwlock, writer) == 128 &&
                  offsetof(struct rwlock, next) == 144 && offsetof(struct rwlock, damaged) == 160 &&
                  offsetof(struct rwlock, readers_first) == 164 &&
                  offsetof(struct rwlock, readers_waiting) == 168 && offsetof(struct rwlock, used) == 172 &&
                  offsetof(struct rwlock, readers) == 192,
              "the layout is shared between processes");

/* What a try at locking found; never leaves this file. */
enum { TAKEN = 0, BLOCKED = 1 };

/* Whether to ask the kernel if those who are in the way live (monitor.h). */
enum look { LOOK_NOT = 0, LOOK, LOOK_NOW };

static enum look look_of(int r, int64_t deadline)
{
    return !monitor_should_look(r, deadline) ? LOOK_NOT : r == 1 ? LOOK : LOOK_NOW;
}

static struct rwlock *rwlock_of(struct naru_rwlock *lock)
{
    return (struct rwlock *)(void *)lock;
}

static struct holders table_of(struct rwlock *l)
{
    return (struct holders){l->readers, NARU_RWLOCK_READERS, &l->used};
}

static int init(void *object, void *argument)
{
    struct rwlock *l = object;

    (void)argument;
    monitor_init(&l->monitor, sizeof *l);
    head_finish(&l->monitor.head, NARU_SYNC_RWLOCK);
    return 0;
}

int naru_rwlock_init(struct naru_rwlock *lock)
{
    int r = head_check_address(lock, NARU_SYNC_RWLOCK);

    return r < 0 ? r : init(lock, NULL);
}

int naru_rwlock_open(const char *name, const struct naru_sync_options *options, struct naru_rwlock **ret_lock)
{
    void *object;
    int r = named_open(NARU_SYNC_RWLOCK, name, options, sizeof(struct rwlock), init, NULL, &object);

    if (r == 0)
        *ret_lock = object;
    return r;
}

struct naru_rwlock *naru_rwlock_close(struct naru_rwlock *lock)
{
    if (lock)
        named_close(lock, sizeof(struct rwlock));
    return NULL;
}

static bool is_me(const struct holder *holder)
{
    return holder_count(holder) == owner_thread() && holder_is(holder, owner_self());
}

static void become(struct holder *holder)
{
    holder_commit(holder, 0);
    holder->pid = owner_self().pid;
    holder->start = owner_self().start;
    holder_commit(holder, owner_thread());
}

/* I2. Whether a writer holds it, a living one if we look. */
static bool is_written(struct rwlock *l, bool look)
{
    if (holder_count(&l->writer) == 0)
        return false;
    if (!look || !owner_is_dead(holder_owner(&l->writer)))
        return true;
    l->damaged = 1;
    holder_commit(&l->writer, 0);
    return false;
}

/* I3. Whether a writer other than this thread waits, a living one if we look. */
static bool is_wanted(struct rwlock *l, bool look)
{
    if (holder_count(&l->next) == 0 || is_me(&l->next))
        return false;
    if (!look || !owner_is_dead(holder_owner(&l->next)))
        return true;
    holder_commit(&l->next, 0);
    return false;
}

/* I2. Frees the slots of dead readers. */
static void reap_readers(struct rwlock *l, bool urgent)
{
    struct holders table = table_of(l);
    int64_t begun = monitor_look_begin(&l->monitor, urgent);

    if (begun == 0)
        return;
    (void)holders_reap(&table);
    monitor_look_end(&l->monitor, begun);
}

/* Whether readers hold it, living ones if we look. */
static bool is_read(struct rwlock *l, enum look look)
{
    struct holders table = table_of(l);

    if (holders_sum(&table, NULL) == 0)
        return false;
    if (look)
        reap_readers(l, look == LOOK_NOW);
    return holders_sum(&table, NULL) != 0;
}

int naru_rwlock_deinit(struct naru_rwlock *lock)
{
    struct rwlock *l = rwlock_of(lock);
    bool held;
    int r = monitor_enter(&l->monitor, NARU_SYNC_RWLOCK, NARU_FOREVER);

    if (r < 0)
        return r;
    held = is_written(l, true) || is_read(l, LOOK_NOW);
    if (!held)
        head_clear(&l->monitor.head);
    monitor_exit(&l->monitor);
    return held ? error_set(EBUSY, "the rwlock is held") : 0;
}

/* A writer that will not wait, or not any longer, does not stand back for readers that wait: they may be dead
 * (I4), and writers whose timeouts are shorter than a nap would wait for them again and again. */
static int try_write(struct rwlock *l, bool may_wait, enum look look)
{
    bool wanted;

    if (is_written(l, look))
        return is_me(&l->writer)
                   ? error_set(EDEADLK, "this thread holds the rwlock for writing already and would wait for "
                                        "itself")
                   : BLOCKED;
    wanted = is_wanted(l, look);
    if (wanted || (may_wait && l->readers_first > 0) || is_read(l, look)) {
        if (may_wait && !wanted && holder_count(&l->next) == 0)
            become(&l->next);
        return BLOCKED;
    }
    become(&l->writer);
    if (is_me(&l->next)) /* killed before this: a dead name, I3 */
        holder_commit(&l->next, 0);
    return TAKEN;
}

/* What a try comes to: TAKEN, BLOCKED (go on waiting), or -errno. r: what the sleep before it said. */
static int outcome(int tried, int r, int64_t deadline)
{
    if (tried != BLOCKED)
        return tried;
    if (deadline == 0)
        return error_expected(EAGAIN);
    return r == -ETIMEDOUT ? error_expected(ETIMEDOUT) : BLOCKED;
}

/* Gives up the place of the one who waits longest. */
static void stop_waiting_to_write(struct rwlock *l)
{
    if (!is_me(&l->next)) {
        monitor_exit(&l->monitor);
        return;
    }
    holder_commit(&l->next, 0);
    monitor_exit_and_wake(&l->monitor, INT_MAX); /* readers that waited for us, and the next writer */
}

static int taken(struct rwlock *l)
{
    bool damaged = l->damaged != 0;

    monitor_exit(&l->monitor);
    return damaged ? error_set(EOWNERDEAD,
                               "the rwlock is held now, but a writer died changing what it guards: put that "
                               "right holding it for writing, then call naru_rwlock_consistent()")
                   : 0;
}

int naru_rwlock_write(struct naru_rwlock *lock, int64_t timeout_ns)
{
    struct rwlock *l = rwlock_of(lock);
    int64_t deadline = deadline_after(timeout_ns);
    struct nap nap = {0};
    int r = monitor_enter(&l->monitor, NARU_SYNC_RWLOCK, deadline);

    if (r < 0)
        return r;
    for (;;) {
        bool may_wait = deadline != 0 && r != -ETIMEDOUT;
        int tried = outcome(try_write(l, may_wait, look_of(r, deadline)), r, deadline);

        if (tried == TAKEN)
            return taken(l);
        if (tried < 0) {
            stop_waiting_to_write(l);
            return tried;
        }
        r = monitor_sleep(&l->monitor, NARU_SYNC_RWLOCK, &nap, deadline, deadline);
        if (r == MONITOR_STAYED_OUT) {
            if (is_me(&l->next)) /* I3: nobody else writes it while we live, and one store gives it up */
                holder_commit(&l->next, 0);
            return -ETIMEDOUT;
        }
        if (r < 0 && r != -ETIMEDOUT)
            return r;
        if (r == 1 && l->readers_first > 0 && !is_written(l, true) && !is_read(l, LOOK))
            l->readers_first = l->readers_waiting = 0; /* I4 */
    }
}

static int try_read(struct rwlock *l, enum look look)
{
    struct holders table = table_of(l);
    struct holder *slot;

    if (is_written(l, look))
        return is_me(&l->writer)
                   ? error_set(EDEADLK, "this thread holds the rwlock for writing: unlock first")
                   : BLOCKED;
    if (l->readers_first == 0 && is_wanted(l, look) && !holders_find(&table, owner_self()))
        return BLOCKED;
    slot = holders_claim(&table, owner_self());
    if (!slot && look) {
        reap_readers(l, look == LOOK_NOW);
        slot = holders_claim(&table, owner_self());
    }
    if (!slot || holder_count(slot) == UINT32_MAX)
        return BLOCKED;
    holder_commit(slot, holder_count(slot) + 1);
    if (l->readers_first > 0)
        l->readers_first--;
    return TAKEN;
}

int naru_rwlock_read(struct naru_rwlock *lock, int64_t timeout_ns)
{
    struct rwlock *l = rwlock_of(lock);
    int64_t deadline = deadline_after(timeout_ns);
    struct nap nap = {0};
    int r = monitor_enter(&l->monitor, NARU_SYNC_RWLOCK, deadline);

    if (r < 0)
        return r;
    for (;;) {
        int tried = outcome(try_read(l, look_of(r, deadline)), r, deadline);

        if (tried == TAKEN)
            return taken(l);
        if (tried < 0) {
            monitor_exit(&l->monitor);
            return tried;
        }
        l->readers_waiting++;
        r = monitor_sleep(&l->monitor, NARU_SYNC_RWLOCK, &nap, deadline, deadline);
        if (r == MONITOR_STAYED_OUT) /* still counted as waiting: I4 */
            return -ETIMEDOUT;
        if (r < 0 && r != -ETIMEDOUT)
            return r;
        if (l->readers_waiting > 0) /* a writer may have set it to 0 meanwhile (I4) */
            l->readers_waiting--;
    }
}

int naru_rwlock_unlock(struct naru_rwlock *lock)
{
    struct rwlock *l = rwlock_of(lock);
    struct holders table = table_of(l);
    struct holder *slot;
    int r = monitor_enter(&l->monitor, NARU_SYNC_RWLOCK, NARU_FOREVER);

    if (r < 0)
        return r;
    slot = holders_find(&table, owner_self());
    if (holder_count(&l->writer) && is_me(&l->writer)) {
        l->readers_first = l->readers_waiting;
        holder_commit(&l->writer, 0);
    } else if (slot) {
        holder_commit(slot, holder_count(slot) - 1);
        if (holder_count(slot)) { /* who waits for readers to end waits on */
            monitor_exit(&l->monitor);
            return 0;
        }
    } else {
        monitor_exit(&l->monitor);
        return error_set(EPERM, "neither does this thread hold the rwlock for writing nor its process for "
                                "reading");
    }
    monitor_exit_and_wake(&l->monitor, INT_MAX);
    return 0;
}

int naru_rwlock_consistent(struct naru_rwlock *lock)
{
    struct rwlock *l = rwlock_of(lock);
    bool mine;
    int r = monitor_enter(&l->monitor, NARU_SYNC_RWLOCK, NARU_FOREVER);

    if (r < 0)
        return r;
    mine = holder_count(&l->writer) && is_me(&l->writer);
    if (mine)
        l->damaged = 0;
    monitor_exit(&l->monitor);
    return mine ? 0 : error_set(EPERM, "this thread does not hold the rwlock for writing");
}
