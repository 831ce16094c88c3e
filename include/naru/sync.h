/* SPDX-License-Identifier: MIT */
/*
 * What naru's locks have in common: mutex, rwlock, semaphore, event and barrier (a header each).
 *
 * Where they live. Each is a struct of fixed size that may stand in any memory all its users share: a
 * process's own (threads), a segment (naru/segment.h), a mapping made before fork(); naru_x_init() makes it
 * there once. Or under a name, which two unrelated programs open: naru_x_open(). Whoever is first makes it,
 * whole or not at all, also if killed while doing so. Named objects are files /dev/shm/naru.KIND.NAME; they
 * and their state stay until naru_sync_remove() or reboot.
 *
 * What a death does. Killing a process with SIGKILL, wherever it is, never blocks the others for ever: what a
 * holder held goes to the next, and a waiter that is killed takes no wake-up with it. A mutex is handed over
 * by the kernel at once (robust futex, get_robust_list(2)). The others are handed over by those who wait:
 * while they sleep they look every 2 ms at first, 64 ms at most, whether a holder has died; so a wake-up
 * that was lost because its sender was killed between changing the object and waking others is made good
 * within that time too. Holders are told apart by process id and start time (proc(5)), so a pid that is used
 * again is not mistaken for its former process.
 *
 * Trust. Who may write the memory shares its fate: he can always hold the lock, overwrite it, or truncate the
 * file under it (SIGBUS). Overwritten objects answer -EPROTO where it can be seen, sometimes after
 * 0.2 s whatever the timeout; what is overwritten while it is held can crash the holder (its thread's list of
 * held locks runs through them, get_robust_list(2)). Give access (mode) only to
 * those whom you would let into the data that the object guards. All users must be in one PID namespace
 * (-EXDEV says they are not; events do not mind) and of one machine word size. An object must stay mapped
 * where it is while it is held or waited for: naru_segment_resize() and _refresh() may move a segment.
 *
 * Waiting: timeouts are as in naru/time.h: -EAGAIN under NARU_NOWAIT, -ETIMEDOUT at the end of a duration.
 * Signal handlers do not end or lengthen a wait. A process that is stopped (SIGSTOP) is alive: what it holds
 * stays held; and if it is stopped inside a call on an rwlock, semaphore or barrier, within some
 * instructions, the others stay in theirs until it goes on. Those with a timeout give up, a second after they
 * began at the earliest; but a barrier's waiters, once they have arrived, wait for it.
 *
 * Threads: every call on an object may run in many threads at once, but naru_x_init(), _deinit() and
 * _close(): these need to be the only ones in the process, with nothing held. Fork: an object in memory that
 * is shared with the child is shared; what the parent holds the child does not. In private memory a child
 * gets a copy, which it must naru_x_init() anew. No call is async-signal-safe but naru_event_set().
 */
#ifndef NARU_SYNC_H
#define NARU_SYNC_H

#include <stddef.h>
#include <stdint.h>

#include "naru/export.h"
#include "naru/segment.h"
#include "naru/time.h"

NARU_BEGIN

enum naru_sync_kind {
    NARU_SYNC_MUTEX = 1,
    NARU_SYNC_RWLOCK = 2,
    NARU_SYNC_SEMAPHORE = 3,
    NARU_SYNC_EVENT = 4,
    NARU_SYNC_BARRIER = 5
};

/* For naru_x_open(). All zero (NARU_INIT) means the defaults. */
struct naru_sync_options {
    size_t size;
    enum naru_create create; /* by default as NARU_CREATE_YES */
    unsigned mode;           /* permission bits of what is made, exactly (no umask); 0: 0600. Users need 06 */
};

/*
 * Common to all naru_x_open(name, options, ..., ret): name has 1 to 200 bytes without '/'. The object
 * returned is mapped memory, to be given back with naru_x_close(). Errors: -EINVAL: the name or an argument
 * makes no sense, or the object exists with other properties. -ENOENT, -EEXIST: as enum naru_create says.
 * -EACCES, -EPERM: no permission to read and write it. -EPROTO: the file is none of naru's, or of another
 * version. -EXDEV: made in another PID namespace. -ENOSPC: /dev/shm is full. -ENOMEM, -EMFILE.
 */

/*
 * Removes the name. Who has the object open goes on using it, but shares it no longer with those who open the
 * name from now on: remove locks when nobody holds them. 0, -ENOENT, -EACCES, -EPERM, -EINVAL.
 */
NARU_API NARU_MUST_CHECK int naru_sync_remove(enum naru_sync_kind kind, const char *name);

/* "mutex", "rwlock", "semaphore", "event", "barrier"; NULL for no kind. */
NARU_API const char *naru_sync_kind_name(enum naru_sync_kind kind);

/* One named object found by naru_sync_list(). */
struct naru_sync_entry {
    size_t size; /* sizeof(struct naru_sync_entry) of the library */
    enum naru_sync_kind kind;
    const char *name;
    int64_t uid, gid; /* of the owner */
    unsigned mode;    /* permission bits */
};

/*
 * Calls each(entry, argument) for every named object. The entry is valid during the call. each returns 0 to
 * go on; anything else ends the list and is returned. -errno when /dev/shm cannot be read.
 */
NARU_API int naru_sync_list(int (*each)(const struct naru_sync_entry *entry, void *argument), void *argument);

NARU_END

#endif
