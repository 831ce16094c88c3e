/* SPDX-License-Identifier: MIT */
/*
 * How memory that is mapped and shared is backed: by pages that are there before they are needed, and by huge
 * ones. No sentences: who calls knows what it was for.
 */
#ifndef NARU_SEGMENT_PAGES_H
#define NARU_SEGMENT_PAGES_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of a huge page that the kernel makes of ordinary ones; 0: this one does not. */
size_t pages_huge_size(void);

/* Address space of so many bytes in which nothing is mapped yet, at a multiple of `alignment` (a power of
 * two, or 0). NULL: there is none, and errno says why. munmap(2) gives it back. */
void *pages_reserve_addresses(size_t length, size_t alignment);

/*
 * Makes what is mapped of huge pages, as far as whole ones lie in it: asks for them (MADV_HUGEPAGE, for which
 * shmem_enabled and the mount's huge= have to allow it), and for them at once (MADV_COLLAPSE, Linux 6.1),
 * whatever those say. The file's beginning is mapped at a multiple of their size. 0; or -errno: some of it is
 * not huge, which is no harm; -EINVAL: no whole one lies in it, or the kernel or the file's file system
 * cannot.
 */
int pages_make_huge(void *data, size_t length);

/* Reserves what is mapped and maps each page, so that no access faults later. 0; -ENOMEM, or -EFAULT where
 * the file has no space or was cut short. Before Linux 5.14 (-ENOTSUP) nothing is done. */
int pages_prefault(void *data, size_t length, bool write);

#endif
