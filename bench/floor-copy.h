/* SPDX-License-Identifier: MIT */
/* Copies for floors in shared memory: small ones without a call, as naru does and as any program can. */
#ifndef BENCH_FLOOR_COPY_H
#define BENCH_FLOOR_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The first and the last `n` bytes of what is between n and 2 n bytes long. */
#define COPY_ENDS(n)                                                                                         \
    do {                                                                                                     \
        uint8_t first[n], last[n];                                                                           \
                                                                                                             \
        memcpy(first, from, n);                                                                              \
        memcpy(last, from + length - (n), n);                                                                \
        memcpy(to, first, n);                                                                                \
        memcpy(to + length - (n), last, n);                                                                  \
    } while (0)

/* At least 4 bytes. */
static inline void floor_copy(uint8_t *to, const uint8_t *from, size_t length)
{
    if (length > 64)
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
