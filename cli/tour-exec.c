/* SPDX-License-Identifier: MIT */
/*
 * Carrying the file to a program that never heard of naru: exec: runs `head | sha256sum`, whose answer is the
 * far end's checksum, and `cat` for the round trip.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/tour.h"

enum { TRIP = 64, WARM_UP = 50 };

struct job {
    const struct tour *tour;
    uint64_t planned;
    enum duo_pin pin;
    cpu_set_t all; /* the CPUs of who is not pinned */
};

static int failed(int r)
{
    return duo_fail(r, "%s", naru_explain());
}

/* Starts the command on the far side's CPU, which it inherits, and stays on the near side's. */
static int start(const struct job *job, const char *url, const struct naru_options *options,
                 struct naru_channel **ret_ch)
{
    int r = sched_setaffinity(0, sizeof job->all, &job->all) == 0 ? duo_pin(job->pin, DUO_FAR)
                                                                  : duo_fail_errno("sched_setaffinity");

    if (r < 0)
        return r;
    r = naru_connect(url, options, NARU_FOREVER, ret_ch);
    if (r < 0)
        return failed(r);
    if (sched_setaffinity(0, sizeof job->all, &job->all) < 0)
        return duo_fail_errno("sched_setaffinity");
    return duo_pin(job->pin, DUO_NEAR);
}

/* "5891b5b5... -\n" */
static bool parse_digest(const char *text, size_t length, uint8_t ret_digest[SHA256_SIZE])
{
    for (int i = 0; i < SHA256_SIZE; i++) {
        unsigned byte;

        if (length < (size_t)(2 * i + 2) || sscanf(text + 2 * i, "%2x", &byte) != 1)
            return false;
        ret_digest[i] = (uint8_t)byte;
    }
    return true;
}

static int send_all(const struct job *job, struct naru_channel *ch)
{
    for (uint64_t sent = 0; sent < job->planned;) {
        size_t left = (size_t)(job->planned - sent), n = left < TOUR_CHUNK ? left : TOUR_CHUNK;
        int r = naru_send(ch, tour_at(job->tour, sent), n, NARU_FOREVER);

        if (r < 0)
            return failed(r);
        sent += n;
    }
    return 0;
}

static int carry(const struct job *job)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct tour_shared *shared = job->tour->shared;
    struct naru_channel *ch;
    char url[96], answer[256] = "";
    ssize_t n;
    int r;

    options.frame = NARU_FRAME_RAW; /* the program reads bytes; head ends without an end of file */
    (void)snprintf(url, sizeof url, "exec:head -c %llu | sha256sum", (unsigned long long)job->planned);
    r = start(job, url, &options, &ch);
    if (r < 0)
        return r;
    shared->begin = engine_now();
    r = send_all(job, ch);
    if (r < 0)
        return r;
    n = naru_recv(ch, answer, sizeof answer - 1, NARU_FOREVER);
    shared->end = engine_now();
    if (n < 0)
        return failed((int)n);
    (void)naru_channel_close(ch);
    if (!parse_digest(answer, (size_t)n, shared->digest))
        return duo_fail(-EPROTO, "sha256sum answered \"%.40s\"", answer);
    atomic_store(&shared->total, job->planned);
    return 0;
}

static int trip(struct naru_channel *ch, char message[TRIP])
{
    int r = naru_send(ch, message, TRIP, NARU_FOREVER);
    ssize_t n = r < 0 ? 0 : naru_recv(ch, message, TRIP, NARU_FOREVER);

    return r < 0 ? failed(r) : n < 0 ? failed((int)n) : 0;
}

static int measure_trips(const struct job *job)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch;
    char message[TRIP] = "there and back";
    int64_t end;
    int r;

    options.frame = NARU_FRAME_LEN32; /* cat gives back what it gets, lengths included */
    r = start(job, "exec:cat", &options, &ch);
    if (r < 0)
        return r;
    for (int i = 0; i < WARM_UP && r == 0; i++)
        r = trip(ch, message);
    end = engine_now() + job->tour->trip_ns;
    for (int64_t then = engine_now(), now; r == 0 && then < end; then = now) {
        r = trip(ch, message);
        now = engine_now();
        histogram_record(&job->tour->shared->latency, (uint64_t)(now - then));
    }
    (void)naru_channel_close(ch);
    return r;
}

static int body(void *context, enum duo_side side)
{
    const struct job *job = context;
    int r;

    if (side == DUO_FAR) /* the command that the near side runs is the other process */
        return 0;
    r = measure_trips(job);
    return r < 0 ? r : carry(job);
}

void tour_exec(struct tour *tour, struct tour_result *ret)
{
    struct duo *duo = &tour->engine.duo;
    struct job job = {.tour = tour, .planned = tour_plan(tour, TOUR_CHUNK), .pin = duo->pin};
    int r;

    *ret = (struct tour_result){0};
    tour_begin(tour);
    duo->limit_ns = 3 * tour->budget_ns + NARU_S(10);
    duo->pin = DUO_PIN_NONE; /* start() does it */
    if (sched_getaffinity(0, sizeof job.all, &job.all) == 0) {
        r = duo_run(duo, body, NULL, &job, ret->note);
    } else {
        r = duo_fail_errno("sched_getaffinity");
        (void)snprintf(ret->note, sizeof ret->note, "%s", duo_sentence());
    }
    duo->pin = job.pin;
    ret->p50 = histogram_quantile(&tour->shared->latency, 0.5);
    ret->p99 = histogram_quantile(&tour->shared->latency, 0.99);
    if (r == 0)
        (void)snprintf(ret->note, sizeof ret->note,
                       "verified by sha256sum, whose own time counts in; the kernel chooses its CPU");
    tour_judge(tour, r, ret);
}
