/* SPDX-License-Identifier: MIT */
/* The table of floors. */
#include "bench/floor.h"

#include <string.h>

const struct carrier *const floors[] = {
    &floor_pipe,
    &floor_fifo,
    &floor_unix_stream,
    &floor_unix_seqpacket,
    &floor_unix_dgram,
    &floor_tcp,
    &floor_udp,
    &floor_sysvmq,
    &floor_posixmq,
    &floor_shm_lines,
    &floor_shm_guarded,
    &floor_shm_slots,
    &floor_shm_ring,
    &floor_shm_futex,
    &floor_shm_eventfd,
    &floor_shm_epoll,
    &floor_shm_lend,
    &floor_shm_lend_calls,
    NULL,
};

const struct carrier *floor_find(const char *mechanism)
{
    for (const struct carrier *const *floor = floors; *floor; floor++)
        if (strcmp((*floor)->mechanism, mechanism) == 0)
            return *floor;
    return NULL;
}
