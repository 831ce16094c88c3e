/* SPDX-License-Identifier: MIT */
/*
 * Rows that carry no data: how long it takes from one process giving the other a lock, a unit, a word, until
 * that one goes on. The giver writes the time beside the object, the taker reads it: the clock is the same
 * for all processes. The taker sleeps in between, as waiters do.
 */
#include <errno.h>
#include <string.h>

#include "cli/tour-extra.h"

enum { HELD_NS = 30000, WARM_UP = 20 };

/* In memory that both processes share. */
struct table {
    struct naru_semaphore there, back;
    struct naru_mutex mutex;
    struct naru_event set_there, set_back;
    _Atomic int64_t given_at;
    _Atomic bool over;
};

struct job {
    const struct tour *tour;
    struct table *table;
    int (*give)(struct table *t);  /* near: notes the time, hands over, waits until it is taken */
    int (*take)(struct table *t);  /* far: sleeps until it has it */
    int (*taken)(struct table *t); /* far: says that it has it */
};

static int failed(int r)
{
    return duo_fail(r, "%s", naru_explain());
}

/* Works for a while, so that the other side has gone to sleep, as waiters do. Should it not sleep yet, the
 * figure is a better one and nothing else changes. */
static void let_it_sleep(void)
{
    for (int64_t until = engine_now() + HELD_NS; engine_now() < until;)
        ;
}

static void note_time(struct table *t)
{
    atomic_store(&t->given_at, engine_now());
}

static int give_unit(struct table *t)
{
    int r;

    let_it_sleep();
    note_time(t);
    r = naru_semaphore_post(&t->there, 1);
    return r < 0 ? r : naru_semaphore_wait(&t->back, NARU_FOREVER);
}

static int take_unit(struct table *t)
{
    return naru_semaphore_wait(&t->there, NARU_FOREVER);
}

static int return_unit(struct table *t)
{
    return naru_semaphore_post(&t->back, 1);
}

static int give_word(struct table *t)
{
    int r;

    let_it_sleep();
    note_time(t);
    r = naru_event_set(&t->set_there);
    return r < 0 ? r : naru_event_wait(&t->set_back, NARU_FOREVER);
}

static int take_word(struct table *t)
{
    return naru_event_wait(&t->set_there, NARU_FOREVER);
}

static int return_word(struct table *t)
{
    return naru_event_set(&t->set_back);
}

/* Holds the lock while the other asks for it. */
static int give_lock(struct table *t)
{
    int r = naru_mutex_lock(&t->mutex, NARU_FOREVER);

    if (r == 0)
        r = naru_event_set(&t->set_there);
    let_it_sleep();
    note_time(t);
    if (r == 0)
        r = naru_mutex_unlock(&t->mutex);
    return r < 0 ? r : naru_event_wait(&t->set_back, NARU_FOREVER);
}

static int take_lock(struct table *t)
{
    int r = naru_event_wait(&t->set_there, NARU_FOREVER);

    return r < 0 ? r : naru_mutex_lock(&t->mutex, NARU_FOREVER);
}

static int return_lock(struct table *t)
{
    int r = naru_mutex_unlock(&t->mutex);

    return r < 0 ? r : naru_event_set(&t->set_back);
}

/* Whether there is time for the nth hand-off. The time runs from the first that counts, which there always
 * is, however busy the machine. */
static bool goes_on(const struct tour *tour, int n, int64_t *end)
{
    if (n == WARM_UP)
        *end = engine_now() + tour->trip_ns;
    return n <= WARM_UP || engine_now() < *end;
}

static int near_side(const struct job *job)
{
    int64_t end = 0;
    int r = 0;

    for (int n = 0; r == 0 && goes_on(job->tour, n, &end); n++)
        r = job->give(job->table);
    atomic_store(&job->table->over, true);
    if (r == 0)
        r = job->give(job->table);
    return r < 0 ? failed(r) : 0;
}

static int far_side(const struct job *job)
{
    for (int n = 0;; n++) {
        int r = job->take(job->table);
        int64_t now = engine_now();
        bool over = atomic_load(&job->table->over);

        if (r == 0 && n >= WARM_UP)
            histogram_record(&job->tour->shared->latency,
                             (uint64_t)(now - atomic_load(&job->table->given_at)));
        if (r == 0)
            r = job->taken(job->table);
        if (r < 0)
            return failed(r);
        if (over)
            return 0;
    }
}

static int body(void *context, enum duo_side side)
{
    const struct job *job = context;

    return side == DUO_NEAR ? near_side(job) : far_side(job);
}

