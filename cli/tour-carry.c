/* SPDX-License-Identifier: MIT */
/* Carrying the file through a channel: any mechanism of which naru can make two ends. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cli/tour.h"

enum { MARKER = 4 /* bytes of the message that says: that was all; small enough for a signal */ };

struct job {
    const struct tour *tour;
    struct carrier carrier;
    struct link *link;
    uint64_t planned;
    size_t chunk;
    bool may_lose; /* the mechanism drops messages: number, acknowledge and resend them */
};

uint64_t tour_plan(const struct tour *tour, size_t chunk)
{
    uint64_t copies = chunk < 1024 || tour->file.size >= TOUR_ENOUGH ? 1 : TOUR_ENOUGH / tour->file.size;

    return copies * tour->file.size;
}

const uint8_t *tour_at(const struct tour *tour, uint64_t offset)
{
    return tour->file.data + offset % tour->file.size;
}

const uint8_t *tour_digest(struct tour *tour, uint64_t length)
{
    struct sha256 hash;

    if (length == tour->digest_length && length > 0)
        return tour->digest;
    sha256_init(&hash);
    for (uint64_t offset = 0; offset < length; offset += TOUR_CHUNK) {
        uint64_t left = length - offset;

        sha256_update(&hash, tour_at(tour, offset), left < TOUR_CHUNK ? (size_t)left : TOUR_CHUNK);
    }
    sha256_final(&hash, tour->digest);
    tour->digest_length = length;
    return tour->digest;
}

/* Sends the file, and then the marker. Mechanisms of very small messages (a signal's int) take messages of
 * just one size: the last is filled up, and the total says how much of it counts. */
static int send_file(const struct job *job)
{
    static const uint8_t marker[MARKER];
    struct tour_shared *shared = job->tour->shared;
    int64_t deadline = engine_now() + job->tour->budget_ns;
    uint64_t sent = 0;

    shared->begin = engine_now();
    while (sent < job->planned && engine_now() < deadline) {
        size_t left = (size_t)(job->planned - sent), n = left < job->chunk ? left : job->chunk;
        int r = job->carrier.send(job->link, tour_at(job->tour, sent), job->chunk <= MARKER ? job->chunk : n);

        if (r < 0)
            return r;
        sent += n;
    }
    /* Before the marker, which the receiver takes for one only when it knows the total. The mechanism orders
     * the two; release is for the compiler's sake. */
    atomic_store_explicit(&shared->total, sent, memory_order_release);
    return job->carrier.send(job->link, marker, sizeof marker);
}

/* All of it into one buffer, to be hashed when the clock has stopped. */
static int receive_file(const struct job *job, uint8_t *buffer)
{
    struct tour_shared *shared = job->tour->shared;
    uint64_t received = 0;

    for (;;) {
        const void *data;
        ssize_t n = job->carrier.recv(job->link, buffer + received, job->chunk, &data);

        if (n < 0)
            return (int)n;
        if (received >= atomic_load_explicit(&shared->total, memory_order_acquire)) {
            shared->end = engine_now();
            return 0;
        }
        received += (uint64_t)n;
        if (received >= job->planned + job->chunk)
            return duo_fail(-EPROTO, "more arrived than was sent");
    }
}

static int far_side(const struct job *job)
{
    size_t room = (size_t)job->planned + TOUR_CHUNK;
    uint8_t *buffer =
        mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    struct tour_shared *shared = job->tour->shared;
    struct naru_channel *tx, *rx;
    struct sha256 hash;
    int r;

    if (buffer == MAP_FAILED)
        return duo_fail_errno("mmap");
    r = job->carrier.attach(job->link, DUO_FAR);
    if (r < 0)
        return r;
    carrier_naru_ends(job->link, &tx, &rx);
    r = job->may_lose ? tour_udp_far(job->tour, rx, buffer, job->planned) : receive_file(job, buffer);
    if (r < 0)
        return r;
    sha256_init(&hash);
    sha256_update(&hash, buffer, (size_t)atomic_load(&shared->total));
    sha256_final(&hash, shared->digest);
    return 0;
}

static int near_side(const struct job *job)
{
    struct naru_channel *tx, *rx;
    int r = job->carrier.attach(job->link, DUO_NEAR);

    if (r < 0)
        return r;
    carrier_naru_ends(job->link, &tx, &rx);
    return job->may_lose ? tour_udp_near(job->tour, tx, job->planned) : send_file(job);
}

