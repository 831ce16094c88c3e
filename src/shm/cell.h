/* SPDX-License-Identifier: MIT */
/*
 * A shared variable: one writer, any number of readers, who get the latest value and never wait for anybody.
 *
 * The value lies in one of two or more slots. The writer writes another slot than the latest one and then
 * flips the version, a number that grows by one with each value and whose remainder says which slot: version
 * v is in slot v % slots. So a writer that is killed while it writes harms nothing: nobody looks there. A
 * reader that is slow may be overtaken: by the time it has copied a slot, the writer may have begun to write
 * it again. So each slot says for which version it was begun last, stored before its first byte is; a reader
 * looks at that after its last one, and begins anew if it is another. It does so a bounded number of times.
 *
 * Invariants
 * I1  Slot v % slots holds version v, all of it, from the store of page.version = v on until the store of
 *     slot.version = v + slots.
 * I2  slot.version <= page.version + 1: that of one slot is page.version + 1 while a value is written, or
 *     after a writer was killed then; every other slot holds the version that it says.
 *
 * Killed between any two stores of cell_put(): page.version is the old one, whose slot is another. The next
 * writer begins that same version again, in the same slot.
 *
 * Order. All words that readers and the writer meet in are atomic, the bytes of a value as words of 8.
 * [P4] cell_put(), release: the value is visible before its version.
 * [C4] cell_look(), acquire: pairs with P4; licenses reading the slot.
 * [P5] cell_put(), fence, release: that the slot is begun is visible before any word of the new value.
 * [C5] cell_check(), fence, acquire: pairs with P5: who has read such a word sees that the slot was begun.
 * [P6] cell_put(), release: the version before is visible before the slot is begun for this one.
 * [C6] cell_check(), acquire: pairs with P6: a slot that was begun for v + slots by an honest writer, with
 *      page.version still v, cannot be seen; so what looks like that is nonsense, and no reason to try again.
 *
 * What is read is input. A slot's number is a remainder by what was checked when the reader attached; a
 * length is checked; and whatever versions are stored meanwhile, a reader tries CELL_TRIES times and no more.
 *
 * spec/cell.pml has every interleaving of this and of sleeping (doze.h), the writer killed anywhere;
 * spec/relacy/ compiles this file and finds each of the six orders to be needed. `./dev models` runs both.
 */
#ifndef NARU_SHM_CELL_H
#define NARU_SHM_CELL_H

#include <stdbool.h>
#include <stddef.h>

#include "shm/doze.h"
#include "shm/layout.h"

/* "narucell", as a little-endian machine reads it. */
#define CELL_MAGIC UINT64_C(0x6c6c65637572616e)

enum {
    CELL_LAYOUT = 1,
    CELL_SLOTS_MOST = 64,
    CELL_TRIES = 100 /* in each of which the writer would have to write all slots while one is copied */
};

#define CELL_CAPACITY_MOST (UINT64_C(1) << 30) /* bytes of a value */

/* No writer gets so far; what is larger would look like an error where versions are told (naru_cell_put()).
 */
#define CELL_VERSION_MOST ((uint64_t)INT64_MAX)

struct cell_page {
    /* Set once; the magic last. */
    _Alignas(SHM_LINE) _Atomic uint64_t magic;
    _Atomic uint32_t layout;
    _Atomic uint32_t slots;
    _Atomic uint64_t capacity; /* bytes of the largest value */

    /* The writer's: of the latest value; 0: there is none yet. */
    _Alignas(SHM_LINE) _Atomic uint64_t version;

    /* The readers': see doze.h. */
    _Alignas(SHM_LINE) _Atomic uint32_t asleep;
};

struct cell_slot {
    _Alignas(SHM_LINE) _Atomic uint64_t version; /* for which it was begun last */
    _Atomic uint64_t length;                     /* bytes */
    _Atomic uint64_t words[];
};

static_assert(sizeof(struct cell_page) == 3 * SHM_LINE, "layout");
static_assert(offsetof(struct cell_page, layout) == 8 && offsetof(struct cell_page, slots) == 12, "layout");
static_assert(offsetof(struct cell_page, capacity) == 16, "layout");
static_assert(offsetof(struct cell_page, version) == 64, "layout");
static_assert(offsetof(struct cell_page, asleep) == 128, "layout");
static_assert(offsetof(struct cell_slot, length) == 8 && offsetof(struct cell_slot, words) == 16, "layout");

/* What the direct caller must handle; never passed on. */
enum cell_state {
    CELL_OK = 0,
    CELL_EMPTY = 1,     /* no value was ever put */
    CELL_OVERTAKEN = 2, /* the writer was quicker each time */
    CELL_BROKEN = 3     /* the memory holds what no writer of ours can have written */
};

/* One process's view of a cell; what it says was checked. */
struct cell {
    struct cell_page *page;
    uint8_t *slots;
    uint64_t stride; /* bytes from slot to slot */
    uint32_t count;  /* of slots */
    uint64_t capacity;
};

/* A value that is there. */
struct cell_value {
    const struct cell_slot *slot;
    uint64_t version;
    uint64_t length; /* may be nonsense until cell_check() */
};

/* Bytes of memory for such a cell; 0: there is no such one. */
uint64_t cell_bytes(uint64_t capacity, uint32_t slots);

/* Makes a cell in memory that nobody uses yet; its alignment and size were checked. */
void cell_init(void *memory, uint64_t capacity, uint32_t slots);

/* Whether there is a whole cell in so many bytes; then *ret_cell. The alignment was checked. */
bool cell_attach(void *memory, size_t bytes, struct cell *ret_cell);

static inline struct cell_slot *cell_slot_of(const struct cell *c, uint64_t version)
{
    return (struct cell_slot *)(void *)(c->slots + version % c->count * c->stride);
}

/* Puts a value of at most the cell's capacity; its version. 0: what is there is no version that another could
 * follow; nothing was stored. */
uint64_t cell_put(const struct cell *c, const void *data, uint64_t length);

/* The three steps of reading: the latest value there is: CELL_OK, CELL_EMPTY, CELL_BROKEN ... */
enum cell_state cell_look(const struct cell *c, struct cell_value *ret_value);

/* ... its first bytes, which may be those of another ... */
void cell_copy(const struct cell_value *value, void *data, uint64_t length);

/* ... and whether it still was there after they were copied: CELL_OK, CELL_OVERTAKEN, CELL_BROKEN. */
enum cell_state cell_check(const struct cell *c, const struct cell_value *value);

/* All three, tried CELL_TRIES times: at most `length` bytes of the value, whose length is in *ret_value. */
enum cell_state cell_get(const struct cell *c, void *data, uint64_t length, struct cell_value *ret_value);

/* The latest version; 0: no value yet. What was put before is to be seen. */
static inline uint64_t cell_version(const struct cell *c)
{
    return atomic_load_explicit(&c->page->version, memory_order_acquire); /* [C4] */
}

#endif
