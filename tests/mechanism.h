/* SPDX-License-Identifier: MIT */
/*
 * The conformance suite's parameter: every row of the mechanism table, over each way of opening it that the
 * suite knows. A row that it does not know is a case too, and fails: nothing escapes by being new.
 *
 *     TEST_EACH(keeps_the_order, each_variant)
 *     {
 *         struct link link;
 *         link_open(&link, index, NULL);
 *         ...
 *         link_close(&link);
 *     }
 *
 * A link's far end connects (and sends, where there is one direction), its near end accepts.
 */
#ifndef TESTS_MECHANISM_H
#define TESTS_MECHANISM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "naru/naru.h"
#include "runner.h"

enum {
    WAIT_LONG_S = 60, /* what a step may take before the test fails */
    MESSAGE_MAX = 4000,
    FILL_MAX = 100000 /* sends into a queue that must be full by then */
};

enum trait {
    PAIRED = 1 << 0,   /* opened by naru_channel_pair() */
    TEXT = 1 << 1,     /* payloads hold no newline and no NUL */
    FIXED = 1 << 2,    /* messages of exactly 4 bytes */
    HAS_MODE = 1 << 3, /* ?mode= decides which uids may connect */
    HAS_NAME = 1 << 4, /* naru_remove() can remove something */
    GIVEN = 1 << 8,    /* with PAIRED: over the descriptors of a socketpair(2) that the processes inherit */
    PROCESS = 1 << 7,  /* the receiving endpoint is a process: it goes with it, and no sooner */
    ROOM_UNTOLD = 1 << 6, /* nobody can know when there is room: the sender's descriptor is always ready */
    MEETING = 1 << 9,     /* connecting ends when the listener accepts */
    OWN = 1 << 10,        /* the name is its user's alone */
    ONE_WAITS = 1 << 11,  /* one may have connected that was not accepted yet, and the next waits */
    LOSSY = 1 << 5        /* the network's word on closing may be -ECONNRESET */
};

struct variant {
    const char *row, *label;
    const char *url; /* %d: the test's directory; %n: a number of the link's own; %u: this user */
    unsigned traits;
};

/* The parameter of TEST_EACH. */
const char *each_variant(size_t index);
const struct variant *variant_at(size_t index);

struct link {
    const struct variant *variant;
    const struct naru_mechanism *row;
    struct naru_options options;
    int signals_fd;  /* with PROCESS: a lock on the user's queue of signals */
    const char *url; /* to connect to */
    struct naru_listener *listener;
    struct naru_channel *pair[2];
    int given[2];
    bool opened; /* there is something to remove */
};

/* Listens, or makes the pair. options may be NULL. */
void link_open(struct link *link, size_t index, const struct naru_options *options);
/* As link_open(), with ?key=value&... added to the URL. */
void link_open_with(struct link *link, size_t index, const struct naru_options *options, const char *query);

bool link_can(const struct link *link, uint32_t capability);

/* NARU_CAN_KNOW_DEATH, and these ends know each other. */
bool link_knows_death(const struct link *link);

/* Both ends in this process. */
void link_both(struct link *link, struct naru_channel **ret_far, struct naru_channel **ret_near);

/* One end, in a process that leaves the other to another process. */
struct naru_channel *link_far(struct link *link);
struct naru_channel *link_near(struct link *link);

/* In a process that uses neither end. */
void link_leave(struct link *link);

/* Ends the listener and removes what would outlive it. Channels are the caller's. */
void link_close(struct link *link);

/* Fails the test, with naru_explain(), if the call returned a negative; else gives what it returned. */
#define CHECK_OK(call) check_ok(__FILE__, __LINE__, #call, (long long)(call))
long long check_ok(const char *file, int line, const char *expression, long long result);

/* Message number `number` of a stream of test messages: its length, its bytes; each can be recognised. */
size_t message_size(const struct link *link, uint64_t number);
void message_make(const struct link *link, uint64_t number, void *buffer, size_t length);
void message_check(const char *file, int line, const struct link *link, uint64_t number, const void *data,
                   long long length);

/* The number that a message says it has; -1: none. */
long long message_number(const struct link *link, const void *data, size_t length);

/* Sends or receives message `number`, waiting as long as it takes. */
#define PUT(link, ch, number)  put(__FILE__, __LINE__, link, ch, number)
#define TAKE(link, ch, number) take(__FILE__, __LINE__, link, ch, number)
void put(const char *file, int line, const struct link *link, struct naru_channel *ch, uint64_t number);
void take(const char *file, int line, const struct link *link, struct naru_channel *ch, uint64_t number);

/* Sends messages from `first` on until there is no room (-EAGAIN). How many are sent. */
uint64_t fill(const struct link *link, struct naru_channel *ch, uint64_t first);

/* As fill(), going on with time-outs until one expires: the kernel may make more room as it goes (TCP). The
 * last message may be in part in the kernel and counts. How many were accepted. */
uint64_t fill_patiently(const struct link *link, struct naru_channel *ch);

/* Receives messages [from, to), while what a stream has begun goes out. */
void drain(const struct link *link, struct naru_channel *far, struct naru_channel *near, uint64_t from,
           uint64_t to);

/* How many messages may be under way without an answer: where nothing pushes back, few. */
uint64_t link_window(const struct link *link);

/* What recv and send say once a peer has gone. */
bool says_gone(const struct link *link, long long result);

/* Nanoseconds of CLOCK_MONOTONIC. */
int64_t now_ns(void);

/* Kills a process without reaping it, and waits until it is dead. */
void kill_unreaped(int pid);

#endif
