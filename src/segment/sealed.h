/* SPDX-License-Identifier: MIT */
/*
 * Memory with one writer. Its maker maps a memfd for writing and then seals it: from then on nobody can map
 * it for writing, truncate it, grow it or punch holes into it (memfd_create(2), fcntl(2)
 * F_SEAL_FUTURE_WRITE), and whoever gets the descriptor can read it without fear of SIGBUS. The maker's own
 * mapping stays writable.
 *
 * It has parts: pages as they are, and a ring that stands in the address space twice in a row, so that
 * what runs over its end is contiguous:
 *
 *     base                base + plain            base + plain + ring   base + plain + 2 ring
 *     | plain             | ring                  | the same ring again | pool, if any |
 *
 * The pool is as long as the maker may need it one day: its pages take no memory before they are reached
 * (sealed_populate()).
 *
 * The compiler does not know that two addresses are one byte: a value read by one alias may be kept across a
 * store by the other. So atomics are accessed in the first copy only, and only payload runs into the second.
 */
#ifndef NARU_SEGMENT_SEALED_H
#define NARU_SEGMENT_SEALED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sealed {
    uint8_t *base; /* NULL: not mapped */
    size_t plain, ring, pool;
    size_t more; /* rings of the same size behind the first one, each twice, too */
};

/* Both sizes are multiples of the page size, neither is 0, and ring is a power of two. 0 or an explained
 * -EINVAL that says which is wrong. what: the URL, for the explanation. */
int sealed_check_sizes(const char *what, uint64_t plain, uint64_t ring);

/* Makes such memory, all zero, with a pool of so many bytes (a multiple of the page size; or 0), and maps it
 * for writing. All but the pool is reserved: what is missing is an error here and no SIGBUS later. *ret_fd is
 * the caller's, to pass on and close. label: for /proc/PID/maps. 0 or an explained -errno: -ENOMEM, -ENOSPC,
 * -EFBIG (RLIMIT_FSIZE), -EMFILE, -ENFILE, -EINVAL (also: the kernel knows no seals). */
int sealed_make(const char *what, const char *label, size_t plain, size_t ring, size_t pool,
                struct sealed *ret_memory, int *ret_fd);

/* Likewise with so many more rings. */
int sealed_make_more(const char *what, const char *label, size_t plain, size_t ring, size_t more, size_t pool,
                     struct sealed *ret_memory, int *ret_fd);

/* Maps for reading what somebody else made, of just these sizes and, for a pool, up to pool_most bytes behind
 * them. Refuses (-EPROTO, explained) a descriptor that is not such memory: not a memfd, of huge pages, not
 * open for reading, without all of the seals or with F_SEAL_WRITE (which before Linux 6.7 cannot be mapped:
 * EPERM, as in a sandbox), of another size, or not reserved. Any other error is for what this process lacks
 * or may not do, -ENOMEM, -ENFILE, -EPERM, -ENOSYS: nobody makes it look short by what it passes. fd stays
 * the caller's and is not needed afterwards. */
int sealed_attach(const char *what, int fd, size_t plain, size_t ring, uint64_t pool_most,
                  struct sealed *ret_memory);

/* Likewise with so many more rings, and of the pool no more is mapped than mapped_most bytes (whole pages):
 * so much has ret_memory->pool then. */
int sealed_attach_more(const char *what, int fd, size_t plain, size_t ring, size_t more, uint64_t pool_most,
                       size_t mapped_most, struct sealed *ret_memory);

/* Reserves [from, to) of the pool and maps it, for its maker to write or its reader to read, at no cost where
 * that is done already. What cannot be had is an error here, and no SIGBUS later. 0 or -ENOMEM, without a
 * sentence. */
int sealed_populate(const struct sealed *memory, size_t from, size_t to, bool write);

/* Reserves and maps all that is mapped, the pool too: no access faults later. write: as its maker. 0 or the
 * explained -ENOMEM. Before Linux 5.14 nothing is done. */
int sealed_prefault(const char *what, const struct sealed *memory, bool write);

/* Moves the mapping to where huge pages can be mapped in it: before anybody uses it. 0; or an explained
 * -errno, and it is unmapped. */
int sealed_align(const char *what, struct sealed *memory);

/* Asks for huge pages, where sealed_align() made room for them. there: all is reserved, and is joined at once
 * (Linux 6.1); else it is as the system has it (shmem_enabled), when pages are reached. */
void sealed_make_huge(const struct sealed *memory, bool there);

/* Unmaps. May be called on zeroed memory, and twice. */
void sealed_deinit(struct sealed *memory);

/* The ring's first copy. */
static inline uint8_t *sealed_ring(const struct sealed *memory)
{
    return memory->base + memory->plain;
}

/* Of ring number i, the first is 0: its first copy. */
static inline uint8_t *sealed_ring_at(const struct sealed *memory, size_t i)
{
    return sealed_ring(memory) + 2 * memory->ring * i;
}

static inline uint8_t *sealed_pool(const struct sealed *memory)
{
    return sealed_ring_at(memory, memory->more + 1);
}

/* Bytes of the address space that it takes. */
static inline size_t sealed_mapped(const struct sealed *memory)
{
    return memory->plain + 2 * memory->ring * (memory->more + 1) + memory->pool;
}

#endif
