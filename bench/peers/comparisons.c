/* SPDX-License-Identifier: MIT */
/*
 * Shared memory against other libraries. nng and ZeroMQ hand each message to a thread of their own, which
 * sleeps in the kernel until there is something to do: a caller that spins does not change that. So they
 * stand beside naru that spins as they are, and the text says so; Boost's queue spins where naru does.
 */
#include "bench/comparison.h"

#include <errno.h>

#include "bench/floor.h"
#include "bench/peers/peers.h"

enum { ONE_BY_ONE = 1u << PATTERN_PINGPONG | 1u << PATTERN_STREAM };

#define PEERS(boost)                                                                                         \
    {                                                                                                        \
        {.name = "nng", .carrier = &peer_nng}, {.name = "nng-q", .carrier = &peer_nng_queues},               \
            {.name = "zmq", .carrier = &peer_zmq},                                                           \
        {                                                                                                    \
            .name = "boost", .carrier = &(boost)                                                             \
        }                                                                                                    \
    }

const struct comparison comparisons_peers[] = {
    {.mechanism = "shm",
     .mode = "spin",
     .options = "wait=spin",
     .fast = true,
     .times = true,
     .patterns = ONE_BY_ONE,
     .against = PEERS(peer_boost_spin)},
    {.mechanism = "shm",
     .mode = "adaptive",
     .options = "wait=adaptive",
     .fast = true,
     .times = true,
     .patterns = ONE_BY_ONE,
     .against = PEERS(peer_boost_sleep)},
    {.mechanism = "shm",
     .mode = "sleep",
     .options = "wait=sleep",
     .times = true,
     .patterns = ONE_BY_ONE,
     .against = PEERS(peer_boost_sleep)},
    /* What the kernel's part of a round trip leaves to be had: beside the same peers, in the same rounds. */
    {.mechanism = "shm",
     .mode = "sleep",
     .options = "wait=sleep",
     .patterns = 1u << PATTERN_PINGPONG,
     .against = {{.name = "unix", .carrier = &floor_unix_stream},
                 {.name = "futex", .carrier = &floor_shm_futex}}},
    {0},
};

int peers_missing(const char *package)
{
    return duo_fail(-ENOTSUP, "not built, because the package %s was not there", package);
}
