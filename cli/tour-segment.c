/* SPDX-License-Identifier: MIT */
/*
 * Carrying the file through shared memory, as a textbook's producer and consumer do: two slots, a semaphore
 * that counts the free ones and one that counts the full ones. Both stand in the segment, before the slots.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "cli/tour-extra.h"

enum { SLOTS = 2, SLOT = TOUR_CHUNK, TRIP = 64, WARM_UP = 50, URL_MAX = 300 };

struct layout {
    struct naru_semaphore free, full;  /* of the slots */
    struct naru_semaphore there, back; /* for the round trips */
    size_t lengths[SLOTS];             /* 0: that was all */
    char trip[TRIP];
    _Atomic bool trips_over;
    uint8_t slots[SLOTS][SLOT];
};

struct job {
    const struct tour *tour;
    const char *url;
    struct naru_segment *segment; /* the supervisor's: what children inherit of a memfd */
    uint64_t planned;
};

static int failed(int r)
{
    return duo_fail(r, "%s", naru_explain());
}

/* The child's own mapping: of the name, or of the descriptor that it has inherited. */
static int map(const struct job *job, struct naru_segment **ret_segment, struct layout **ret_layout)
{
    int r = 0;

    *ret_segment = job->segment;
    if (strncmp(job->url, "memfd:", 6) != 0)
        r = naru_segment_open(job->url, 0, NULL, ret_segment);
    if (r < 0)
        return failed(r);
    *ret_layout = naru_segment_data(*ret_segment);
    return 0;
}

static int round_trips(const struct job *job, struct layout *l)
{
    struct histogram *latency = &job->tour->shared->latency;
    int64_t end = 0, then, now = engine_now();
    bool over = false;

    for (int n = 0; !over; n++) {
        char seen[TRIP];
        int r;

        if (n == WARM_UP)
            end = now + job->tour->trip_ns;
        over = n >= WARM_UP && now >= end;
        atomic_store(&l->trips_over, over);
        then = engine_now();
        memset(l->trip, n, TRIP);
        r = naru_semaphore_post(&l->there, 1);
        if (r == 0)
            r = naru_semaphore_wait(&l->back, NARU_FOREVER);
        if (r < 0)
            return failed(r);
        memcpy(seen, l->trip, TRIP);
        if (seen[0] != (char)(n + 1))
            return duo_fail(-EPROTO, "an answer was not what was due");
        now = engine_now();
        if (n >= WARM_UP)
            histogram_record(latency, (uint64_t)(now - then));
    }
    return 0;
}

static int answer_trips(struct layout *l)
{
    bool over = false;

    while (!over) {
        char seen[TRIP];
        int r = naru_semaphore_wait(&l->there, NARU_FOREVER);

        if (r < 0)
            return failed(r);
        over = atomic_load(&l->trips_over);
        memcpy(seen, l->trip, TRIP);
        memset(l->trip, seen[0] + 1, TRIP);
        r = naru_semaphore_post(&l->back, 1);
        if (r < 0)
            return failed(r);
    }
    return 0;
}

static int produce(const struct job *job, struct layout *l)
{
    struct tour_shared *shared = job->tour->shared;
    int64_t deadline = engine_now() + job->tour->budget_ns;
    uint64_t sent = 0;
    bool all = false;

    shared->begin = engine_now();
    for (int slot = 0; !all; slot = (slot + 1) % SLOTS) {
        size_t n = 0;
        int r = naru_semaphore_wait(&l->free, NARU_FOREVER);

        if (r < 0)
            return failed(r);
        all = sent == job->planned || engine_now() >= deadline;
        if (!all) {
            size_t left = (size_t)(job->planned - sent);

            n = left < SLOT ? left : SLOT;
            memcpy(l->slots[slot], tour_at(job->tour, sent), n);
            sent += n;
        }
        l->lengths[slot] = n;
        atomic_store(&shared->total, sent);
        r = naru_semaphore_post(&l->full, 1);
        if (r < 0)
            return failed(r);
    }
    return 0;
}

