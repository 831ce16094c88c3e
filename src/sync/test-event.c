/* SPDX-License-Identifier: MIT */
/* Events, auto-reset and manual-reset: who is let through, and what deaths do. */
#include "sync/test-sync.h"

#include "naru/event.h"

struct shared {
    struct naru_event event, answer;
    _Atomic uint64_t steps;
    _Atomic uint32_t through;
    int value; /* plain: published by the event */
};

static struct shared *shared_event(enum naru_event_reset_mode mode)
{
    struct shared *shared = shared_new(sizeof *shared);

    CHECK_INT(naru_event_init(&shared->event, mode), 0);
    CHECK_INT(naru_event_init(&shared->answer, NARU_EVENT_AUTO), 0);
    return shared;
}

TEST(auto_reset_lets_one_through_for_each_set)
{
    struct shared *shared = shared_event(NARU_EVENT_AUTO);
    struct naru_event *event = &shared->event;

    CHECK_INT(naru_event_mode(event), NARU_EVENT_AUTO);
    CHECK_INT(naru_event_wait(event, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_event_wait(event, NARU_MS(10)), -ETIMEDOUT);
    CHECK_INT(naru_event_set(event), 0);
    CHECK_INT(naru_event_set(event), 0); /* sets do not add up */
    CHECK_INT(naru_event_is_set(event), 1);
    CHECK_INT(naru_event_wait(event, NARU_NOWAIT), 0);
    CHECK_INT(naru_event_is_set(event), 0);
    CHECK_INT(naru_event_wait(event, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_event_set(event), 0);
    CHECK_INT(naru_event_reset(event), 0);
    CHECK_INT(naru_event_wait(event, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_event_deinit(event), 0);
    CHECK_INT(naru_event_set(event), -EPROTO);
}

TEST(manual_reset_lets_everybody_through_until_it_is_reset)
{
    struct shared *shared = shared_event(NARU_EVENT_MANUAL);
    struct naru_event *event = &shared->event;

    CHECK_INT(naru_event_wait(event, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_event_set(event), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(naru_event_wait(event, NARU_FOREVER), 0);
    CHECK_INT(naru_event_reset(event), 0);
    CHECK_INT(naru_event_wait(event, NARU_NOWAIT), -EAGAIN);
}

static int fork_waiter(struct shared *shared)
{
    int pid = test_fork();

    if (pid == 0) {
        CHECK_INT(naru_event_wait(&shared->event, SOON), 0);
        (void)atomic_fetch_add(&shared->through, 1);
        _exit(0);
    }
    return pid;
}

TEST(one_or_all_wake)
{
    for (int mode = NARU_EVENT_AUTO; mode <= NARU_EVENT_MANUAL; mode++) {
        struct shared *shared = shared_event((enum naru_event_reset_mode)mode);
        int pids[4];

        for (int i = 0; i < 4; i++)
            pids[i] = fork_waiter(shared);
        for (int i = 0; i < 4; i++)
            WAIT_UNTIL(is_asleep(pids[i]));
        if (mode == NARU_EVENT_MANUAL) {
            CHECK_INT(naru_event_set(&shared->event), 0);
        } else {
            for (uint32_t i = 1; i <= 4; i++) {
                CHECK_INT(naru_event_set(&shared->event), 0);
                WAIT_UNTIL(atomic_load(&shared->through) == i);
                CHECK_INT(naru_event_is_set(&shared->event), 0);
            }
        }
        for (int i = 0; i < 4; i++)
            test_join(pids[i]);
        CHECK_INT(atomic_load(&shared->through), 4);
    }
}

TEST(a_pulse_lets_through_who_waits_and_leaves_it_not_set)
{
    struct shared *manual = shared_event(NARU_EVENT_MANUAL), *automatic = shared_event(NARU_EVENT_AUTO);
    int pids[3];

    CHECK_INT(naru_event_pulse(&manual->event), 0);
    CHECK_INT(naru_event_wait(&manual->event, NARU_NOWAIT), -EAGAIN);
    for (int i = 0; i < 3; i++)
        pids[i] = fork_waiter(manual);
    for (int i = 0; i < 3; i++)
        WAIT_UNTIL(is_asleep(pids[i]));
    CHECK_INT(naru_event_pulse(&manual->event), 0);
    for (int i = 0; i < 3; i++)
        test_join(pids[i]);
    CHECK_INT(naru_event_is_set(&manual->event), 0);

    CHECK_INT(naru_event_pulse(&automatic->event), 0);
    CHECK_INT(naru_event_is_set(&automatic->event), 0);
    CHECK_INT(naru_event_wait(&automatic->event, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_event_wait(&automatic->event, NARU_MS(10)), -ETIMEDOUT);
    for (int i = 0; i < 2; i++) {
        pids[i] = fork_waiter(automatic);
        WAIT_UNTIL(is_asleep(pids[i]));
    }
    for (uint32_t through = 1; through <= 2; through++) {
        CHECK_INT(naru_event_pulse(&automatic->event), 0);
        CHECK_INT(naru_event_is_set(&automatic->event), 0);
        WAIT_UNTIL(atomic_load(&automatic->through) == through);
    }
    test_join(pids[0]);
    test_join(pids[1]);
    CHECK_INT(naru_event_wait(&automatic->event, NARU_NOWAIT), -EAGAIN);

    CHECK_INT(naru_event_set(&automatic->event), 0);
    CHECK_INT(naru_event_pulse(&automatic->event), 0); /* of one that is set, too */
    CHECK_INT(naru_event_is_set(&automatic->event), 0);
    CHECK_INT(naru_event_wait(&automatic->event, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_event_set(&automatic->event), 0);
    CHECK_INT(naru_event_is_set(&automatic->event), 1);
    CHECK_INT(naru_event_wait(&automatic->event, NARU_NOWAIT), 0);
}

static void *ping(void *argument)
{
    struct shared *shared = argument;

    for (int i = 0; i < 3000; i++) {
        shared->value = i;
        CHECK_INT(naru_event_set(&shared->event), 0);
        CHECK_INT(naru_event_wait(&shared->answer, SOON), 0);
        CHECK_INT(shared->value, -i);
    }
    return NULL;
}

/* Also what ThreadSanitizer looks at: the event alone orders the plain value. */
TEST(what_was_written_before_set_is_seen_after_wait)
{
    struct shared *shared = shared_event(NARU_EVENT_AUTO);
    pthread_t thread;

    CHECK_INT(pthread_create(&thread, NULL, ping, shared), 0);
    for (int i = 0; i < 3000; i++) {
        CHECK_INT(naru_event_wait(&shared->event, SOON), 0);
        CHECK_INT(shared->value, i);
        shared->value = -i;
        CHECK_INT(naru_event_set(&shared->answer), 0);
    }
    CHECK_INT(pthread_join(thread, NULL), 0);
}

/* A token goes round; killed with the token in hand, a process takes it along, so a fresh one is put in. */
static void work(void *memory, int number)
{
    struct shared *shared = memory;
    int r = naru_event_wait(&shared->event, NARU_MS(5 + number % 7));

    CHECK(r == 0 || r == -ETIMEDOUT);
    CHECK_INT(naru_event_set(&shared->event), 0);
}

TEST(killing_waiters_and_setters_at_random_never_blocks_the_rest)
{
    struct shared *shared = shared_event(NARU_EVENT_AUTO);

    torture(work, shared, &shared->steps, 4, 300);
    CHECK_INT(naru_event_set(&shared->event), 0);
    CHECK_INT(naru_event_wait(&shared->event, NARU_NOWAIT), 0);
}

TEST(signals_neither_end_nor_lengthen_a_wait)
{
    struct shared *shared = shared_event(NARU_EVENT_MANUAL);
    int64_t start = clock_now();

    storm_begin();
    CHECK_INT(naru_event_wait(&shared->event, NARU_MS(100)), -ETIMEDOUT);
    CHECK(clock_now() - start >= NARU_MS(100));
    storm_end();
}

static struct shared *handler_shared;

static void set_in_handler(int number)
{
    (void)number;
    (void)naru_event_set(&handler_shared->event);
}

TEST(setting_works_in_a_signal_handler_of_the_waiter)
{
    const struct sigaction action = {.sa_handler = set_in_handler};
    const struct itimerval soon = {{0, 0}, {0, 2000}};

    handler_shared = shared_event(NARU_EVENT_AUTO);
    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_INT(setitimer(ITIMER_REAL, &soon, NULL), 0);
    CHECK_INT(naru_event_wait(&handler_shared->event, SOON), 0);
}

TEST(garbage_in_memory_is_an_answer)
{
    struct naru_event event = {{0}};
    uint32_t *words = (uint32_t *)(void *)&event;

    CHECK_INT(naru_event_wait(&event, NARU_FOREVER), -EPROTO);
    CHECK_INT(naru_event_is_set(&event), -EPROTO);
    CHECK_INT(naru_event_init(&event, (enum naru_event_reset_mode)7), -EINVAL);
    for (int round = 0; round < 300; round++) {
        int r;

        CHECK_INT(naru_event_init(&event, NARU_EVENT_AUTO), 0);
        for (size_t i = round % 2 ? 0 : 4; i < sizeof event / sizeof *words; i++)
            words[i] = (uint32_t)random();
        r = naru_event_wait(&event, NARU_US(10));
        CHECK(r == 0 || r == -ETIMEDOUT || r == -EPROTO || r == -EXDEV);
    }
}
