/* SPDX-License-Identifier: MIT */
/* The barrier: rounds of processes and threads, and members that die. */
#include "sync/test-sync.h"

#include "naru/barrier.h"

enum { PARTIES = 3, ROUNDS = 300 };

struct shared {
    struct naru_barrier barrier;
    _Atomic uint64_t steps;
    _Atomic uint32_t arrived, last;
};

static struct shared *shared_barrier(uint32_t parties)
{
    struct shared *shared = shared_new(sizeof *shared);

    CHECK_INT(naru_barrier_init(&shared->barrier, parties), 0);
    return shared;
}

static void go_round(struct shared *shared)
{
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        int r;

        (void)atomic_fetch_add(&shared->arrived, 1);
        r = naru_barrier_wait(&shared->barrier, SOON);
        CHECK(r == 0 || r == 1);
        (void)atomic_fetch_add(&shared->last, (uint32_t)r);
        CHECK(atomic_load(&shared->arrived) >= round * PARTIES);
    }
}

TEST(all_processes_arrive_before_any_goes_on)
{
    struct shared *shared = shared_barrier(PARTIES);
    int pids[PARTIES];

    for (int i = 0; i < PARTIES; i++) {
        pids[i] = test_fork();
        if (pids[i] == 0) {
            go_round(shared);
            CHECK_INT(naru_barrier_leave(&shared->barrier), 0);
            _exit(0);
        }
    }
    for (int i = 0; i < PARTIES; i++)
        test_join(pids[i]);
    CHECK_INT(atomic_load(&shared->last), ROUNDS);
}

static void *go_round_in_thread(void *argument)
{
    go_round(argument);
    return NULL;
}

TEST(threads_of_one_process_are_parties_too)
{
    struct shared *shared = shared_barrier(PARTIES);
    pthread_t threads[PARTIES];

    for (int i = 0; i < PARTIES; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, go_round_in_thread, shared), 0);
    for (int i = 0; i < PARTIES; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK_INT(atomic_load(&shared->last), ROUNDS);
    CHECK_INT(naru_barrier_leave(&shared->barrier), 0);
    CHECK_INT(naru_barrier_leave(&shared->barrier), 0);
    CHECK_INT(naru_barrier_deinit(&shared->barrier), 0);
    CHECK_INT(naru_barrier_wait(&shared->barrier, NARU_NOWAIT), -EPROTO);
}

TEST(an_arrival_that_times_out_is_taken_back)
{
    struct shared *shared = shared_barrier(2);
    int pid;

    CHECK_INT(naru_barrier_init(&shared->barrier, 0), -EINVAL);
    CHECK_INT(naru_barrier_wait(&shared->barrier, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_barrier_wait(&shared->barrier, NARU_MS(10)), -ETIMEDOUT);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(naru_barrier_wait(&shared->barrier, SOON) >= 0, 1);
        CHECK_INT(naru_barrier_leave(&shared->barrier), 0);
        _exit(0);
    }
    CHECK_INT(naru_barrier_wait(&shared->barrier, SOON) >= 0, 1);
    test_join(pid);
}

TEST(who_waits_with_a_member_that_dies_is_told_once)
{
    for (int asleep = 0; asleep < 2; asleep++) {
        struct shared *shared = shared_barrier(3);
        struct test_gate member;
        int victim, other;

        test_gate_init(&member);
        victim = test_fork();
        if (victim == 0) {
            if (asleep)
                CHECK_INT(naru_barrier_wait(&shared->barrier, NARU_FOREVER), -EOWNERDEAD); /* never returns */
            CHECK_INT(naru_barrier_wait(&shared->barrier, NARU_NOWAIT), -EAGAIN);
            test_gate_open(&member);
            for (;;)
                (void)pause();
        }
        if (asleep)
            WAIT_UNTIL(is_asleep(victim));
        else
            test_gate_wait(&member);
        other = test_fork();
        if (other == 0) {
            CHECK_INT(naru_barrier_wait(&shared->barrier, SOON), -EOWNERDEAD);
            CHECK_CONTAINS(naru_explain(), "died");
            CHECK_INT(naru_barrier_wait(&shared->barrier, NARU_MS(1)), -ETIMEDOUT);
            CHECK_INT(naru_barrier_leave(&shared->barrier), 0);
            _exit(0);
        }
        WAIT_UNTIL(is_asleep(other));
        test_kill(victim);
        test_join(other);
        CHECK_INT(naru_barrier_wait(&shared->barrier, NARU_NOWAIT), -EAGAIN);
    }
}

