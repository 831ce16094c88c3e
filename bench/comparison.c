/* SPDX-License-Identifier: MIT */
/* The table. */
#include "bench/comparison.h"

#include <string.h>

#include "bench/floor.h"

#define ONLY(pattern) (1u << (pattern))

/* What blocks in the kernel: one bare program. */
#define BARE(row, floor)                                                                                     \
    {                                                                                                        \
        .mechanism = (row), .against = { {.name = "bare", .carrier = &(floor)} }                             \
    }

const struct comparison comparisons_bare[] = {
    BARE("pipe", floor_pipe),
    BARE("fifo", floor_fifo),
    BARE("unix-stream", floor_unix_stream),
    BARE("unix-seqpacket", floor_unix_seqpacket),
    BARE("unix-dgram", floor_unix_dgram),
    BARE("tcp", floor_tcp),
    BARE("udp", floor_udp),
    BARE("sysvmq", floor_sysvmq),
    BARE("posixmq", floor_posixmq),
    {.mechanism = "shm",
     .mode = "spin",
     .options = "wait=spin",
     .fast = true,
     .against = {{.name = "floor", .carrier = &floor_shm_lines},
                 {.name = "control", .carrier = &floor_shm_slots},
                 {.name = "ring", .carrier = &floor_shm_ring},
                 {.name = "guarded", .carrier = &floor_shm_guarded}}},
    {.mechanism = "shm",
     .mode = "adaptive",
     .options = "wait=adaptive",
     .fast = true,
     .against = {{.name = "spin", .options = "wait=spin"}}},
    {.mechanism = "shm",
     .mode = "sleep",
     .options = "wait=sleep",
     .patterns = ONLY(PATTERN_PINGPONG),
     .against = {{.name = "unix", .carrier = &floor_unix_stream},
                 {.name = "futex", .carrier = &floor_shm_futex},
                 {.name = "eventfd", .carrier = &floor_shm_eventfd}}},
    {.mechanism = "shm",
     .mode = "epoll",
     .polled = true,
     .patterns = ONLY(PATTERN_PINGPONG),
     .against = {{.name = "eventfd", .carrier = &floor_shm_epoll}}},
    {0},
};

/* Lent, a message is a descriptor of 16 bytes in the ring, and a word that comes back: beside those that
 * nobody touches stands what a bare program needs for the two, and small ones, which are copied, and for
 * which nothing comes back. These stand beside those of which each side touches a line, which has to follow
 * the descriptor from CPU to CPU. Beside those that are touched a ring through which the same bytes are
 * copied in and out; it has room for four messages of 1 MiB, which stay in the processor's caches, and so has
 * the pool of those in 4M. */
const struct comparison comparisons_loan[] = {
    {.mechanism = "shm",
     .mode = "lent",
     .options = "wait=spin",
     .lending = LENDING_UNTOUCHED,
     .fast = true,
     .patterns = ONLY(PATTERN_PINGPONG) | ONLY(PATTERN_STREAM),
     .against = {{.name = "bare", .carrier = &floor_shm_lend},
                 {.name = "calls", .carrier = &floor_shm_lend_calls},
                 {.name = "16 B", .options = "wait=spin", .size = 16},
                 {.name = "64 B", .options = "wait=spin", .size = 64}}},
    {.mechanism = "shm",
     .mode = "opened",
     .options = "wait=spin",
     .lending = LENDING_OPENED,
     .fast = true,
     .patterns = ONLY(PATTERN_PINGPONG) | ONLY(PATTERN_STREAM),
     .against = {{.name = "16 B", .options = "wait=spin", .size = 16},
                 {.name = "64 B", .options = "wait=spin", .size = 64}}},
    {.mechanism = "shm",
     .mode = "touched",
     .options = "wait=spin",
     .lending = LENDING_TOUCHED,
     .fast = true,
     .patterns = ONLY(PATTERN_PINGPONG) | ONLY(PATTERN_STREAM),
     .against = {{.name = "control", .carrier = &floor_shm_slots},
                 {.name = "copied", .options = "wait=spin"}}},
    {.mechanism = "shm",
     .mode = "touched 4M",
     .options = "wait=spin&pool=4M",
     .lending = LENDING_TOUCHED,
     .fast = true,
     .patterns = ONLY(PATTERN_STREAM),
     .against = {{.name = "control", .carrier = &floor_shm_slots}}},
    {0},
};

const struct comparison comparison_alone = {0};

const struct comparison *comparison_next(const struct comparison *table, const char *mechanism,
                                         const struct comparison *previous)
{
    for (const struct comparison *c = previous ? previous + 1 : table; c->mechanism; c++)
        if (strcmp(c->mechanism, mechanism) == 0)
            return c;
    return NULL;
}
