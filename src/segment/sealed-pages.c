/* SPDX-License-Identifier: MIT */
/* What backs sealed memory that is mapped: pages that are there before they are needed, and huge ones. */
#include <errno.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/mapping.h"
#include "segment/pages.h"
#include "segment/sealed.h"

int sealed_prefault(const char *what, const struct sealed *memory, bool write)
{
    size_t all = sealed_mapped(memory);
    int r = pages_prefault(memory->base, all, write);

    return r == 0 || r == -ENOTSUP
               ? 0
               : error_set(ENOMEM, "%s: ?prefault: the machine has no memory for %zu bytes: %s", what, all,
                           error_text(-r));
}

/* What is in one piece in the file, too: the plain pages with the first ring, each further copy of a ring,
 * the pool. */
struct part {
    uint8_t *begin;
    size_t length, offset; /* offset: in the file */
};

/* Part i, as long as there is one. */
static bool find_part(const struct sealed *memory, size_t i, struct part *ret_part)
{
    size_t copies = 2 * (memory->more + 1);

    if (i == 0)
        *ret_part = (struct part){memory->base, memory->plain + memory->ring, 0};
    else if (i < copies)
        *ret_part = (struct part){sealed_ring(memory) + i * memory->ring, memory->ring,
                                  memory->plain + i / 2 * memory->ring};
    else
        *ret_part = (struct part){sealed_pool(memory), memory->pool,
                                  memory->plain + (memory->more + 1) * memory->ring};
    return i <= copies;
}

/* Where the parts are to be, so that the pool begins at a multiple of `huge` as its bytes in the file do. */
static uint8_t *find_place(const struct sealed *memory, size_t huge)
{
    size_t behind = memory->ring * (memory->more + 1); /* so much further than in the file the pool lies */
    size_t skip = (huge - behind % huge) % huge;
    uint8_t *space = pages_reserve_addresses(skip + sealed_mapped(memory), huge);

    if (space && skip)
        (void)munmap(space, skip);
    return space ? space + skip : NULL;
}

int sealed_align(const char *what, struct sealed *memory)
{
    size_t all = sealed_mapped(memory), huge = pages_huge_size();
    uint8_t *place = huge && all >= huge ? find_place(memory, huge) : NULL;
    struct part part;

    if (!place)
        return 0; /* as good as it was */
    for (size_t i = 0; find_part(memory, i, &part); i++) {
        size_t done = (size_t)(part.begin - memory->base);

        if (part.length && mremap(part.begin, part.length, part.length, MREMAP_MAYMOVE | MREMAP_FIXED,
                                  place + done) == MAP_FAILED) {
            int code = errno; /* what has moved is no longer where it was: none of it can be kept */

            (void)munmap(part.begin, all - done);
            (void)munmap(place, all);
            memory->base = NULL;
            return error_set(mapping_code(code), "%s: ?huge: cannot move shared memory: %s", what,
                             mapping_text(code));
        }
    }
    memory->base = place;
    return 0;
}

/* A part, as far as whole huge pages of the file lie in it. */
static void make_huge(const struct part *part, size_t huge, bool there)
{
    size_t skip = (huge - part->offset % huge) % huge;
    uint8_t *begin = part->begin + skip;

    if (part->length < skip + huge || (uintptr_t)begin % huge != 0)
        return;
    if (there)
        (void)pages_make_huge(begin, part->length - skip);
    else
        (void)madvise(begin, part->length - skip, MADV_HUGEPAGE);
}

void sealed_make_huge(const struct sealed *memory, bool there)
{
    size_t huge = pages_huge_size();
    struct part part;

    for (size_t i = 0; huge && find_part(memory, i, &part); i++)
        make_huge(&part, huge, there);
}
