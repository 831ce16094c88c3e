/* SPDX-License-Identifier: MIT */
/* In place of boost.cpp where that library was not found. */
#include "bench/peers/peers.h"

static int open_link(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    (void)carrier, (void)load, (void)ret_link;
    return peers_missing("libboost-dev (or g++)");
}

const struct carrier peer_boost_spin = {.mechanism = "boost", .open = open_link};
const struct carrier peer_boost_sleep = {.mechanism = "boost", .open = open_link};
