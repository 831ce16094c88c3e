/* SPDX-License-Identifier: MIT */
/* The table. */
#include "bench/comparison.h"

#include <string.h>

#include "bench/floor.h"

#define ONLY(pattern) (1u << (pattern))

/* What blocks in the kernel: one bare program. */
#define BARE(row, floor)                                                                                     \
    {                                                                                                        \
        .mechanism = (row), .against = { {"bare", &(floor), NULL} }                                          \
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
     .against = {{"floor", &floor_shm_lines, NULL},
                 {"control", &floor_shm_slots, NULL},
                 {"ring", &floor_shm_ring, NULL},
                 {"guarded", &floor_shm_guarded, NULL}}},
    {.mechanism = "shm",
     .mode = "adaptive",
     .options = "wait=adaptive",
     .fast = true,
     .against = {{"spin", NULL, "wait=spin"}}},
    {.mechanism = "shm",
     .mode = "sleep",
     .options = "wait=sleep",
     .patterns = ONLY(PATTERN_PINGPONG),
     .against = {{"unix", &floor_unix_stream, NULL},
                 {"futex", &floor_shm_futex, NULL},
                 {"eventfd", &floor_shm_eventfd, NULL}}},
    {.mechanism = "shm",
     .mode = "epoll",
     .polled = true,
     .patterns = ONLY(PATTERN_PINGPONG),
     .against = {{"eventfd", &floor_shm_epoll, NULL}}},
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
