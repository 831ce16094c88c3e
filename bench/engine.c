/* SPDX-License-Identifier: MIT */
/*
 * The loops. The near side numbers its messages from 0; the first WARM_UP are not counted (page faults, cold
 * caches, TCP's slow start). A number with the highest value says stop.
 *
 * Invariant: everything in struct engine_shared has one writer at a time, and is read by the supervisor only
 * after both children are gone; `sent_at` is written before and read after the message of that number, and
 * the mechanism between them orders the two.
 */
#include "bench/engine.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "bench/groups.h"

enum {
    WARM_UP = 256,
    LINE = 64,
    SAMPLE = 64, /* one of so many streamed messages is timed; also how often the clock is read */
    GROUP = 64,  /* of fast round trips: one is timed alone, the others together */
    GROUP_BYTES = 1024 * 1024, /* of fast streams, */
    GROUP_MIN = 16,
    GROUP_MAX = 1024, /* but so many messages */
    SENT_AT = 1 << 14,
    CREDIT_SIZE = 4
};
#define STOP ENGINE_STOP

struct engine_shared {
    struct engine_result result;
    int64_t sent_at[SENT_AT]; /* of message n at [n / sample % SENT_AT] */
};

struct run {
    const struct carrier *carrier;
    const struct load *load;
    struct link *link;
    struct engine_shared *shared;
    int64_t duration_ns;
    uint64_t max_messages;

    uint8_t *out, *in; /* out: of a batch, ENGINE_BATCH messages */
    size_t written;    /* bytes of a message that are stamped and checked */
    uint32_t sample;   /* of streamed messages, one of so many is timed */
    struct groups
        groups;    /* fast: of streamed messages from one that is timed to the next, or of round trips */
    size_t credit; /* messages that one credit stands for; 0: none needed */
    uint64_t owed; /* near: sent and not yet credited */
    struct rusage before;
};

