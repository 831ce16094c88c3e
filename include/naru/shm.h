/* SPDX-License-Identifier: MIT */
/*
 * Rings and cells: what shared memory channels are made of, for memory of the program's own. That may be an
 * array shared with a child (mmap(2), MAP_SHARED | MAP_ANONYMOUS), a segment (naru/segment.h), a mapped file,
 * or a device's memory.
 *
 *   ring   messages of any length, in order, from one writer to one reader
 *   cell   a variable of which only the latest value counts, from one writer to any number of readers
 *
 * They are plain bytes, the same in all processes that map them, wherever each has them. naru_ring_init() and
 * naru_cell_init() make one, once; each user then attaches, which checks all that it relies on and gives a
 * handle in memory of the user's own. A handle holds nothing that would have to be closed.
 *
 * No call here makes a system call, waits or allocates, but for those that are named wait and wake. Sleeping
 * is the program's choice: the one side calls wait; the other calls wake after what it did, which costs a
 * fence and a load, and a system call only while somebody sleeps. Without wakes a wait still ends, later: it
 * looks for itself every 2 ms at first, 64 ms at most. A naru_event (naru/event.h) in the same memory does as
 * well.
 *
 * Killed anywhere (SIGKILL) a writer leaves whole messages and whole values only, and the next one that
 * attaches goes on behind them. A reader that is killed leaves the message it was reading, for the next one.
 * One writer and, for rings, one reader at a time: several take turns under a naru_mutex, and attach to a
 * ring anew after each turn of another's. Nothing tells that the other side has died: a lock tells, or a
 * channel does.
 *
 * Trust. Who may write the memory shares its fate. Whatever is found in it, a call ends, and touches nothing
 * outside of the memory; what cannot be right is -EPROTO. A reader of a cell may map it for reading only, if
 * it does not wait.
 *
 * Threads: a handle is one thread's at a time; the two ends of a ring may be in two threads. Fork: a child
 * has a copy of the handle, and of the two one may go on. No call is async-signal-safe but those of a cell
 * that neither wait nor wake.
 */
#ifndef NARU_SHM_H
#define NARU_SHM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "naru/export.h"
#include "naru/time.h"

NARU_BEGIN

/* Handles. They may be copied while nobody uses them. */
struct naru_ring_writer {
    uint64_t opaque[16];
};

struct naru_ring_reader {
    uint64_t opaque[16];
};

struct naru_cell {
    uint64_t opaque[8];
};

/*
 * The bytes of memory that a ring of so many takes; 0: there is no such ring. capacity: a power of two from
 * 256 to 2 GiB; it holds messages and 8 bytes more for each of them, rounded up to 16, 32, 64 or above that
 * to a multiple of 8. The longest message is half of it, less 16 bytes.
 */
NARU_API size_t naru_ring_size(size_t capacity);

/*
 * Makes an empty ring in memory that nobody uses yet. memory: aligned to 64 bytes. bytes: as naru_ring_size()
 * says; of more, the largest power of two that fits is used. Killed in it, it leaves no ring, or an empty
 * one. 0; -EINVAL: the alignment, or too few bytes.
 */
NARU_API NARU_MUST_CHECK int naru_ring_init(void *memory, size_t bytes);

/*
 * Attaches as the writer, or as the reader. bytes: of memory that may be accessed; the ring may be smaller.
 * The writer goes on behind the last message, which it finds by walking over those that are not taken yet;
 * the reader goes on at the first of them. 0; -EINVAL: the alignment; -EPROTO: there is no ring of this
 * layout, or it is larger than bytes, or it holds what nobody can have written.
 */
NARU_API NARU_MUST_CHECK int naru_ring_attach_writer(void *memory, size_t bytes,
                                                     struct naru_ring_writer *ret_writer);
NARU_API NARU_MUST_CHECK int naru_ring_attach_reader(void *memory, size_t bytes,
                                                     struct naru_ring_reader *ret_reader);

/*
 * Puts a message of len bytes, which may be 0; data is copied. 0; -EAGAIN: there is no room for it now;
 * -EMSGSIZE: it is longer than messages can be; -EPROTO: the reader's position is nonsense.
 */
NARU_API NARU_MUST_CHECK int naru_ring_put(struct naru_ring_writer *writer, const void *data, size_t len);

/*
 * The place of the next message, to write it there. *ret_data: len bytes, aligned to 8, valid until the next
 * naru_ring_commit() that makes it a message, naru_ring_put() that puts one, naru_ring_reserve() or
 * naru_ring_wait_room(): these forget it. Errors as naru_ring_put().
 */
NARU_API NARU_MUST_CHECK int naru_ring_reserve(struct naru_ring_writer *writer, size_t len, void **ret_data);

/* Makes the first len bytes of what was reserved a message. 0; -EINVAL: nothing is reserved, or fewer bytes.
 */
NARU_API NARU_MUST_CHECK int naru_ring_commit(struct naru_ring_writer *writer, size_t len);

/*
 * Takes the oldest message. Its length; -EAGAIN: there is none; -EMSGSIZE: it is longer than cap bytes, and
 * stays (naru_ring_peek() tells its length); -EPROTO: what is there is no message.
 */
NARU_API NARU_MUST_CHECK ssize_t naru_ring_take(struct naru_ring_reader *reader, void *buf, size_t cap);

