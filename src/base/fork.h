/* SPDX-License-Identifier: MIT */
/*
 * What fork() does to handles. A word in a MADV_WIPEONFORK page tells a child that it is one (a getpid() a
 * call would cost more than the call), and a pthread_atfork handler closes in the child what must not stay
 * open there: a child that holds a dead parent's socket or lock keeps it "alive" for everybody else.
 *
 * The kernel copies the descriptors first and the memory after them (copy_process() in kernel/fork.c:
 * copy_files() before copy_mm()), and other threads run meanwhile. A descriptor that is closed and forgotten
 * in between is open in the child, which does not know of it any more. So whoever opens or closes a guarded
 * descriptor holds forks off until what the guard sees is true again: fork_hold(), fork_close(),
 * fork_guard_close().
 */
#ifndef NARU_BASE_FORK_H
#define NARU_BASE_FORK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

enum { FORK_GUARD_FDS = 13 };

struct fork_guard {
    /* Of the process that owns the handle; 0: not yet owned (a pair's end). Atomic, as two threads, one that
     * sends and one that receives, may be the first users together. */
    _Atomic uint64_t generation;
    int *fds[FORK_GUARD_FDS]; /* descriptors to close in a child, and set to -1 there */
    struct list node;
    unsigned epoch; /* of the list in which it is */
};

/* Changes with each fork() on the child's side, never 0. */
uint64_t fork_generation(void);

/* Where the generation stands; 0 in a child that has not asked for its own yet. Hidden, so that it is read
 * without a look into the global offset table. */
extern __attribute__((visibility("hidden"))) _Atomic uint64_t *fork_word;

/* Makes this process the owner. */
void fork_guard_init(struct fork_guard *guard);

/* Nobody owns it: the first to fork_guard_enter() does. */
void fork_guard_init_unowned(struct fork_guard *guard);

/* From now on a child closes *fd. At most FORK_GUARD_FDS. */
void fork_guard_add(struct fork_guard *guard, int *fd);

/* No longer closes anything in children: for descriptors that somebody else takes over, under fork_hold(). */
void fork_guard_deinit(struct fork_guard *guard);

/* Closes them here (they become -1) and ends the guard. It or fork_guard_deinit() must precede the freeing of
 * the guard. */
void fork_guard_close(struct fork_guard *guard);

/* Closes one that a guard watches, and leaves -1. */
void fork_close(int *fd);

/* Between these no other thread forks, so that no child gets a copy of a descriptor that is made and not
 * guarded yet, or closed and still in its guard; nor does pthread_cancel(3) end this one. Around calls that
 * do not wait, only, and no fork in between. May be nested. A handler that interrupts this thread may fork,
 * and then nothing is held off: its child may have such a copy. */
void fork_hold(void);
void fork_release(void);

/* Takes ownership of what nobody owns. true: this very call did, and the caller adds the descriptors. */
bool fork_guard_claim(struct fork_guard *guard);

/* Cheap. Relaxed: the value decides who may go on and publishes nothing. */
static inline uint64_t fork_guard_generation(const struct fork_guard *guard)
{
    return atomic_load_explicit(&guard->generation, memory_order_relaxed);
}

/* The rest of fork_guard_enter(), for everybody but the owner. */
int fork_guard_enter_slowly(struct fork_guard *guard);

/* Whether this process is known to be the owner. Inline: it stands in the path of every message. Relaxed, as
 * above. */
static inline bool fork_guard_is_owner(const struct fork_guard *guard)
{
    uint64_t owner = fork_guard_generation(guard);

    return __builtin_expect(owner == atomic_load_explicit(fork_word, memory_order_relaxed) && owner != 0, 1);
}

/* Whether it still is, of a guard that somebody owns. */
static inline bool fork_guard_is_still_owner(const struct fork_guard *guard)
{
    return fork_guard_generation(guard) == atomic_load_explicit(fork_word, memory_order_relaxed);
}

/* 0 for the owner; takes ownership of what nobody owns; -ECHILD (explained) in another process. */
static inline int fork_guard_enter(struct fork_guard *guard)
{
    return fork_guard_is_owner(guard) ? 0 : fork_guard_enter_slowly(guard);
}

/* Whether this process is, or may become, the owner. */
bool fork_guard_is_mine(const struct fork_guard *guard);

#endif