int64_t engine_now(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void stamp(uint8_t *data, size_t size, uint32_t number)
{
    uint32_t word = number;

    memcpy(data, &word, sizeof word);
    for (size_t line = LINE; line + sizeof word <= size; line += LINE) {
        word = number + (uint32_t)(line / LINE);
        memcpy(data + line, &word, sizeof word);
    }
}

static uint32_t number_of(const uint8_t *data)
{
    uint32_t number;

    memcpy(&number, data, sizeof number);
    return number;
}

static int check(const struct run *run, const uint8_t *data, ssize_t length, uint32_t expected)
{
    uint32_t number;

    if (length != (ssize_t)run->load->size)
        return duo_fail(-EPROTO, "a message of %zd bytes arrived instead of %zu", length, run->load->size);
    number = number_of(data);
    if (number != expected)
        return duo_fail(-EPROTO, "message %u arrived where %u was due", number, expected);
    for (size_t line = LINE; line + sizeof number <= run->written; line += LINE) {
        memcpy(&number, data + line, sizeof number);
        if (number != expected + (uint32_t)(line / LINE))
            return duo_fail(-EPROTO, "message %u arrived damaged at byte %zu", expected, line);
    }
    return 0;
}

static uint64_t cpu_ns(const struct rusage *usage)
{
    return ((uint64_t)usage->ru_utime.tv_sec + (uint64_t)usage->ru_stime.tv_sec) * 1000000000u +
           ((uint64_t)usage->ru_utime.tv_usec + (uint64_t)usage->ru_stime.tv_usec) * 1000u;
}

static void account_begin(struct run *run)
{
    (void)getrusage(RUSAGE_SELF, &run->before);
}

static void account_end(struct run *run, enum duo_side side)
{
    struct engine_side *account = &run->shared->result.sides[side];
    struct rusage after;

    (void)getrusage(RUSAGE_SELF, &after);
    account->cpu_ns = cpu_ns(&after) - cpu_ns(&run->before);
    account->switches = (uint64_t)(after.ru_nvcsw - run->before.ru_nvcsw);
}

/* Receives into run->in or the link's memory. */
static ssize_t receive(struct run *run, const uint8_t **ret_data)
{
    const void *data;
    ssize_t n = run->carrier->recv(run->link, run->in, run->load->size, &data);

    *ret_data = data;
    return n;
}

static int send_stop(struct run *run)
{
    stamp(run->out, run->written, STOP);
    return run->carrier->send(run->link, run->out, run->load->size);
}

static int trip(struct run *run, uint32_t number)
{
    const uint8_t *data;
    ssize_t n;
    int r;

    stamp(run->out, run->written, number);
    r = run->carrier->send(run->link, run->out, run->load->size);
    if (r < 0)
        return r;
    n = receive(run, &data);
    return n < 0 ? (int)n : check(run, data, n, number);
}

static bool goes_on(const struct run *run, int64_t spent)
{
    return spent < run->duration_ns &&
           (run->max_messages == 0 || run->shared->result.messages < run->max_messages);
}

/* The figure is of the round trips without a reading of the clock among them. */
static int pingpong_groups(struct run *run, uint32_t number)
{
    struct engine_result *result = &run->shared->result;
    int64_t start = engine_now(), now = start, alone;
    int r = 0;

    while (r == 0 && goes_on(run, now - start)) {
        r = trip(run, number++);
        alone = engine_now();
        histogram_record(&result->latency, (uint64_t)(alone - now));
        for (int i = 1; i < GROUP && r == 0; i++)
            r = trip(run, number++);
        now = engine_now();
        groups_note(&run->groups, now - alone);
        result->messages += GROUP;
    }
    result->elapsed_ns = (uint64_t)(now - start);
    result->typical_ns = groups_median(&run->groups) / (GROUP - 1);
    return r;
}

static int pingpong_singly(struct run *run, uint32_t number)
{
    struct engine_result *result = &run->shared->result;
    int64_t start = engine_now(), now = start, then;
    int r = 0;

    while (r == 0 && goes_on(run, now - start)) {
        r = trip(run, number++);
        then = now;
        now = engine_now();
        histogram_record(&result->latency, (uint64_t)(now - then));
        result->messages++;
    }
    result->elapsed_ns = (uint64_t)(now - start);
    result->typical_ns = (double)histogram_quantile(&result->latency, 0.5);
    return r;
}

static int pingpong_near(struct run *run)
{
    uint32_t number = 0;
    int r = 0;

    while (number < WARM_UP && r == 0)
        r = trip(run, number++);
    account_begin(run);
    if (r == 0)
        r = run->load->fast ? pingpong_groups(run, number) : pingpong_singly(run, number);
    account_end(run, DUO_NEAR);
    return r < 0 ? r : send_stop(run);
}

static int pingpong_far(struct run *run)
{
    for (uint32_t number = 0;; number++) {
        const uint8_t *data;
        ssize_t n = receive(run, &data);
        int r;

        if (n < 0)
            return (int)n;
        if (n >= ENGINE_SIZE_MIN && number_of(data) == STOP) {
            account_end(run, DUO_FAR);
            return 0;
        }
        r = check(run, data, n, number);
        if (r < 0)
            return r;
        if (number == WARM_UP)
            account_begin(run);
        stamp(run->out, run->written, number);
        r = run->carrier->send(run->link, run->out, run->load->size);
        if (r < 0)
            return r;
    }
}

/* Waits until at most `most` messages are on the way. */
static int await_credit(struct run *run, size_t most)
{
    const uint8_t *data;

    while (run->credit && run->owed > most) {
        ssize_t n = receive(run, &data);

        if (n < 0)
            return (int)n;
        run->owed -= run->credit;
    }
    return 0;
}

/* Waits until some more messages may be on the way. */
static int take_credit(struct run *run, size_t messages)
{
    int r = await_credit(run, 2 * run->credit - messages);

    run->owed += messages;
    return r;
}

static int give_credit(struct run *run, uint32_t number)
{
    static const uint8_t credit[CREDIT_SIZE];

    if (run->credit == 0 || (number + 1) % run->credit != 0)
        return 0;
    return run->carrier->send(run->link, credit, sizeof credit);
}

/* Notes when message `number` is sent, if it is one that is timed. */
static void note_sent(struct run *run, uint32_t number)
{
    if (number % run->sample == 0)
        run->shared->sent_at[number / run->sample % SENT_AT] = engine_now();
}

/* Sends the messages from `number` on; how many, or negative. */
static ssize_t send_some(struct run *run, uint32_t number)
{
    size_t size = run->load->size, n, limit = run->credit;
    int r;

    if (run->load->pattern != PATTERN_BATCH || !run->carrier->send_batch) {
        r = take_credit(run, 1);
        stamp(run->out, run->written, number);
        note_sent(run, number);
        if (r == 0)
            r = run->carrier->send(run->link, run->out, size);
        return r < 0 ? r : 1;
    }
    n = run->sample -
        number % run->sample; /* to the next that is timed, so that each batch begins with one */
    if (n > ENGINE_BATCH)
        n = ENGINE_BATCH;
    if (limit && n > limit)
        n = limit; /* more could wait for a credit that is given for messages not sent yet */
    r = take_credit(run, n);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++)
        stamp(run->out + i * size, size, number + (uint32_t)i);
    note_sent(run, number);
    for (size_t done = 0; done < n;) {
        ssize_t sent = run->carrier->send_batch(run->link, run->out + done * size, n - done);

        if (sent < 0)
            return sent;
        done += (size_t)sent;
    }
    return (ssize_t)n;
}

