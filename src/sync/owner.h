/* SPDX-License-Identifier: MIT */
/*
 * Who holds something: a process, named so that the name is never used again (process id and start time), and
 * whether it still lives. And tables of such holders with what each holds.
 */
#ifndef NARU_SYNC_OWNER_H
#define NARU_SYNC_OWNER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct owner {
    uint32_t pid;
    uint64_t
        start; /* clock ticks between boot and the process's start (proc(5), stat field 22); 0: not told */
};

/* This process. Cheap: read once per thread and fork. */
struct owner owner_self(void);

/* The calling thread's id, unique in the PID namespace, never 0. Cheap. */
uint32_t owner_thread(void);

/* Tells PID namespaces apart: a pid means something only within its own. Cheap. */
uint32_t owner_namespace(void);

/* Whether that process has ended, also if nobody has wait(2)ed for it yet. What cannot be found out counts as
 * alive. */
bool owner_is_dead(struct owner owner);

/*
 * A holder in shared memory, 16 bytes. count says how much it holds; 0: the slot is free and the rest means
 * nothing.
 */
struct holder {
    uint32_t pid;
    _Atomic uint32_t count;
    uint64_t start;
};

static inline struct owner holder_owner(const struct holder *holder)
{
    return (struct owner){holder->pid, holder->start};
}

static inline uint32_t holder_count(const struct holder *holder)
{
    /* relaxed: slots are only looked at under the object's lock, which orders everything. */
    return atomic_load_explicit(&holder->count, memory_order_relaxed);
}

/* The one store that makes a change of the slot count, whenever its process is killed. */
static inline void holder_commit(struct holder *holder, uint32_t count)
{
    /* release: pid and start before count, so that a process killed in between leaves a free slot and no
     * wrong name. Its partner is the locking of the next process, after the kernel released our lock. */
    atomic_store_explicit(&holder->count, count, memory_order_release);
}

static inline bool holder_is(const struct holder *holder, struct owner owner)
{
    return holder->pid == owner.pid && holder->start == owner.start;
}

/* A table's slots in use are all below *used, which only grows; values that cannot be are cut to the
 * capacity, as anybody may have written it. */
struct holders {
    struct holder *slots;
    uint32_t capacity;
    uint32_t *used;
};

/* The slot of owner, or NULL if it holds nothing. */
struct holder *holders_find(const struct holders *table, struct owner owner);

/* The slot of owner, or a free one with its name in it and count 0; NULL: the table is full. */
struct holder *holders_claim(const struct holders *table, struct owner owner);

/* What all hold together; *ret_holders (if not NULL) how many they are. */
uint64_t holders_sum(const struct holders *table, uint32_t *ret_holders);

/* Frees the slots of the dead; what they held together. */
uint64_t holders_reap(const struct holders *table);

#endif
