/* SPDX-License-Identifier: MIT */
/*
 * The robust lock underneath: glibc's process-shared robust mutex (pthread_mutexattr_setrobust(3)), which the
 * kernel hands on when its holder dies at any instruction, and whose wake-up a killed waiter passes on (the
 * kernel's handle_futex_death() wakes another when the word is free and the dead one had an operation
 * pending). If the word is not free, because somebody took it who did not know of those asleep, nobody wakes
 * them: they try again within 0.2 s (lock_take()).
 */
#ifndef NARU_SYNC_LOCK_H
#define NARU_SYNC_LOCK_H

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lock {
    union {
        pthread_mutex_t mutex;
        uint64_t room[8]; /* 40 bytes on x86-64, 48 on aarch64 */
    } u;
};

static_assert(sizeof(struct lock) == 64, "pthread_mutex_t outgrew its place");

void lock_init(struct lock *lock);

/* 0; -EBUSY: held. */
int lock_deinit(struct lock *lock);

/* 0 or -EOWNERDEAD: held. -EAGAIN, -ETIMEDOUT, -EDEADLK (this thread has it), -ENOTRECOVERABLE, -EPROTO (not
 * such a lock: overwritten; held by a thread that there is not is found out within 0.2 s). Without a
 * sentence. */
int lock_take(struct lock *lock, int64_t deadline);

/* 0, -EPERM (this thread does not have it) or -EPROTO. */
int lock_give(struct lock *lock);

/* Whether a living thread holds it, at this moment. */
bool lock_is_taken(const struct lock *lock);

/* 0; -EINVAL: it was not handed over by a death, or not to this thread. */
int lock_consistent(struct lock *lock);

#endif
