/* SPDX-License-Identifier: MIT */
/*
 * mremap(2): "If the value of old_size is zero, and old_address refers to a shareable mapping, then mremap()
 * will create a new mapping of the same pages." For System V memory it is one more attachment, as after
 * shmat(2), and munmap(2) detaches.
 */
#include "segment/mirror.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/mapping.h"

static int map_again(void *source, size_t length, void *target)
{
    return mremap(source, 0, length, MREMAP_MAYMOVE | MREMAP_FIXED, target) == MAP_FAILED ? -errno : 0;
}

/* Before Linux 5.14 (EINVAL) the file's space is reserved by whoever made it; System V's is not. */
int mirror_reserve(const char *what, void *data, size_t length)
{
    int r;

    do
        r = madvise(data, length, MADV_POPULATE_WRITE);
    while (r < 0 && errno == EINTR);
    return r == 0 || errno == EINVAL
               ? 0
               : error_set(ENOMEM, "%s: the machine has no memory for %zu shared bytes", what, length);
}

int mirror_map(const char *what, void *source, size_t plain, size_t ring, struct sealed *ret_memory)
{
    struct sealed memory = {.plain = plain, .ring = ring};
    int r = sealed_check_sizes(what, plain, ring);

    if (r < 0)
        return r;
    memory.base = mmap(NULL, plain + 2 * ring, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory.base == MAP_FAILED)
        return error_set(mapping_code(errno), "%s: no room in the address space for a ring of %zu bytes: %s",
                         what, ring, mapping_text(errno));
    r = map_again(source, plain + ring, memory.base);
    if (r == 0)
        r = map_again((uint8_t *)source + plain, ring, memory.base + plain + ring);
    if (r < 0)
        r = error_set(mapping_code(-r), "%s: cannot map a ring of %zu bytes twice: %s", what, ring,
                      mapping_text(-r));
    else
        r = mirror_reserve(what, memory.base, plain + ring);
    if (r < 0) {
        sealed_deinit(&memory);
        return r;
    }
    *ret_memory = memory;
    return 0;
}