/*
 * The oldest message where it lies: its length, and *ret_data, aligned to 8, until naru_ring_release(). Asked
 * again it gives the same one. A writer that breaks the rules can change it meanwhile. Errors as
 * naru_ring_take().
 */
NARU_API NARU_MUST_CHECK ssize_t naru_ring_peek(struct naru_ring_reader *reader, const void **ret_data);

/* Done with what naru_ring_peek() gave, whose room is the writer's again. 0; -EINVAL: there is no such. */
NARU_API NARU_MUST_CHECK int naru_ring_release(struct naru_ring_reader *reader);

/* Sleeps until there is a message, or room for one of len bytes. Whether the other side lives it does not
 * ask. 0; -EAGAIN (NARU_NOWAIT), -ETIMEDOUT: there is none; -EMSGSIZE, -EPROTO as the calls above. */
NARU_API NARU_MUST_CHECK int naru_ring_wait_message(struct naru_ring_reader *reader, int64_t timeout_ns);
NARU_API NARU_MUST_CHECK int naru_ring_wait_room(struct naru_ring_writer *writer, size_t len,
                                                 int64_t timeout_ns);

/* Wakes the other side if it sleeps: to be called after messages were put, or taken. Never fails or waits. */
NARU_API void naru_ring_wake_reader(struct naru_ring_writer *writer);
NARU_API void naru_ring_wake_writer(struct naru_ring_reader *reader);

/* How a ring stands. Counts run on and never begin anew. */
struct naru_ring_info {
    size_t size;
    uint64_t capacity;    /* bytes */
    uint64_t max_message; /* bytes */
    uint64_t written;     /* bytes of the ring that were filled, ever: messages, and what they take beside */
    uint64_t taken;       /* bytes of them that are free again */
    uint64_t used;        /* written - taken */
};

/*
 * Fills *ret_info, which NARU_INIT has made, for anybody who has the memory mapped, while others use the
 * ring: what it says has been so a moment ago. A writer that was killed may have put one message more than it
 * says, until the next one attaches. 0; -EINVAL, -EPROTO as at attaching; -EINVAL: ret_info->size.
 */
NARU_API NARU_MUST_CHECK int naru_ring_info(const void *memory, size_t bytes,
                                            struct naru_ring_info *ret_info);

/*
 * Whether the ring is one that writers and readers can have left there, wherever they were killed: every
 * message that is not taken is one, and behind the last there is none. For who comes after a death, or wants
 * to know why a call said -EPROTO: naru_explain() tells what is wrong and where. Ring and cell may be in use
 * meanwhile. 0; -EPROTO; -EINVAL: the alignment; -EAGAIN: it changed each time that it was looked at.
 */
NARU_API NARU_MUST_CHECK int naru_ring_validate(const void *memory, size_t bytes);
NARU_API NARU_MUST_CHECK int naru_cell_validate(const void *memory, size_t bytes);

/*
 * The bytes of memory that a cell takes; 0: there is no such one. capacity: of the largest value, up to 1
 * GiB. slots: how many values it has room for, 2 to 64. With two, a reader is overtaken by a writer that
 * finishes a value and begins another while one is read; each more gives it the time of one more.
 */
NARU_API size_t naru_cell_size(size_t capacity, unsigned slots);

/* Makes a cell without a value in memory that nobody uses yet, aligned to 64 bytes. 0; -EINVAL: the
 * alignment, too few bytes, or there is no such cell. */
NARU_API NARU_MUST_CHECK int naru_cell_init(void *memory, size_t bytes, size_t capacity, unsigned slots);

/* Attaches, to read or to write. 0; -EINVAL: the alignment; -EPROTO: there is no cell of this layout, or it
 * is larger than bytes. */
NARU_API NARU_MUST_CHECK int naru_cell_attach(void *memory, size_t bytes, struct naru_cell *ret_cell);

/*
 * Puts a new value of len bytes, which may be 0, whoever reads. One writer at a time. The value's version, 1
 * for the first and one more for each; -EMSGSIZE: longer than the cell's values can be; -EPROTO: what is
 * there is no version, and was left alone.
 */
NARU_API NARU_MUST_CHECK int64_t naru_cell_put(struct naru_cell *cell, const void *data, size_t len);

/*
 * Copies the latest value. Its length, and in *ret_version, if that is not NULL, its version. Waits for
 * nobody.
 *
 * -ENODATA: none was put yet. -EAGAIN: the writer was quicker than this reader a hundred times in a row: more
 * slots help. -EMSGSIZE: it is longer than cap bytes. -EPROTO: what is there is no value.
 */
NARU_API NARU_MUST_CHECK ssize_t naru_cell_get(const struct naru_cell *cell, void *buf, size_t cap,
                                               uint64_t *ret_version);

/* The latest value's version, 0: none yet. As cheap as a load. */
NARU_API uint64_t naru_cell_version(const struct naru_cell *cell);

/* Sleeps until there is a newer value than that version; of any number of readers. 0; -EAGAIN (NARU_NOWAIT),
 * -ETIMEDOUT. */
NARU_API NARU_MUST_CHECK int naru_cell_wait(struct naru_cell *cell, uint64_t version, int64_t timeout_ns);

/* Wakes all readers that wait: to be called by the writer, after a value was put. Never fails or waits. */
NARU_API void naru_cell_wake(struct naru_cell *cell);

NARU_END

#endif
