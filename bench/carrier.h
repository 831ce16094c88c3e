/* SPDX-License-Identifier: MIT */
/*
 * A carrier moves messages both ways between the two processes of a run: once by naru's public calls
 * (carrier-naru.c), once by bare system calls (floor-*.c). The engine drives both through this table, so that
 * loops, stamps, checks and clock readings are the same code for each.
 */
#ifndef BENCH_CARRIER_H
#define BENCH_CARRIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bench/duo.h"

enum pattern {
    PATTERN_PINGPONG, /* one message there, one back */
    PATTERN_STREAM,   /* one after another, one send call each */
    PATTERN_BATCH     /* naru_send_batch() against one system call a message on both sides */
};
enum { PATTERNS = 3 };

/* Whether naru_loan() and naru_borrow() carry it. */
enum lending {
    LENDING_NONE,
    LENDING_UNTOUCHED, /* nobody writes or reads it: how much of its loan is sent tells its number */
    LENDING_OPENED,    /* its number alone is written and read, where it lies */
    LENDING_TOUCHED    /* all of it is copied into the loan and out of the view */
};

/* What a carrier is asked to carry. */
struct load {
    enum pattern pattern;
    size_t size;           /* bytes of each message, the same for all of a run */
    const char *directory; /* of this run's own, for names in the file system; ends without slash */
    /* A message takes no longer than a reading of the clock: it is read once for many. */
    bool fast;
};

struct link; /* a carrier's own */

struct carrier {
    const char *mechanism; /* the row's name: "unix-stream" */
    size_t min_message;    /* bytes */
    size_t max_message;    /* bytes; 0: no limit of its own */
    bool plain;            /* a floor: with the plainest receive there is; see floor.h */
    bool answers;          /* carries ping-pong alone: an answer says that there is room again */
    bool slow;             /* takes many times as long as reading the clock, also where the load is fast */
    const char *options;   /* naru: of the URL; NULL: none */
    enum lending lending;  /* naru, and a floor's: what of a message is written and checked */
    bool polled;           /* naru: the receiver waits in epoll_wait(2), as an event loop does */
    const char *about;     /* of another library: its version, and how it is used */

    /* In the supervisor, before the fork: makes what both ends share. 0 or -errno after duo_fail(). */
    int (*open)(const struct carrier *carrier, const struct load *load, struct link **ret_link);
    /* In the supervisor, after the fork: closes its copies. May be NULL: close() does it. */
    void (*let_go)(struct link *link);
    /* In each child: takes that side's end. */
    int (*attach)(struct link *link, enum duo_side side);
    /* In each child, once it has sent and received everything; it exits afterwards without any clean-up. May
     * be NULL. */
    int (*detach)(struct link *link, enum duo_side side);
    /* In the supervisor, at the end: frees the link and removes all names. */
    void (*close)(struct link *link);

    /* In a child, its own end. Both block. send: 0. recv: the length, with *ret_data where the message lies,
     * either in buffer or in the link's memory until its next call. Negative: -errno after duo_fail(). */
    int (*send)(struct link *link, const void *data, size_t length);
    ssize_t (*recv)(struct link *link, void *buffer, size_t capacity, const void **ret_data);
    /* n messages of the load's size behind each other at data: how many were sent, at least 1. NULL: the
     * engine sends one by one. */
    ssize_t (*send_batch)(struct link *link, const void *data, size_t n);

    /* Messages that may be on the way at once; more could be lost, so the receiver gives credit in the other
     * direction. 0: the mechanism itself makes the sender wait. */
    size_t (*window)(size_t size);
};

/* The bare ones, NULL-terminated. */
extern const struct carrier *const floors[];
const struct carrier *floor_find(const char *mechanism);

/* naru's, for a mechanism's row: fills *ret_carrier. 0, or -ENOTSUP if no two ends of it can be made here. */
struct naru_mechanism;
int carrier_naru(const struct naru_mechanism *row, struct carrier *ret_carrier);

/* In a child, after attach(): its channels, which may be one and the same. They stay the link's. */
struct naru_channel;
void carrier_naru_ends(const struct link *link, struct naru_channel **ret_tx, struct naru_channel **ret_rx);

#endif
