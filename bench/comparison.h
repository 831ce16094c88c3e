/* SPDX-License-Identifier: MIT */
/*
 * What is compared with what: each mechanism in each mode in which it is worth measuring, against the bare
 * programs that do the same in that mode. Most have one mode and one bare program; shared memory has more, as
 * it makes a difference whether a waiter spins or sleeps. In a table of its own: shared memory against other
 * libraries.
 */
#ifndef BENCH_COMPARISON_H
#define BENCH_COMPARISON_H

#include "bench/carrier.h"

enum { REFERENCES = 4 };

struct reference {
    const char *name; /* "bare" */
    const struct carrier *carrier;
    const char *options; /* where carrier is NULL: naru again, with these options of the URL, and copying */
    size_t size;         /* of its messages; 0: the same */
};

struct comparison {
    const char *mechanism;
    const char *mode;                     /* NULL: there is only one */
    const char *options;                  /* of naru's URL; NULL: none */
    enum lending lending;                 /* of naru's messages */
    bool polled;                          /* naru's receiver waits in epoll_wait(2) */
    bool fast;                            /* see struct load; both sides spin, which takes two CPUs */
    bool times;                           /* ratios say how many times as long the reference takes */
    unsigned patterns;                    /* bits; 0: all */
    struct reference against[REFERENCES]; /* up to the first without a name */
};

/* Tables end with an element without a mechanism. The second has nothing else in a program that is not linked
 * with other libraries, as the installed command (peers-none.c): what has is bench/peers/. The third is of
 * large messages that are lent. */
extern const struct comparison comparisons_bare[], comparisons_peers[], comparisons_loan[];

/* The next of a mechanism in a table (NULL: the first); NULL: no more. */
const struct comparison *comparison_next(const struct comparison *table, const char *mechanism,
                                         const struct comparison *previous);

/* For a mechanism without a bare counterpart. */
extern const struct comparison comparison_alone;

#endif
