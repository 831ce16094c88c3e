/* SPDX-License-Identifier: MIT */
/*
 * Whether what lies in shared memory is what our code can have left there, wherever it was killed: the
 * invariants of ring.h, flat.h, pool.h and cell.h as far as they can be seen from outside, and the words of
 * pages. Nothing that works relies on this: readers and writers check what they use. It is for who comes
 * after a death, for tests, and for people who want to know what is wrong; so it says that in a sentence.
 *
 * For memory that is at rest: who changes it meanwhile may be told that it is broken. naru_ring_validate()
 * and naru_cell_validate() look again when it was not.
 *
 * Each: 0, or the explained -EPROTO. what: the URL, or where it is.
 */
#ifndef NARU_SHM_VALIDATE_H
#define NARU_SHM_VALIDATE_H

#include "shm/cell.h"
#include "shm/flat.h"
#include "shm/link.h"
#include "shm/pool.h"

/*
 * A ring that is mapped twice, from a position on up to the first header of 0, which is *ret_end: every
 * record is one, none reaches past what the ring holds, and those that describe chunks describe such as the
 * pool of so many bytes can hold, none of which overlap.
 */
int validate_ring(const char *what, const uint8_t *data, uint64_t capacity, uint64_t from, uint64_t pool,
                  uint64_t *ret_end);

/* The pool of what this side sends, in its private memory, and what the other side gives back of it. */
int validate_pool(const char *what, const struct pool *p);

/* A side of a channel: both pages, both rings (what is not received yet, what the other side has not taken).
 */
int validate_link(const char *what, const struct shm_link *l);

/* A ring in so many bytes of the user's memory. */
int validate_flat(const char *what, const struct flat_page *page, size_t bytes);

/* A cell that was attached to. */
int validate_cell(const char *what, const struct cell *c);

#endif
