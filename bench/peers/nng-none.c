/* SPDX-License-Identifier: MIT */
/* In place of nng.c where that library was not found. */
#include "bench/peers/peers.h"

static int open_link(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    (void)carrier, (void)load, (void)ret_link;
    return peers_missing("libnng-dev");
}

const struct carrier peer_nng = {.mechanism = "nng", .open = open_link};
const struct carrier peer_nng_queues = {.mechanism = "nng", .open = open_link};
