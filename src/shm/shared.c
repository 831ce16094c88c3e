/* SPDX-License-Identifier: MIT */
/* Segments that both sides write: filled in, mapped, and made the two parts of a link. */
#include "shm/shared.h"

#include <sys/mman.h>

#include "segment/mirror.h"

static size_t part(uint64_t ring)
{
    return SHM_PAGE + (size_t)ring;
}

size_t shared_size(uint64_t ring)
{
    return SHM_PAGE + 2 * part(ring);
}

void shared_fill(void *segment, uint64_t ring, uint32_t place, const void *word)
{
    struct shm_shared *header = segment;

    for (int side = 0; side < 2; side++)
        shm_link_fill((struct shm_page *)(void *)((uint8_t *)segment + SHM_PAGE + (size_t)side * part(ring)),
                      ring, 0);
    header->size = shared_size(ring);
    header->place = place;
    memcpy(header->word, word, SHARED_WORD);
    /* release: pairs with shared_is_one(); System V memory can be found before it is filled in. */
    atomic_store_explicit(&header->magic, SHARED_MAGIC, memory_order_release);
}

bool shared_is_one(const void *page)
{
    const struct shm_shared *header = page;

    return atomic_load_explicit(&header->magic, memory_order_acquire) == SHARED_MAGIC;
}

int shared_split(const char *what, void *segment, uint64_t ring, struct shared_memory *ret_memory)
{
    struct shared_memory memory = {.header = segment};
    uint8_t *parts = (uint8_t *)segment + SHM_PAGE;
    int r = mirror_map(what, parts, SHM_PAGE, ring, &memory.side[0]);

    if (r == 0)
        r = mirror_map(what, parts + part(ring), SHM_PAGE, ring, &memory.side[1]);
    (void)munmap(parts, 2 * part(ring));
    if (r < 0) {
        shared_deinit(&memory);
        return r;
    }
    *ret_memory = memory;
    return 0;
}

void shared_deinit(struct shared_memory *memory)
{
    for (int side = 0; side < 2; side++)
        sealed_deinit(&memory->side[side]);
    if (memory->header)
        (void)munmap(memory->header, SHM_PAGE);
    memory->header = NULL;
}

void shared_hang_bells(struct shm_link *link, struct shm_shared *header, int side,
                       bool (*is_gone)(void *peer), void *peer)
{
    struct shm_bells *ours = &header->bells[side], *theirs = &header->bells[!side];

    link->their_receiver.bell = &ours->receiver;
    link->their_sender.bell = &ours->sender;
    link->receiver.bell = &theirs->receiver;
    link->sender.bell = &theirs->sender;
    link->receiver.is_gone = link->sender.is_gone = is_gone;
    link->receiver.peer = link->sender.peer = peer;
}
