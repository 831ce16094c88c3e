/* SPDX-License-Identifier: MIT */
/*
 * Semaphores: N units; taking one waits while there is none. With one unit at most it is binary.
 *
 * struct naru_semaphore is naru's own. Its units are used in two ways, which may be mixed:
 *   acquire and release   a unit is held by the process that took it and comes back if that process dies
 *   wait and post         a unit is consumed by one process and made by another, for signalling; nobody holds
 *                         it, and a death changes nothing
 * What naru/sync.h says holds for it: where it may live, trust, timeouts, threads and fork. The holder is the
 * process: any of its threads may release.
 *
 * struct naru_raw_semaphore is for programs that never heard of naru: POSIX (sem_open(3), sem_init(3)) and
 * System V (semget(2)). They cannot promise as much: see there.
 */
#ifndef NARU_SEMAPHORE_H
#define NARU_SEMAPHORE_H

#include "naru/sync.h"

NARU_BEGIN

struct naru_semaphore {
    uint64_t opaque[256];
};

/* How many processes can hold units at the same time; one more waits, as if there were no unit. */
enum { NARU_SEMAPHORE_HOLDERS = 118 };

/*
 * Makes a semaphore in memory that nobody uses yet, with value units, maximum at most (0: UINT32_MAX; 1 makes
 * it binary). 0; -EINVAL: value above maximum, or memory not aligned to 8 bytes.
 */
NARU_API NARU_MUST_CHECK int naru_semaphore_init(struct naru_semaphore *semaphore, uint32_t value,
                                                 uint32_t maximum);

/* Ends it; nobody may be waiting. 0; -EPROTO. Not needed for named ones. */
NARU_API int naru_semaphore_deinit(struct naru_semaphore *semaphore);

/*
 * Opens or makes the semaphore of that name; naru/sync.h lists the errors. One that exists keeps its value;
 * -EINVAL if its maximum is not the one given (0 takes it as it is).
 */
NARU_API NARU_MUST_CHECK int naru_semaphore_open(const char *name, const struct naru_sync_options *options,
                                                 uint32_t value, uint32_t maximum,
                                                 struct naru_semaphore **ret_semaphore);

/* Unmaps what naru_semaphore_open() gave. Units held stay held. Returns NULL; NULL is allowed. */
NARU_API struct naru_semaphore *naru_semaphore_close(struct naru_semaphore *semaphore);

/* Takes a unit for this process to hold. 0; -EAGAIN, -ETIMEDOUT; -EPROTO, -EXDEV. */
NARU_API NARU_MUST_CHECK int naru_semaphore_acquire(struct naru_semaphore *semaphore, int64_t timeout_ns);

/* Gives back a unit this process holds. 0; -EPERM: it holds none; -EPROTO, -EXDEV. */
NARU_API int naru_semaphore_release(struct naru_semaphore *semaphore);

/* Takes a unit for good. 0; -EAGAIN, -ETIMEDOUT; -EPROTO, -EXDEV. */
NARU_API NARU_MUST_CHECK int naru_semaphore_wait(struct naru_semaphore *semaphore, int64_t timeout_ns);

/* Adds count new units. 0; -EOVERFLOW: more than the maximum, nothing added; -EPROTO, -EXDEV. */
NARU_API NARU_MUST_CHECK int naru_semaphore_post(struct naru_semaphore *semaphore, uint32_t count);

struct naru_semaphore_info {
    size_t size;
    uint32_t value;     /* units free */
    uint32_t held;      /* units held by living processes */
    uint32_t maximum;   /* units there may be */
    uint32_t holders;   /* processes that hold some */
    uint64_t recovered; /* units that came back from the dead, in all */
};

/* How it stands now, the units of the dead already taken back. 0; -EAGAIN: a process that was stopped
 * inside a call keeps the others out; -EINVAL: *ret_info was not made by NARU_INIT; -EPROTO, -EXDEV. */
NARU_API NARU_MUST_CHECK int naru_semaphore_info(struct naru_semaphore *semaphore,
                                                 struct naru_semaphore_info *ret_info);

/*
 * Raw semaphores, by URL:
 *
 *   sem+posix:/name         sem_open(3); ?create=no|yes|new ?value= (units at first; 0) ?mode=
 *   sem+sysv:0x4d2          semget(2), number ?index= (0) of the set; ?create=, ?value=, ?mode= as above;
 *                           ?undo=no takes and gives without SEM_UNDO (yes by default)
 *
 * What they cannot promise. POSIX: it does not know who took a unit, so one taken by a process that was
 * killed is gone for good, and who may open it can post as often as he likes. System V: SEM_UNDO gives back
 * what a dead process took, but by undoing its balance: a process that only posts has its posts taken away
 * when it ends (?undo=no is right for signalling); SETVAL by anybody forgets all that was to be undone; and a
 * set made but not yet given its value by another program looks finished (naru's own makers are waited for).
 *
 * Threads: all calls but close may run at once. Fork: a child may use the handle of its parent. System V undo
 * balances are per process and not inherited (semop(2)).
 */
struct naru_raw_semaphore;

/*
 * Opens or makes it. ?create is no by default. 0; -EINVAL: the URL; -ENOENT, -EEXIST, -EACCES, -ENOSPC (the
 * system's limit of sets or /dev/shm), -ENOMEM, -EMFILE.
 */
NARU_API NARU_MUST_CHECK int naru_raw_semaphore_open(const char *url,
                                                     struct naru_raw_semaphore **ret_semaphore);

/*
 * The same calls on an unnamed POSIX semaphore, a sem_t in memory that the caller initialised with
 * sem_init(3) (pshared 1 in a segment). It stays the caller's; closing only frees the handle. -ENOMEM.
 */
NARU_API NARU_MUST_CHECK int naru_raw_semaphore_borrow(void *posix_sem_t,
                                                       struct naru_raw_semaphore **ret_semaphore);

/* Frees the handle. Units taken stay taken. Returns NULL; NULL is allowed. */
NARU_API struct naru_raw_semaphore *naru_raw_semaphore_close(struct naru_raw_semaphore *semaphore);

/* Takes a unit. 0; -EAGAIN, -ETIMEDOUT; -EIDRM: it was removed (System V); -ENOSPC: the system's SEM_UNDO
 * room is used up; -EACCES. */
NARU_API NARU_MUST_CHECK int naru_raw_semaphore_wait(struct naru_raw_semaphore *semaphore,
                                                     int64_t timeout_ns);

/* Adds a unit. 0; -EOVERFLOW: it is at its maximum (SEM_VALUE_MAX, or 32767 for System V); -EIDRM, -EACCES.
 */
NARU_API NARU_MUST_CHECK int naru_raw_semaphore_post(struct naru_raw_semaphore *semaphore);

/* The units free now, or -EIDRM, -EACCES. */
NARU_API int64_t naru_raw_semaphore_value(struct naru_raw_semaphore *semaphore);

/* Removes the name or set. POSIX: who has it open keeps it. System V: whoever waits gets -EIDRM. 0; -ENOENT,
 * -EACCES, -EPERM, -EINVAL. */
NARU_API NARU_MUST_CHECK int naru_raw_semaphore_remove(const char *url);

NARU_END

#endif
