/* SPDX-License-Identifier: MIT */
/* A shared variable: making, attaching, putting and getting. */
#include "shm/cell.h"

#include <string.h>

static uint64_t stride_of(uint64_t capacity)
{
    return (offsetof(struct cell_slot, words) + capacity + SHM_LINE - 1) & ~(uint64_t)(SHM_LINE - 1);
}

uint64_t cell_bytes(uint64_t capacity, uint32_t slots)
{
    if (capacity == 0 || capacity > CELL_CAPACITY_MOST || slots < 2 || slots > CELL_SLOTS_MOST)
        return 0;
    return sizeof(struct cell_page) + slots * stride_of(capacity);
}

static struct cell view_of(struct cell_page *page, uint64_t capacity, uint32_t slots)
{
    return (struct cell){.page = page,
                         .slots = (uint8_t *)(page + 1),
                         .stride = stride_of(capacity),
                         .count = slots,
                         .capacity = capacity};
}

void cell_init(void *memory, uint64_t capacity, uint32_t slots)
{
    struct cell_page *page = memory;
    struct cell c = view_of(page, capacity, slots);

    /* Killed from here on, it is no cell; relaxed: nobody uses the memory. */
    atomic_store_explicit(&page->magic, 0, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&page->layout, CELL_LAYOUT, memory_order_relaxed);
    atomic_store_explicit(&page->slots, slots, memory_order_relaxed);
    atomic_store_explicit(&page->capacity, capacity, memory_order_relaxed);
    atomic_store_explicit(&page->version, 0, memory_order_relaxed);
    atomic_store_explicit(&page->asleep, 0, memory_order_relaxed);
    for (uint32_t i = 0; i < slots; i++) {
        atomic_store_explicit(&cell_slot_of(&c, i)->version, 0, memory_order_relaxed);
        atomic_store_explicit(&cell_slot_of(&c, i)->length, 0, memory_order_relaxed);
    }
    /* release: pairs with cell_attach(), which then sees all of it */
    atomic_store_explicit(&page->magic, CELL_MAGIC, memory_order_release);
}

bool cell_attach(void *memory, size_t bytes, struct cell *ret_cell)
{
    struct cell_page *page = memory;
    uint64_t capacity, need;
    uint32_t slots;

    if (bytes < sizeof *page ||
        atomic_load_explicit(&page->magic, memory_order_acquire) != CELL_MAGIC || /* pairs with cell_init() */
        atomic_load_explicit(&page->layout, memory_order_relaxed) != CELL_LAYOUT)
        return false;
    /* Once each: what is checked is what is used. */
    capacity = atomic_load_explicit(&page->capacity, memory_order_relaxed);
    slots = atomic_load_explicit(&page->slots, memory_order_relaxed);
    need = cell_bytes(capacity, slots);
    if (need == 0 || need > bytes)
        return false;
    *ret_cell = view_of(page, capacity, slots);
    return true;
}

uint64_t cell_put(const struct cell *c, const void *data, uint64_t length)
{
    /* relaxed: our own */
    uint64_t version = atomic_load_explicit(&c->page->version, memory_order_relaxed) + 1, i, word;
    struct cell_slot *slot = cell_slot_of(c, version);
    const uint8_t *from = data;

    if (__builtin_expect(version - 1 >= CELL_VERSION_MOST, 0))
        return 0;
    atomic_store_explicit(&slot->version, version, memory_order_release); /* [P6] */
    atomic_thread_fence(memory_order_release);                            /* [P5] */
    /* relaxed: P5 and P4 order them */
    for (i = 0; i + sizeof word <= length; i += sizeof word) {
        memcpy(&word, from + i, sizeof word);
        atomic_store_explicit(&slot->words[i / sizeof word], word, memory_order_relaxed);
    }
    if (i < length) {
        word = 0;
        memcpy(&word, from + i, length - i);
        atomic_store_explicit(&slot->words[i / sizeof word], word, memory_order_relaxed);
    }
    atomic_store_explicit(&slot->length, length, memory_order_relaxed);
    atomic_store_explicit(&c->page->version, version, memory_order_release); /* [P4] */
    return version;
}

enum cell_state cell_look(const struct cell *c, struct cell_value *ret_value)
{
    uint64_t version = cell_version(c);
    const struct cell_slot *slot = cell_slot_of(c, version);

    if (__builtin_expect(version - 1 >= CELL_VERSION_MOST, 0))
        return version == 0 ? CELL_EMPTY : CELL_BROKEN;
    ret_value->slot = slot;
    ret_value->version = version;
    ret_value->length = atomic_load_explicit(&slot->length, memory_order_relaxed); /* C4 orders it */
    return CELL_OK;
}

void cell_copy(const struct cell_value *value, void *data, uint64_t length)
{
    uint8_t *to = data;
    uint64_t i, word;

    /* relaxed: C4 and C5 order them */
    for (i = 0; i + sizeof word <= length; i += sizeof word) {
        word = atomic_load_explicit(&value->slot->words[i / sizeof word], memory_order_relaxed);
        memcpy(to + i, &word, sizeof word);
    }
    if (i < length) {
        word = atomic_load_explicit(&value->slot->words[i / sizeof word], memory_order_relaxed);
        memcpy(to + i, &word, length - i);
    }
}

enum cell_state cell_check(const struct cell *c, const struct cell_value *value)
{
    uint64_t begun, now;

    atomic_thread_fence(memory_order_acquire);                                 /* [C5] */
    begun = atomic_load_explicit(&value->slot->version, memory_order_acquire); /* [C6] */
    if (__builtin_expect(begun == value->version, 1))
        return value->length <= c->capacity ? CELL_OK : CELL_BROKEN;
    now = cell_version(c);
    return begun > value->version && begun % c->count == value->version % c->count && now >= begun - 1
               ? CELL_OVERTAKEN
               : CELL_BROKEN;
}

enum cell_state cell_get(const struct cell *c, void *data, uint64_t length, struct cell_value *ret_value)
{
    for (int i = 0; i < CELL_TRIES; i++) {
        struct cell_value value;
        enum cell_state state = cell_look(c, &value);
        uint64_t part;

        if (state != CELL_OK)
            return state;
        part = value.length < length ? value.length : length;
        cell_copy(&value, data, part < c->capacity ? part : c->capacity);
        state = cell_check(c, &value);
        if (state == CELL_OK)
            *ret_value = value;
        if (state != CELL_OVERTAKEN)
            return state;
    }
    return CELL_OVERTAKEN;
}