static int init_table(struct table *t)
{
    int r = naru_semaphore_init(&t->there, 0, 1);

    if (r == 0)
        r = naru_semaphore_init(&t->back, 0, 1);
    if (r == 0)
        r = naru_mutex_init(&t->mutex);
    if (r == 0)
        r = naru_event_init(&t->set_there, NARU_EVENT_AUTO);
    return r < 0 ? r : naru_event_init(&t->set_back, NARU_EVENT_AUTO);
}

static void measure(struct tour *tour, struct job *job, struct tour_result *ret)
{
    int r;

    *ret = (struct tour_result){.outcome = TOUR_FAILED};
    tour_begin(tour);
    job->tour = tour;
    job->table = duo_share(sizeof *job->table);
    r = job->table ? init_table(job->table) : -errno;
    if (r < 0) {
        (void)snprintf(ret->note, sizeof ret->note, "%s", job->table ? naru_explain() : "no shared memory");
    } else {
        tour->engine.duo.limit_ns = tour->trip_ns + NARU_S(10);
        r = duo_run(&tour->engine.duo, body, NULL, job, ret->note);
    }
    duo_unshare(job->table, sizeof *job->table);
    tour_judge_hand_off(tour, r, ret);
}

void tour_semaphore(struct tour *tour, struct tour_result *ret)
{
    struct job job = {.give = give_unit, .take = take_unit, .taken = return_unit};

    measure(tour, &job, ret);
}

void tour_mutex(struct tour *tour, struct tour_result *ret)
{
    struct job job = {.give = give_lock, .take = take_lock, .taken = return_lock};

    measure(tour, &job, ret);
}

void tour_event(struct tour *tour, struct tour_result *ret)
{
    struct job job = {.give = give_word, .take = take_word, .taken = return_word};

    measure(tour, &job, ret);
}

/* --- a signal is a channel of ints: here its hand-off, one way --- */

struct signal_job {
    const struct tour *tour;
    struct carrier carrier;
    struct link *link;
    struct table *table;
};

static int signal_near(struct signal_job *job, struct naru_channel *tx, struct naru_channel *rx)
{
    int64_t end = 0;
    int32_t word = 0;
    bool over = false;

    for (int n = 0; !over; n++) {
        int r;

        over = !goes_on(job->tour, n, &end);
        word = over;
        let_it_sleep();
        note_time(job->table);
        r = naru_send(tx, &word, sizeof word, NARU_FOREVER);
        if (r == 0)
            r = naru_recv(rx, &word, sizeof word, NARU_FOREVER) < 0 ? -EPIPE : 0;
        if (r < 0)
            return failed(r);
    }
    return 0;
}

static int signal_far(struct signal_job *job, struct naru_channel *tx, struct naru_channel *rx)
{
    int32_t word = 0;

    for (int n = 0; !word; n++) {
        ssize_t r = naru_recv(rx, &word, sizeof word, NARU_FOREVER);
        int64_t now = engine_now();

        if (r > 0 && n >= WARM_UP)
            histogram_record(&job->tour->shared->latency,
                             (uint64_t)(now - atomic_load(&job->table->given_at)));
        if (r > 0)
            r = naru_send(tx, &word, sizeof word, NARU_FOREVER);
        if (r < 0)
            return failed((int)r);
    }
    return 0;
}

static int signal_body(void *context, enum duo_side side)
{
    struct signal_job *job = context;
    struct naru_channel *tx, *rx;
    int r = job->carrier.attach(job->link, side);

    if (r < 0)
        return r;
    carrier_naru_ends(job->link, &tx, &rx);
    return side == DUO_NEAR ? signal_near(job, tx, rx) : signal_far(job, tx, rx);
}

static void signal_let_go(void *context)
{
    struct signal_job *job = context;

    job->carrier.let_go(job->link);
}

void tour_signal(struct tour *tour, struct tour_result *ret)
{
    struct signal_job job = {.tour = tour, .table = duo_share(sizeof *job.table)};
    struct load load = {PATTERN_PINGPONG, 4, tour->directory, false};
    const struct naru_mechanism *row = naru_mechanism_find("signal");
    int r = !job.table ? -ENOMEM : row ? carrier_naru(row, &job.carrier) : -ENOSYS;

    *ret = (struct tour_result){.outcome = TOUR_FAILED};
    tour_begin(tour);
    if (r == 0)
        r = job.carrier.open(&job.carrier, &load, &job.link);
    if (r == 0) {
        tour->engine.duo.limit_ns = tour->trip_ns + NARU_S(10);
        r = duo_run(&tour->engine.duo, signal_body, signal_let_go, &job, ret->note);
        job.carrier.close(job.link);
    } else {
        (void)snprintf(ret->note, sizeof ret->note, "%s", duo_sentence());
    }
    duo_unshare(job.table, sizeof *job.table);
    tour_judge_hand_off(tour, r, ret);
}
