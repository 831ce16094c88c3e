/* SPDX-License-Identifier: MIT */
/* What a ring does rarely; the rest is inline in ring.h. */
#include "shm/ring.h"

void ring_writer_init(struct ring_writer *w, uint8_t *data, uint64_t capacity,
                      const _Atomic uint64_t *their_taken)
{
    *w = (struct ring_writer){.data = data, .mask = capacity - 1, .their_taken = their_taken};
}

void ring_reader_init(struct ring_reader *r, const uint8_t *data, uint64_t capacity, _Atomic uint64_t *taken)
{
    *r = (struct ring_reader){.data = data, .mask = capacity - 1, .taken = taken};
}

enum ring_state ring_find_room(struct ring_writer *w, uint64_t bytes)
{
    uint64_t taken = atomic_load_explicit(w->their_taken, memory_order_acquire); /* [C2] */

    /* Only forward, never beyond what was written, and at a record's beginning, as far as we can tell. */
    if (taken - w->taken > w->position - w->taken || taken % RECORD_HEADER != 0)
        return RING_BROKEN;
    w->taken = taken;
    return w->position + bytes - taken > w->mask + 1 ? RING_FULL : RING_OK;
}

enum ring_state ring_judge(uint64_t word, uint64_t capacity)
{
    uint32_t length = record_length(word), fds = record_fds(word);

    if (fds > RECORD_FDS_MAX)
        return RING_BROKEN;
    if (word == record_word_with_fds(RECORD_CHUNK, fds, sizeof(struct shm_chunk)))
        return RING_CHUNK;
    return word == record_word_with_fds(RECORD_DATA, fds, length) && fds > 0 && length <= record_max(capacity)
               ? RING_FDS
               : RING_BROKEN;
}
