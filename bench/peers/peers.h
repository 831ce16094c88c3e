/* SPDX-License-Identifier: MIT */
/*
 * Other libraries that carry messages between processes, each used in the way that its documentation calls
 * the fastest, and measured by the loops that measure naru. Only the program naru-peers is linked with them;
 * of one that was not found when it was built, NAME-none.c says which package is missing.
 */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#ifdef __cplusplus
extern "C" {
#endif

#include "bench/carrier.h"

extern const struct carrier peer_nng, peer_nng_queues, peer_zmq, peer_boost_spin, peer_boost_sleep;

/* For a carrier's open(): that it was built without that Debian package. -ENOTSUP. */
int peers_missing(const char *package);

#ifdef __cplusplus
}
#endif

#endif