static int body(void *context, enum duo_side side)
{
    const struct job *job = context;

    return side == DUO_NEAR ? near_side(job) : far_side(job);
}

static void after_fork(void *context)
{
    const struct job *job = context;

    job->carrier.let_go(job->link);
}

/* What a machine, a container or an administrator may forbid, as opposed to what is wrong. */
static bool is_forbidden(int r)
{
    switch (-r) {
    case EPERM:
    case EACCES:
    case ENOSYS:
    case ENOSPC:
    case EMFILE:
    case ENFILE:
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT:
    case EADDRNOTAVAIL:
    case ENODEV:
        return true;
    default:
        return false;
    }
}

static enum tour_outcome outcome_of(int r)
{
    return r == -ECANCELED ? TOUR_INTERRUPTED : is_forbidden(r) ? TOUR_UNAVAILABLE : TOUR_FAILED;
}

void tour_judge(struct tour *tour, int r, struct tour_result *result)
{
    const struct tour_shared *shared = tour->shared;

    if (r < 0) {
        result->outcome = outcome_of(r);
        return;
    }
    result->carried = atomic_load(&shared->total);
    result->seconds = (double)(shared->end - shared->begin) / 1e9;
    if (memcmp(tour_digest(tour, result->carried), shared->digest, SHA256_SIZE) != 0) {
        result->outcome = TOUR_FAILED;
        (void)snprintf(result->note, sizeof result->note, "the far end's checksum is another one");
    } else if (result->carried >= tour->file.size) {
        result->outcome = TOUR_WHOLE;
    } else {
        result->outcome = TOUR_PART;
    }
    if (shared->resent && !result->note[0])
        (void)snprintf(result->note, sizeof result->note, "%llu messages were sent again",
                       (unsigned long long)shared->resent);
}

void tour_begin(struct tour *tour)
{
    memset(tour->shared, 0, sizeof *tour->shared);
    atomic_store(&tour->shared->total, UINT64_MAX);
}

static int carry(struct tour *tour, struct job *job, struct tour_result *result)
{
    struct load load = {PATTERN_STREAM, job->chunk, tour->directory, false};
    struct duo *duo = &tour->engine.duo;
    int r;

    tour_begin(tour);
    r = job->carrier.open(&job->carrier, &load, &job->link);
    if (r < 0) {
        (void)snprintf(result->note, sizeof result->note, "%s", duo_sentence());
        return r;
    }
    duo->limit_ns = 3 * tour->budget_ns + NARU_S(10);
    r = duo_run(duo, body, after_fork, job, result->note);
    job->carrier.close(job->link);
    return r;
}

static int measure_trip(struct tour *tour, const struct carrier *carrier, struct tour_result *result)
{
    size_t size = carrier->max_message && carrier->max_message < 64 ? carrier->max_message : 64;
    struct load load = {PATTERN_PINGPONG, size, tour->directory, false};
    const struct engine_result *measured;
    int r = engine_run(&tour->engine, carrier, &load, tour->trip_ns, 0, &measured, result->note);

    if (r < 0)
        return r;
    result->p50 = histogram_quantile(&measured->latency, 0.5);
    result->p99 = histogram_quantile(&measured->latency, 0.99);
    return 0;
}

void tour_channel(struct tour *tour, const struct naru_mechanism *row, struct tour_result *ret)
{
    struct job job = {
        .tour = tour, .chunk = TOUR_CHUNK, .may_lose = !(row->capabilities & NARU_CAN_BE_RELIABLE)};
    int r;

    *ret = (struct tour_result){0};
    if (carrier_naru(row, &job.carrier) < 0) {
        ret->outcome = TOUR_FAILED;
        (void)snprintf(ret->note, sizeof ret->note, "the tour does not know how to make two ends of it");
        return;
    }
    if (row->max_message && row->max_message < job.chunk)
        job.chunk = row->max_message;
    job.planned = tour_plan(tour, job.chunk);
    r = measure_trip(tour, &job.carrier, ret);
    if (r == 0)
        r = carry(tour, &job, ret);
    tour_judge(tour, r, ret);
}