static int stream_near(struct run *run)
{
    uint32_t number = 0, checked = 0;
    int64_t end = INT64_MAX;
    bool counting = false;
    int r;

    for (;;) {
        ssize_t n;

        if (!counting && number >= WARM_UP) {
            counting = true;
            account_begin(run);
            end = engine_now() + run->duration_ns;
        }
        if (counting && number / run->sample != checked) {
            checked = number / run->sample;
            if (engine_now() >= end)
                break;
        }
        if (run->max_messages && number >= WARM_UP + run->max_messages)
            break;
        n = send_some(run, number);
        if (n < 0)
            return (int)n;
        number += (uint32_t)n;
    }
    account_end(run, DUO_NEAR);
    r = await_credit(run, run->credit - 1); /* or the last would arrive where nobody is any more */
    return r < 0 ? r : send_stop(run);
}

/* The message that is timed has been received. */
static void note_received(struct run *run, uint32_t number, int64_t *before)
{
    int64_t now = engine_now(), sent = run->shared->sent_at[number / run->sample % SENT_AT];

    histogram_record(&run->shared->result.latency, (uint64_t)(now - sent));
    if (run->load->fast && *before)
        groups_note(&run->groups, now - *before);
    *before = now;
}

static void end_stream(struct run *run, uint32_t number, int64_t start)
{
    struct engine_result *result = &run->shared->result;

    result->elapsed_ns = (uint64_t)(engine_now() - start);
    result->messages = number - WARM_UP; /* the stop message among them, the first after start not */
    result->typical_ns = groups_median(&run->groups) / run->sample;
    if (result->typical_ns <= 0 && result->messages)
        result->typical_ns = (double)result->elapsed_ns / (double)result->messages;
    account_end(run, DUO_FAR);
}

static int stream_far(struct run *run)
{
    int64_t start = 0, before = 0;

    for (uint32_t number = 0;; number++) {
        const uint8_t *data;
        ssize_t n = receive(run, &data);
        int r;

        if (n < 0)
            return (int)n;
        if (n >= ENGINE_SIZE_MIN && number_of(data) == STOP) {
            end_stream(run, number, start);
            return 0;
        }
        r = check(run, data, n, number);
        if (r == 0)
            r = give_credit(run, number);
        if (r < 0)
            return r;
        if (number == WARM_UP) {
            account_begin(run);
            start = engine_now();
        }
        if (number >= WARM_UP && number % run->sample == 0)
            note_received(run, number, &before);
    }
}

/*
 * Memory for messages, somewhere inside a page, as a program's data is. At the very beginning of a page, a
 * payload behind a 4-byte length would be copied to 4 bytes further into a page of the kernel's: that is the
 * one relation of addresses (1 to 15 bytes ahead, modulo 4096) in which these processors' string copies are
 * four times slower (64 KiB into a pipe: 21 us instead of 5). Left to malloc(), luck would decide whom it
 * hits.
 */
