/* SPDX-License-Identifier: MIT */
/*
 * Memory with one writer. Its maker maps a memfd for writing and then seals it: from then on nobody can map
 * it for writing, truncate it, grow it or punch holes into it (memfd_create(2), fcntl(2)
 * F_SEAL_FUTURE_WRITE), and whoever gets the descriptor can read it without fear of SIGBUS. The maker's own
 * mapping stays writable.
 *
 * It has two parts: pages as they are, and a ring that stands in the address space twice in a row, so that
 * what runs over its end is contiguous:
 *
 *     base                base + plain            base + plain + ring
 *     | plain             | ring                  | the same ring again |
 *
 * The compiler does not know that two addresses are one byte: a value read by one alias may be kept across a
 * store by the other. So atomics are accessed in the first copy only, and only payload runs into the second.
 */
#ifndef NARU_SEGMENT_SEALED_H
#define NARU_SEGMENT_SEALED_H

#include <stddef.h>
#include <stdint.h>

struct sealed {
    uint8_t *base; /* NULL: not mapped */
    size_t plain, ring;
};

/* Both sizes are multiples of the page size, neither is 0, and ring is a power of two. 0 or an explained
 * -EINVAL that says which is wrong. what: the URL, for the explanation. */
int sealed_check_sizes(const char *what, uint64_t plain, uint64_t ring);

/* Makes such memory, all zero and reserved (what is missing is an error here and no SIGBUS later), and maps
 * it for writing. *ret_fd is the caller's, to pass on and close. label: for /proc/PID/maps. 0 or an explained
 * -errno: -ENOMEM, -ENOSPC, -EFBIG (RLIMIT_FSIZE), -EMFILE, -ENFILE, -EINVAL (also: the kernel knows no
 * seals). */
int sealed_make(const char *what, const char *label, size_t plain, size_t ring, struct sealed *ret_memory,
                int *ret_fd);

/* Maps for reading what somebody else made, of just these sizes. Refuses (-EPROTO, explained) a descriptor
 * that is not such memory: not a memfd, of huge pages, without all of the seals, of another size, or not
 * reserved. fd stays the caller's and is not needed afterwards. */
int sealed_attach(const char *what, int fd, size_t plain, size_t ring, struct sealed *ret_memory);

/* Unmaps. May be called on zeroed memory, and twice. */
void sealed_deinit(struct sealed *memory);

/* The ring's first copy. */
static inline uint8_t *sealed_ring(const struct sealed *memory)
{
    return memory->base + memory->plain;
}

#endif
