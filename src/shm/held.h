/* SPDX-License-Identifier: MIT */
/*
 * Records of a ring that are read where they lie, and held while the reader goes on.
 *
 * The writer may overwrite everything before `taken`. So while records are held, `taken` stands at the oldest
 * of them, and the reader's own position runs ahead: ring_release() then stores it as `received`, which tells
 * the writer how far the reader is, at no cost to the usual case that nothing is held. Records may be given
 * back in any order; what lies between two that are held stays, too, until the older one goes.
 *
 * One thread, the reader's. I1 of ring.h holds throughout: taken <= position.
 */
#ifndef NARU_SHM_HELD_H
#define NARU_SHM_HELD_H

#include "base/list.h"
#include "shm/ring.h"

struct held_record {
    struct list node;
    uint64_t start; /* its position in the ring */
};

struct held {
    struct ring_reader *reader;
    struct shm_lane *lane; /* the reader's, in shared memory */
    struct list records;   /* by position */
};

/* Over a reader that is initialised to store to lane->taken; all stay where they are. */
void held_init(struct held *h, struct ring_reader *reader, struct shm_lane *lane);

/* Holds the record that ring_peek() has just found; ring_release() it after that, to go on. */
void held_add(struct held *h, struct held_record *record);

/* Gives it back. Whether `taken` has moved: then the writer is to be told. */
bool held_remove(struct held *h, struct held_record *record);

#endif