static uint8_t *place(size_t size)
{
    enum { PAGE = 4096, INSIDE = 1024 };
    uint8_t *memory = aligned_alloc(PAGE, (size + INSIDE + PAGE) / PAGE * PAGE);

    if (memory)
        memset(memory, 1, size + INSIDE); /* so that no page fault is counted */
    return memory ? memory + INSIDE : NULL;
}

static int body(void *context, enum duo_side side)
{
    struct run *run = context;
    int r;

    run->out = place((run->load->pattern == PATTERN_BATCH ? ENGINE_BATCH : 1) * run->load->size);
    run->in = place(run->load->size < CREDIT_SIZE ? CREDIT_SIZE : run->load->size);
    run->groups.ns = run->load->fast ? (int64_t *)(void *)place(GROUPS_MAX * sizeof(int64_t)) : NULL;
    if (!run->out || !run->in || (run->load->fast && !run->groups.ns))
        return duo_fail(-ENOMEM, "out of memory");
    r = run->carrier->attach(run->link, side);
    if (r == 0 && run->load->pattern == PATTERN_PINGPONG)
        r = side == DUO_NEAR ? pingpong_near(run) : pingpong_far(run);
    else if (r == 0)
        r = side == DUO_NEAR ? stream_near(run) : stream_far(run);
    return r == 0 && run->carrier->detach ? run->carrier->detach(run->link, side) : r;
}

static void after_fork(void *context)
{
    struct run *run = context;

    if (run->carrier->let_go)
        run->carrier->let_go(run->link);
}

int engine_init(struct engine *engine, enum duo_pin pin, int stop_fd)
{
    *engine = (struct engine){.shared = duo_share(sizeof *engine->shared)};
    if (!engine->shared)
        return -errno;
    return duo_init(&engine->duo, pin, 0, stop_fd);
}

void engine_deinit(struct engine *engine)
{
    duo_deinit(&engine->duo);
    duo_unshare(engine->shared, sizeof *engine->shared);
    engine->shared = NULL;
}

static uint32_t sample_of(const struct load *load, size_t written)
{
    size_t group = GROUP_BYTES / written;

    if (!load->fast)
        return SAMPLE;
    return group < GROUP_MIN ? GROUP_MIN : group > GROUP_MAX ? GROUP_MAX : (uint32_t)group;
}

static int check_load(const struct carrier *carrier, const struct load *load)
{
    if (load->size < ENGINE_SIZE_MIN)
        return duo_fail(-EINVAL, "a message needs %d bytes for its number", ENGINE_SIZE_MIN);
    if (carrier->max_message && load->size > carrier->max_message)
        return duo_fail(-EMSGSIZE, "a message holds at most %zu bytes", carrier->max_message);
    if (carrier->answers && load->pattern != PATTERN_PINGPONG)
        return duo_fail(-ENOTSUP, "it carries ping-pong alone");
    return 0;
}

int engine_run(struct engine *engine, const struct carrier *carrier, const struct load *load,
               int64_t duration_ns, uint64_t max_messages, const struct engine_result **ret_result,
               char ret_why[DUO_WHY_MAX])
{
    struct run run = {.carrier = carrier,
                      .load = load,
                      .shared = engine->shared,
                      .duration_ns = duration_ns,
                      .max_messages = max_messages,
                      .written = carrier->lending == LENDING_UNTOUCHED || carrier->lending == LENDING_OPENED
                                     ? ENGINE_SIZE_MIN
                                     : load->size,
                      .sample = SAMPLE};
    int r = check_load(carrier, load);

    memset(&engine->shared->result, 0, sizeof engine->shared->result);
    if (r == 0)
        run.sample = sample_of(load, run.written);
    run.credit = carrier->window && load->pattern != PATTERN_PINGPONG ? carrier->window(load->size) / 2 : 0;
    if (r == 0)
        r = carrier->open(carrier, load, &run.link);
    if (r < 0) {
        (void)snprintf(ret_why, DUO_WHY_MAX, "%s", duo_sentence());
        return r;
    }
    engine->duo.limit_ns = 10 * duration_ns + (int64_t)10 * 1000000000;
    r = duo_run(&engine->duo, body, after_fork, &run, ret_why);
    carrier->close(run.link);
    *ret_result = &engine->shared->result;
    return r;
}
