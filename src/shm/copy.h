/* SPDX-License-Identifier: MIT */
/*
 * Payload in and out of shared memory. A call of memcpy() for 8 bytes, through the procedure linkage table
 * and its choice by length, costs as much as the rest of a small message's way; so up to a cache line is
 * copied right here, by the first and the last bytes, which may overlap: without a call, for which whoever
 * copies would have to save registers. What is copied from may change meanwhile, if its writer is hostile:
 * each byte then has one of the values that it had.
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

/* For 33 to 64 bytes. In pieces of a register: larger ones go by the stack. */
static inline void copy_halves(uint8_t *to, const uint8_t *from, size_t length)
{
    uint8_t piece[4][16];

    memcpy(piece[0], from, 16);
    memcpy(piece[1], from + 16, 16);
    memcpy(piece[2], from + length - 32, 16);
    memcpy(piece[3], from + length - 16, 16);
    memcpy(to, piece[0], 16);
    memcpy(to + 16, piece[1], 16);
    memcpy(to + length - 32, piece[2], 16);
    memcpy(to + length - 16, piece[3], 16);
}

enum { COPY_SHORT = 64 };

/* Up to COPY_SHORT bytes. */
static inline void copy_short(void *target, const void *source, size_t length)
{
    uint8_t *to = (uint8_t *)target;
    const uint8_t *from = (const uint8_t *)source;

    if (length - 8 <= 8)
        COPY_ENDS(8);
    else if (length > 32)
        copy_halves(to, from, length);
    else if (length > 16)
        COPY_ENDS(16);
    else if (length >= 4)
        COPY_ENDS(4);
    else if (length >= 2)
        COPY_ENDS(2);
    else if (length)
        *to = *from;
}

/* Likewise, of what the program may have written just now, field by field: by loads of four bytes. A load
 * that covers more than one store waits until they have left the processor's store buffer, behind all that
 * was sent before, whose lines are still to come; one that lies within a store does not. That is half of the
 * time of a stream of 64 bytes that are made anew for each message, once it waits for nothing else
 * (ring_claim()). The stores are as wide as they can be: it is the store buffer whose room such a stream is
 * short of. */
typedef uint32_t copy_four __attribute__((vector_size(16), may_alias, aligned(1)));
typedef uint32_t copy_two __attribute__((vector_size(8), may_alias, aligned(1)));
typedef uint32_t copy_field __attribute__((may_alias, aligned(1)));

static inline void copy_fresh_16(uint8_t *to, const uint8_t *from)
{
    /* volatile: compilers make one load of neighbours */
    const volatile copy_field *field = (const volatile copy_field *)from;

    *(copy_four *)to = (copy_four){field[0], field[1], field[2], field[3]};
}

static inline void copy_fresh_8(uint8_t *to, const uint8_t *from)
{
    const volatile copy_field *field = (const volatile copy_field *)from;

    *(copy_two *)to = (copy_two){field[0], field[1]};
}

static inline __attribute__((always_inline)) void copy_fresh(void *target, const void *source, size_t length)
{
    uint8_t *to = (uint8_t *)target;
    const uint8_t *from = (const uint8_t *)source;

    if (length > COPY_SHORT)
        memcpy(target, source, length);
    else if (length > 32) {
        copy_fresh_16(to, from);
        copy_fresh_16(to + 16, from + 16);
        copy_fresh_16(to + length - 32, from + length - 32);
        copy_fresh_16(to + length - 16, from + length - 16);
    } else if (length > 16) {
        copy_fresh_16(to, from);
        copy_fresh_16(to + length - 16, from + length - 16);
    } else if (length >= 8) {
        copy_fresh_8(to, from);
        copy_fresh_8(to + length - 8, from + length - 8);
    } else
        copy_short(target, source, length);
}

static inline void copy_payload(void *target, const void *source, size_t length)
{
    if (length > COPY_SHORT)
        memcpy(target, source, length);
    else
        copy_short(target, source, length);
}

#undef COPY_ENDS

#endif