TEST(if_nobody_waits_the_next_to_arrive_is_told)
{
    struct shared *shared = shared_barrier(2);
    int pid = test_fork();

    if (pid == 0) {
        CHECK_INT(naru_barrier_wait(&shared->barrier, NARU_NOWAIT), -EAGAIN);
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(naru_barrier_wait(&shared->barrier, SOON), -EOWNERDEAD);
    CHECK_INT(naru_barrier_wait(&shared->barrier, NARU_NOWAIT), -EAGAIN);
}

static void work(void *memory, int number)
{
    struct shared *shared = memory;
    int r = naru_barrier_wait(&shared->barrier, number % 2 ? NARU_FOREVER : SOON);

    CHECK(r == 0 || r == 1 || r == -EOWNERDEAD);
}

TEST(killing_members_at_random_never_blocks_the_rest)
{
    struct shared *shared = shared_barrier(3);

    /* Three parties, and three processes: while one is dead and not replaced, the others are told of it. */
    torture(work, shared, &shared->steps, 3, 200);
}

/* Of the two processes that are its first members (barrier.c, `members`): who sleeps may do so before it has
 * come that far, as long as another is inside. */
static uint32_t count_arrived(struct shared *shared)
{
    enum { MEMBERS = 160, EACH = 24, ARRIVED = 20 };
    uint32_t count = 0;

    for (size_t i = 0; i < 2; i++)
        count += atomic_load(
            (_Atomic uint32_t *)(void *)((char *)&shared->barrier + MEMBERS + i * EACH + ARRIVED));
    return count;
}

TEST(signals_neither_end_nor_lengthen_a_wait_nor_hide_a_death)
{
    struct shared *shared = shared_barrier(2);
    int64_t start = clock_now();
    int pid, victim;

    storm_begin();
    CHECK_INT(naru_barrier_wait(&shared->barrier, NARU_MS(100)), -ETIMEDOUT);
    CHECK(clock_now() - start >= NARU_MS(100));
    storm_end();
    CHECK_INT(naru_barrier_init(&shared->barrier, 3), 0);
    pid = test_fork();
    if (pid == 0) {
        storm_begin();
        CHECK_INT(naru_barrier_wait(&shared->barrier, SOON), -EOWNERDEAD);
        storm_end();
        _exit(0);
    }
    WAIT_UNTIL(count_arrived(shared) == 1);
    victim = test_fork();
    if (victim == 0)
        _exit(naru_barrier_wait(&shared->barrier, NARU_FOREVER) == 0);
    WAIT_UNTIL(count_arrived(shared) == 2);
    test_kill(victim);
    test_join(pid);
}

TEST(garbage_in_memory_is_an_answer)
{
    struct shared *shared = shared_barrier(2);
    uint32_t *words = (uint32_t *)(void *)&shared->barrier;
    struct naru_barrier zeroes = {{0}};

    CHECK_INT(naru_barrier_wait(&zeroes, NARU_FOREVER), -EPROTO);
    for (int round = 0; round < 100; round++) {
        int r;

        CHECK_INT(naru_barrier_init(&shared->barrier, 2), 0);
        for (size_t i = 32; i < sizeof shared->barrier / sizeof *words; i++)
            words[i] = (uint32_t)random() % (round % 2 ? 3 : UINT32_MAX);
        for (int i = 0; i < 2; i++) {
            r = naru_barrier_wait(&shared->barrier, NARU_US(10));
            CHECK(r == 0 || r == 1 || r == -ETIMEDOUT || r == -EOWNERDEAD || r == -EUSERS);
        }
        r = naru_barrier_leave(&shared->barrier);
        CHECK(r == 0 || r == -EBUSY);
    }
}
