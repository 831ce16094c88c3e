/* SPDX-License-Identifier: MIT */
/* Pages that are there already, and huge ones: see pages.h. */
#include "segment/pages.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* <linux/mman.h> of Linux 6.1 */
#endif

enum { TRIES = 100 }; /* of a collapse that finds a page in use just now (EAGAIN) */

size_t pages_huge_size(void)
{
    FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "re");
    size_t size = 0;

    if (!file)
        return 0;
    if (fscanf(file, "%zu", &size) != 1 || (size & (size - 1)) != 0)
        size = 0;
    (void)fclose(file);
    return size;
}

void *pages_reserve_addresses(size_t length, size_t alignment)
{
    size_t all = length + alignment, before, behind;
    uint8_t *space;

    if (all < length) {
        errno = ENOMEM;
        return NULL;
    }
    space = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED)
        return NULL;
    if (alignment == 0)
        return space;
    before = (alignment - (uintptr_t)space % alignment) % alignment;
    behind = alignment - before;
    if (before)
        (void)munmap(space, before);
    if (behind)
        (void)munmap(space + before + length, behind);
    return space + before;
}

static int advise(void *data, size_t length, int advice)
{
    int tries = 0, r;

    do
        r = madvise(data, length, advice);
    while (r < 0 && (errno == EINTR || (errno == EAGAIN && ++tries < TRIES)));
    return r < 0 ? -errno : 0;
}

int pages_make_huge(void *data, size_t length)
{
    size_t huge = pages_huge_size();

    if (huge == 0 || length < huge || (uintptr_t)data % huge != 0)
        return -EINVAL;
    length -= length % huge;
    (void)advise(data, length, MADV_HUGEPAGE); /* for what the kernel can do later, in the background */
    return advise(data, length, MADV_COLLAPSE);
}

int pages_prefault(void *data, size_t length, bool write)
{
    int r = length ? advise(data, length, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) : 0;

    return r == -EINVAL ? -ENOTSUP : r;
}
