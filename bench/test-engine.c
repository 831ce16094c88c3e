/* SPDX-License-Identifier: MIT */
/* The referee: that every carrier carries every pattern, and that a carrier which cheats is found out. */
#include "bench/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/plan.h"
#include "naru/naru.h"
#include "runner.h"

enum { MESSAGES = 400 };

static const struct engine_result *run(const struct carrier *carrier, enum pattern pattern, size_t size,
                                       int expected, char why[DUO_WHY_MAX])
{
    struct load load = {pattern, size, test_directory(), false};
    const struct engine_result *result = NULL;
    struct engine engine;
    int r;

    CHECK_INT(engine_init(&engine, DUO_PIN_NONE, -1), 0);
    r = engine_run(&engine, carrier, &load, INT64_C(20) * 1000000000, MESSAGES, &result, why);
    if (r != expected)
        test_fail(__FILE__, __LINE__, "%s %s: %d (%s), not %d", carrier->mechanism, pattern_names[pattern], r,
                  why, expected);
    return result;
}

static void carries_everything(const struct carrier *carrier)
{
    char why[DUO_WHY_MAX];

    for (int pattern = 0; pattern < PATTERNS; pattern++)
        for (size_t size = ENGINE_SIZE_MIN; size <= 4096; size *= 32) {
            const struct engine_result *result;

            if (size < carrier->min_message || (carrier->max_message && size > carrier->max_message) ||
                (carrier->answers && pattern != PATTERN_PINGPONG))
                continue;
            result = run(carrier, (enum pattern)pattern, size, 0, why);
            /* A batch may overshoot by its length. */
            CHECK(result->messages >= MESSAGES && result->messages <= MESSAGES + ENGINE_BATCH);
            CHECK(result->elapsed_ns > 0 && result->latency.count > 0);
        }
}

static const char *floor_name(size_t index)
{
    for (size_t i = 0; floors[i]; i++)
        if (i == index)
            return floors[i]->mechanism;
    return NULL;
}

TEST_EACH(a_floor_carries_every_pattern, floor_name)
{
    carries_everything(floors[index]);
}

/* The rows of which the engine can make two ends. */
static const struct naru_mechanism *nth_row(size_t index)
{
    const struct naru_mechanism *row = NULL;
    struct carrier carrier;

    while ((row = naru_mechanism_next(row)))
        if (carrier_naru(row, &carrier) == 0 && index-- == 0)
            return row;
    return NULL;
}

static const char *row_name(size_t index)
{
    const struct naru_mechanism *row = nth_row(index);

    return row ? row->name : NULL;
}

TEST_EACH(naru_carries_every_pattern, row_name)
{
    struct carrier carrier;

    CHECK_INT(carrier_naru(nth_row(index), &carrier), 0);
    carries_everything(&carrier);
}

/* --- carriers that do wrong, over the pipe's floor --- */

static int sends;

static int damage(struct link *link, const void *data, size_t length)
{
    char copy[4096];

    memcpy(copy, data, length);
    if (++sends == 300)
        copy[length - length % 64] ^= 1;
    return floor_find("pipe")->send(link, copy, length);
}

static int lose(struct link *link, const void *data, size_t length)
{
    return ++sends == 300 ? 0 : floor_find("pipe")->send(link, data, length);
}

static int die(struct link *link, const void *data, size_t length)
{
    if (++sends == 300)
        abort();
    return floor_find("pipe")->send(link, data, length);
}

TEST(a_damaged_payload_is_found)
{
    struct carrier carrier = *floor_find("pipe");
    char why[DUO_WHY_MAX];

    carrier.send = damage;
    (void)run(&carrier, PATTERN_STREAM, 200, -EPROTO, why);
    CHECK_CONTAINS(why, "damaged at byte 192");
}

TEST(a_lost_message_is_found)
{
    struct carrier carrier = *floor_find("pipe");
    char why[DUO_WHY_MAX];

    carrier.send = lose;
    (void)run(&carrier, PATTERN_STREAM, 64, -EPROTO, why);
    CHECK_CONTAINS(why, "message 300 arrived where 299 was due");
}

TEST(a_killed_side_ends_the_run_and_the_other_side)
{
    struct carrier carrier = *floor_find("pipe");
    char why[DUO_WHY_MAX];

    carrier.send = die;
    (void)run(&carrier, PATTERN_STREAM, 64, -ECHILD, why);
    CHECK_CONTAINS(why, "ended by signal 6");
}

TEST(a_message_too_large_is_refused_with_the_limit)
{
    char why[DUO_WHY_MAX];

    (void)run(floor_find("udp"), PATTERN_STREAM, 65536, -EMSGSIZE, why);
    CHECK_CONTAINS(why, "65507");
}

TEST(the_users_interrupt_ends_a_run)
{
    struct load load = {PATTERN_PINGPONG, 64, test_directory(), false};
    const struct engine_result *result;
    char why[DUO_WHY_MAX];
    struct engine engine;
    int stop[2];

    CHECK_INT(pipe(stop), 0);
    CHECK_INT(write(stop[1], "", 1), 1);
    CHECK_INT(engine_init(&engine, DUO_PIN_NONE, stop[0]), 0);
    CHECK_INT(engine_run(&engine, floor_find("pipe"), &load, INT64_C(20) * 1000000000, 0, &result, why),
              -ECANCELED);
    engine_deinit(&engine);
    CHECK_INT(close(stop[0]), 0);
    CHECK_INT(close(stop[1]), 0);
}

TEST(a_plan_gives_a_ratio_for_each_floor_and_counts_its_rounds)
{
    const struct naru_mechanism *rows[] = {naru_mechanism_find("pipe"), NULL};
    struct plan plan = {.rows = rows,
                        .comparisons = comparisons_bare,
                        .patterns = {true, true, true},
                        .sizes = {64, 4096},
                        .size_count = 2,
                        .rounds = 3,
                        .duration_ns = INT64_C(20) * 1000000000,
                        .max_messages = 200,
                        .pin = DUO_PIN_NONE,
                        .stop_fd = -1,
                        .directory = test_directory()};
    struct results results;

    CHECK_INT(plan_run(&plan, &results), 0);
    CHECK_INT(results.count, 6);
    CHECK_INT(results.rounds_done, 3);
    for (size_t i = 0; i < results.count; i++) {
        const struct cell *cell = &results.cells[i];

        const struct ratio *ratio = &cell->by[CANDIDATE_BARE].ratio;

        CHECK(ratio->low > 0 && ratio->low <= ratio->median && ratio->median <= ratio->high);
        CHECK_STR(cell->by[CANDIDATE_NARU].why, "");
        CHECK(cell->by[CANDIDATE_NARU].median.ns > 0 && cell->by[CANDIDATE_BARE].median.rate > 0);
    }
    results_free(&results);
}
