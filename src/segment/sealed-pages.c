/* SPDX-License-Identifier: MIT */
/* What backs sealed memory that is mapped: pages that are there before they are needed, and huge ones. */
#include <errno.h>
#include <sys/mman.h>

#include "base/error.h"
#include "segment/pages.h"
#include "segment/sealed.h"

int sealed_prefault(const char *what, const struct sealed *memory, bool write)
{
    size_t all = memory->plain + 2 * memory->ring + memory->pool;
    int r = pages_prefault(memory->base, all, write);

    return r == 0 || r == -ENOTSUP
               ? 0
               : error_set(ENOMEM, "%s: ?prefault: the machine has no memory for %zu bytes: %s", what, all,
                           error_text(-r));
}

/* Where the parts are to be, so that each begins at a multiple of `huge` as its bytes in the file do. */
static uint8_t *find_place(const struct sealed *memory, size_t huge)
{
    size_t all = memory->plain + 2 * memory->ring + memory->pool;
    size_t skip =
        (huge - memory->ring % huge) % huge; /* the pool lies a ring further behind than in the file */
    uint8_t *space = pages_reserve_addresses(skip + all, huge);

    if (space && skip)
        (void)munmap(space, skip);
    return space ? space + skip : NULL;
}

int sealed_align(const char *what, struct sealed *memory)
{
    const size_t sizes[] = {memory->plain + memory->ring, memory->ring, memory->pool};
    size_t all = sizes[0] + sizes[1] + sizes[2], huge = pages_huge_size(), done = 0;
    uint8_t *place = huge && all >= huge ? find_place(memory, huge) : NULL;

    if (!place)
        return 0; /* as good as it was */
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && done < all; done += sizes[i++])
        if (sizes[i] && mremap(memory->base + done, sizes[i], sizes[i], MREMAP_MAYMOVE | MREMAP_FIXED,
                               place + done) == MAP_FAILED) {
            int code = errno; /* what has moved is no longer where it was: none of it can be kept */

            (void)munmap(memory->base + done, all - done);
            (void)munmap(place, all);
            memory->base = NULL;
            return error_set(code, "%s: ?huge: cannot move shared memory: %s", what, error_text(code));
        }
    memory->base = place;
    return 0;
}

/* [begin, end) of the mapping, as far as whole huge pages of the file lie in it. offset: of begin, in the
 * file. */
static void make_huge(uint8_t *begin, size_t length, size_t offset, size_t huge, bool there)
{
    size_t skip = (huge - offset % huge) % huge;

    if (length < skip + huge || (uintptr_t)(begin + skip) % huge != 0)
        return;
    if (there)
        (void)pages_make_huge(begin + skip, length - skip);
    else
        (void)madvise(begin + skip, length - skip, MADV_HUGEPAGE);
}

void sealed_make_huge(const struct sealed *memory, bool there)
{
    size_t huge = pages_huge_size(), first = memory->plain + memory->ring;

    if (huge == 0)
        return;
    make_huge(memory->base, first, 0, huge, there);
    make_huge(memory->base + first, memory->ring, memory->plain, huge, there);
    make_huge(sealed_pool(memory), memory->pool, first, huge, there);
}