static int consume(const struct job *job, struct layout *l, uint8_t *buffer)
{
    uint64_t received = 0;

    for (int slot = 0;; slot = (slot + 1) % SLOTS) {
        int r = naru_semaphore_wait(&l->full, NARU_FOREVER);
        size_t n = l->lengths[slot];

        if (r < 0)
            return failed(r);
        if (n == 0)
            break;
        if (n > SLOT || n > job->planned - received)
            return duo_fail(-EPROTO, "more arrived than was sent");
        memcpy(buffer + received, l->slots[slot], n);
        received += n;
        r = naru_semaphore_post(&l->free, 1);
        if (r < 0)
            return failed(r);
    }
    job->tour->shared->end = engine_now();
    return 0;
}

static int far_side(const struct job *job, struct layout *l)
{
    uint8_t *buffer = mmap(NULL, (size_t)job->planned, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    struct tour_shared *shared = job->tour->shared;
    struct sha256 hash;
    int r;

    if (buffer == MAP_FAILED)
        return duo_fail_errno("mmap");
    r = answer_trips(l);
    if (r == 0)
        r = consume(job, l, buffer);
    if (r < 0)
        return r;
    sha256_init(&hash);
    sha256_update(&hash, buffer, (size_t)atomic_load(&shared->total));
    sha256_final(&hash, shared->digest);
    return 0;
}

static int body(void *context, enum duo_side side)
{
    const struct job *job = context;
    struct naru_segment *segment;
    struct layout *l = NULL;
    int r = map(job, &segment, &l);

    if (r < 0)
        return r;
    if (side == DUO_FAR)
        return far_side(job, l);
    r = round_trips(job, l);
    return r < 0 ? r : produce(job, l);
}

static int prepare(struct layout *l)
{
    int r = naru_semaphore_init(&l->free, SLOTS, SLOTS);

    if (r == 0)
        r = naru_semaphore_init(&l->full, 0, SLOTS);
    if (r == 0)
        r = naru_semaphore_init(&l->there, 0, 1);
    return r < 0 ? r : naru_semaphore_init(&l->back, 0, 1);
}

static void carry(struct tour *tour, const char *url, struct tour_result *ret)
{
    struct naru_segment_options options = NARU_INIT(struct naru_segment_options);
    struct job job = {.tour = tour, .url = url, .planned = tour_plan(tour, SLOT)};
    int r;

    *ret = (struct tour_result){0};
    tour_begin(tour);
    options.create = NARU_CREATE_NEW;
    options.unlink = strncmp(url, "memfd:", 6) != 0;
    r = naru_segment_open(url, sizeof(struct layout), &options, &job.segment);
    if (r == 0)
        r = prepare(naru_segment_data(job.segment));
    if (r < 0) {
        (void)snprintf(ret->note, sizeof ret->note, "%s", naru_explain());
    } else {
        tour->engine.duo.limit_ns = 3 * tour->budget_ns + NARU_S(10);
        r = duo_run(&tour->engine.duo, body, NULL, &job, ret->note);
    }
    ret->p50 = histogram_quantile(&tour->shared->latency, 0.5);
    ret->p99 = histogram_quantile(&tour->shared->latency, 0.99);
    tour_judge(tour, r, ret);
    (void)naru_segment_close(job.segment);
}

void tour_segment_memfd(struct tour *tour, struct tour_result *ret)
{
    carry(tour, "memfd:", ret);
}

void tour_segment_posix(struct tour *tour, struct tour_result *ret)
{
    char url[URL_MAX];

    (void)snprintf(url, sizeof url, "shm+posix:/naru-tour-%d", (int)getpid());
    carry(tour, url, ret);
}

/* The pid makes the key ours among living processes; another program's is refused (create=new) and avoided.
 */
void tour_segment_sysv(struct tour *tour, struct tour_result *ret)
{
    unsigned key = 0x4e000000u | ((unsigned)getpid() & 0xffffu) << 8;
    char url[URL_MAX];

    while (shmget((key_t)key, 0, 0) >= 0 || errno != ENOENT)
        key++;
    (void)snprintf(url, sizeof url, "shm+sysv:0x%x", key);
    carry(tour, url, ret);
}

void tour_segment_file(struct tour *tour, struct tour_result *ret)
{
    char url[URL_MAX];

    (void)snprintf(url, sizeof url, "mmap://%s/mapped", tour->directory);
    carry(tour, url, ret);
}
