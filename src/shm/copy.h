/* SPDX-License-Identifier: MIT */
/*
 * Payload in and out of shared memory. A call of memcpy() for 8 bytes, through the procedure linkage table
 * and its choice by length, costs as much as the rest of a small message's way; so up to a cache line is
 * copied right here, by the first and the last bytes, which may overlap. What is copied from may change
 * meanwhile, if its writer is hostile: each byte then has one of the values that it had.
 */
#ifndef NARU_SHM_COPY_H
#define NARU_SHM_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* For n to 2 n bytes. Of a constant size, so it is no call. */
#define COPY_ENDS(n)                                                                                         \
    do {                                                                                                     \
        uint8_t first[n], last[n];                                                                           \
                                                                                                             \
        memcpy(first, from, n);                                                                              \
        memcpy(last, from + length - (n), n);                                                                \
        memcpy(to, first, n);                                                                                \
        memcpy(to + length - (n), last, n);                                                                  \
    } while (0)

static inline void copy_payload(void *target, const void *source, size_t length)
{
    uint8_t *to = (uint8_t *)target;
    const uint8_t *from = (const uint8_t *)source;

    if (length > 64 || length < 4)
        memcpy(to, from, length);
    else if (length > 32)
        COPY_ENDS(32);
    else if (length > 16)
        COPY_ENDS(16);
    else if (length >= 8)
        COPY_ENDS(8);
    else
        COPY_ENDS(4);
}

#undef COPY_ENDS

#endif
