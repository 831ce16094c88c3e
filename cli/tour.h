/* SPDX-License-Identifier: MIT */
/*
 * The tour: two processes carry a file through every mechanism; the one at the far end hashes what it got.
 * cmd-tour.c chooses, tour-*.c carry (one file for each way of carrying), tour-print.c shows.
 */
#ifndef CLI_TOUR_H
#define CLI_TOUR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/engine.h"
#include "cli/sha256.h"
#include "naru/naru.h"

enum {
    TOUR_CHUNK = 64 * 1024,           /* bytes of a message, where the mechanism takes as much */
    TOUR_ENOUGH = 16 * 1024 * 1024,   /* a small file is carried again and again up to this, for the rate */
    TOUR_FILE_MAX = 64 * 1024 * 1024, /* of a larger file, the beginning */
    TOUR_NOTE = 160
};

struct tour_file {
    const char *path;
    uint8_t *data; /* size bytes, and TOUR_CHUNK more in which the file begins again */
    size_t size;
    bool cut; /* the file is larger than TOUR_FILE_MAX */
};

enum tour_outcome {
    TOUR_WHOLE,       /* the file arrived, once at least, and every byte is right */
    TOUR_PART,        /* what fitted into the time arrived, and every byte is right */
    TOUR_HANDED_OVER, /* a row without data: only the hand-off was timed */
    TOUR_UNAVAILABLE, /* this machine does not allow it; the note says why */
    TOUR_FAILED,      /* the note says how */
    TOUR_INTERRUPTED
};

struct tour_result {
    enum tour_outcome outcome;
    uint64_t carried;  /* bytes, over all copies */
    double seconds;    /* from the first send call until the last byte was there */
    uint64_t p50, p99; /* ns: round trip, or hand-off; 0: not measured */
    char note[DUO_WHY_MAX];
};

/* What the two processes and the supervisor share while a file is carried. */
struct tour_shared {
    _Atomic uint64_t total;    /* bytes that are sent in all; UINT64_MAX until the sender knows */
    _Atomic bool acknowledged; /* the sender knows that all has arrived */
    int64_t begin, end;        /* ns; written by the near and the far side */
    uint64_t resent;           /* messages */
    uint8_t digest[SHA256_SIZE];
    struct histogram latency; /* of a carrier that measures by itself */
};

struct tour {
    struct tour_file file;
    struct engine engine;
    struct tour_shared *shared;
    const char *directory;
    int stop_fd;
    int64_t budget_ns;      /* for carrying the file through one mechanism */
    int64_t trip_ns;        /* for measuring its round trip */
    uint64_t digest_length; /* see tour_digest() */
    uint8_t digest[SHA256_SIZE];
};

/* How many bytes a mechanism with such messages is to carry: whole copies of the file. */
uint64_t tour_plan(const struct tour *tour, size_t chunk);

/* Where byte `offset` of the file carried again and again lies. TOUR_CHUNK bytes follow in one piece. */
const uint8_t *tour_at(const struct tour *tour, uint64_t offset);

/* The hash of its first `length` bytes. The last answer is remembered. */
const uint8_t *tour_digest(struct tour *tour, uint64_t length);

/* Each carries the file through the mechanism and measures it. *ret is filled in any case. */
void tour_channel(struct tour *tour, const struct naru_mechanism *row, struct tour_result *ret);
void tour_exec(struct tour *tour, struct tour_result *ret);

/* Clears what is shared, before a carrying; and fills *result from it afterwards: r is what duo_run() gave.
 */
void tour_begin(struct tour *tour);
void tour_judge(struct tour *tour, int r, struct tour_result *result);

/* The two sides' parts for datagrams that may get lost. Each: 0, or -errno after duo_fail(). */
int tour_udp_near(const struct tour *tour, struct naru_channel *tx, uint64_t planned);
int tour_udp_far(const struct tour *tour, struct naru_channel *rx, uint8_t *buffer, uint64_t planned);

#endif
