/* SPDX-License-Identifier: MIT */
/* Records that are held: where `taken` stands meanwhile. */
#include "shm/held.h"

void held_init(struct held *h, struct ring_reader *reader, struct shm_lane *lane)
{
    h->reader = reader;
    h->lane = lane;
    list_init(&h->records);
}

void held_add(struct held *h, struct held_record *record)
{
    record->start = h->reader->position;
    h->reader->taken = &h->lane->received;
    list_append(&h->records, &record->node);
}

bool held_remove(struct held *h, struct held_record *record)
{
    bool oldest = h->records.next == &record->node;
    uint64_t taken = h->reader->position;

    list_remove(&record->node);
    if (!oldest)
        return false;
    if (list_is_empty(&h->records))
        h->reader->taken = &h->lane->taken;
    else
        taken = list_entry(h->records.next, struct held_record, node)->start;
    atomic_store_explicit(&h->lane->taken, taken, memory_order_release); /* [P2] of ring.h */
    return true;
}
