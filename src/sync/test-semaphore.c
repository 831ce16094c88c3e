/* SPDX-License-Identifier: MIT */
/* naru's semaphore: counting, and units that come back from the dead. */
#include "sync/test-sync.h"

#include "naru/semaphore.h"

struct shared {
    struct naru_semaphore semaphore;
    _Atomic uint64_t steps;
    _Atomic int32_t inside; /* processes that hold a unit, or died holding it */
};

static struct shared *shared_semaphore(uint32_t value, uint32_t maximum)
{
    struct shared *shared = shared_new(sizeof *shared);

    CHECK_INT(naru_semaphore_init(&shared->semaphore, value, maximum), 0);
    return shared;
}

static struct naru_semaphore_info info_of(struct naru_semaphore *semaphore)
{
    struct naru_semaphore_info info = NARU_INIT(struct naru_semaphore_info);

    CHECK_INT(naru_semaphore_info(semaphore, &info), 0);
    return info;
}

TEST(it_counts)
{
    struct naru_semaphore *semaphore = &shared_semaphore(2, 3)->semaphore;

    CHECK_INT(naru_semaphore_acquire(semaphore, NARU_NOWAIT), 0);
    CHECK_INT(naru_semaphore_wait(semaphore, NARU_NOWAIT), 0);
    CHECK_INT(naru_semaphore_acquire(semaphore, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_semaphore_wait(semaphore, NARU_MS(10)), -ETIMEDOUT);
    CHECK_INT(info_of(semaphore).value, 0);
    CHECK_INT(info_of(semaphore).held, 1);
    CHECK_INT(info_of(semaphore).holders, 1);
    CHECK_INT(naru_semaphore_release(semaphore), 0);
    CHECK_INT(naru_semaphore_release(semaphore), -EPERM);
    CHECK_CONTAINS(naru_explain(), "naru_semaphore_post");
    CHECK_INT(info_of(semaphore).value, 1);
    CHECK_INT(naru_semaphore_post(semaphore, 2), 0);
    CHECK_INT(naru_semaphore_post(semaphore, 1), -EOVERFLOW);
    CHECK_INT(naru_semaphore_post(semaphore, UINT32_MAX), -EOVERFLOW);
    CHECK_INT(info_of(semaphore).value, 3);
    CHECK_INT(info_of(semaphore).maximum, 3);
    CHECK_INT(naru_semaphore_deinit(semaphore), 0);
    CHECK_INT(naru_semaphore_post(semaphore, 1), -EPROTO);
    CHECK_INT(naru_semaphore_init(semaphore, 2, 1), -EINVAL);
}

TEST(a_killed_holders_units_come_back)
{
    struct shared *shared = shared_semaphore(3, 0);
    struct test_gate held;
    int pid;

    test_gate_init(&held);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(naru_semaphore_acquire(&shared->semaphore, NARU_NOWAIT), 0);
        CHECK_INT(naru_semaphore_acquire(&shared->semaphore, NARU_NOWAIT), 0);
        CHECK_INT(naru_semaphore_wait(&shared->semaphore, NARU_NOWAIT), 0); /* consumed: does not come back */
        test_gate_open(&held);
        for (;;)
            (void)pause();
    }
    test_gate_wait(&held);
    CHECK_INT(naru_semaphore_acquire(&shared->semaphore, NARU_NOWAIT), -EAGAIN);
    /* A zombie holds nothing either: nobody has waited for it yet. */
    CHECK_INT(kill(pid, SIGKILL), 0);
    CHECK_INT(naru_semaphore_acquire(&shared->semaphore, SOON), 0);
    CHECK_INT(naru_semaphore_acquire(&shared->semaphore, NARU_NOWAIT), 0);
    CHECK_INT(naru_semaphore_acquire(&shared->semaphore, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(info_of(&shared->semaphore).recovered, 2);
    test_kill(pid);
}

TEST(a_sleeping_waiter_gets_the_units_of_the_dead)
{
    struct shared *shared = shared_semaphore(1, 1);
    struct test_gate held;
    int holder, waiter;

    test_gate_init(&held);
    holder = test_fork();
    if (holder == 0) {
        CHECK_INT(naru_semaphore_acquire(&shared->semaphore, NARU_NOWAIT), 0);
        test_gate_open(&held);
        for (;;)
            (void)pause();
    }
    test_gate_wait(&held);
    waiter = test_fork();
    if (waiter == 0) {
        CHECK_INT(naru_semaphore_acquire(&shared->semaphore, NARU_FOREVER), 0);
        _exit(0);
    }
    WAIT_UNTIL(is_asleep(waiter));
    test_kill(holder);
    test_join(waiter);
}

static void work(void *memory, int number)
{
    struct shared *shared = memory;

    CHECK_INT(naru_semaphore_acquire(&shared->semaphore, number % 2 ? NARU_FOREVER : SOON), 0);
    CHECK_INT(naru_semaphore_release(&shared->semaphore), 0);
}

TEST(killing_holders_and_waiters_at_random_loses_no_unit)
{
    struct shared *shared = shared_semaphore(2, 2);

    torture(work, shared, &shared->steps, 5, 300);
    CHECK_INT(info_of(&shared->semaphore).held, 0);
    CHECK_INT(info_of(&shared->semaphore).value, 2);
}

static void *count_in_thread(void *argument)
{
    struct shared *shared = argument;

    for (int i = 0; i < 1500; i++) {
        CHECK_INT(naru_semaphore_acquire(&shared->semaphore, SOON), 0);
        CHECK(atomic_fetch_add(&shared->inside, 1) < 2);
        (void)atomic_fetch_sub(&shared->inside, 1);
        CHECK_INT(naru_semaphore_release(&shared->semaphore), 0);
    }
    return NULL;
}

TEST(n_at_once_and_no_more)
{
    struct shared *shared = shared_semaphore(2, 2);
    pthread_t threads[5];

    for (int i = 0; i < 5; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, count_in_thread, shared), 0);
    for (int i = 0; i < 5; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK_INT(info_of(&shared->semaphore).value, 2);
}

TEST(every_post_lets_one_waiter_through)
{
    struct shared *shared = shared_semaphore(0, 0);
    int pids[4];

    for (int i = 0; i < 4; i++) {
        pids[i] = test_fork();
        if (pids[i] == 0) {
            for (int n = 0; n < 500; n++)
                CHECK_INT(naru_semaphore_wait(&shared->semaphore, SOON), 0);
            _exit(0);
        }
    }
    for (int n = 0; n < 1000; n++)
        CHECK_INT(naru_semaphore_post(&shared->semaphore, 2), 0);
    for (int i = 0; i < 4; i++)
        test_join(pids[i]);
    CHECK_INT(info_of(&shared->semaphore).value, 0);
}

TEST(a_child_does_not_hold_what_its_parent_holds)
{
    struct shared *shared = shared_semaphore(1, 1);
    int pid;

    CHECK_INT(naru_semaphore_acquire(&shared->semaphore, NARU_NOWAIT), 0);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(naru_semaphore_release(&shared->semaphore), -EPERM);
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(naru_semaphore_release(&shared->semaphore), 0);
}

/* A process whose pid is used again is not mistaken for the one before: its start time differs. */
TEST(a_pid_that_is_used_again_holds_nothing)
{
    struct shared *shared = shared_semaphore(1, 1);
    struct {
        uint32_t pid, count;
        uint64_t start;
    } *slot = (void *)((char *)&shared->semaphore + 160);

    CHECK_INT(naru_semaphore_acquire(&shared->semaphore, NARU_NOWAIT), 0);
    CHECK_INT(slot->pid, getpid());
    CHECK_INT(slot->count, 1);
    CHECK_INT(naru_semaphore_acquire(&shared->semaphore, NARU_NOWAIT), -EAGAIN);
    slot->start--;
    CHECK_INT(naru_semaphore_acquire(&shared->semaphore, NARU_NOWAIT), 0);
    CHECK_INT(info_of(&shared->semaphore).recovered, 1);
}

TEST(signals_neither_end_nor_lengthen_a_wait)
{
    struct shared *shared = shared_semaphore(0, 0);
    int64_t start = clock_now();

    storm_begin();
    CHECK_INT(naru_semaphore_acquire(&shared->semaphore, NARU_MS(100)), -ETIMEDOUT);
    CHECK(clock_now() - start >= NARU_MS(100));
    storm_end();
}

TEST(a_storm_of_signals_does_not_hide_a_death)
{
    struct shared *shared = shared_semaphore(1, 1);
    int pid = test_fork();

    if (pid == 0) {
        CHECK_INT(naru_semaphore_acquire(&shared->semaphore, NARU_NOWAIT), 0);
        _exit(0);
    }
    test_join(pid);
    storm_begin();
    CHECK_INT(naru_semaphore_acquire(&shared->semaphore, SOON), 0);
    storm_end();
}

TEST(more_holders_than_slots_wait_for_one)
{
    struct shared *shared = shared_semaphore(1000, 0);
    struct test_gate held, done;
    int pids[NARU_SEMAPHORE_HOLDERS];

    test_gate_init(&held);
    test_gate_init(&done);
    for (int i = 0; i < NARU_SEMAPHORE_HOLDERS; i++) {
        pids[i] = test_fork();
        if (pids[i] == 0) {
            CHECK_INT(naru_semaphore_acquire(&shared->semaphore, NARU_NOWAIT), 0);
            test_gate_open(&held);
            test_gate_wait(&done);
            CHECK_INT(naru_semaphore_release(&shared->semaphore), 0);
            _exit(0);
        }
        test_gate_wait(&held);
    }
    CHECK_INT(naru_semaphore_acquire(&shared->semaphore, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_semaphore_wait(&shared->semaphore, NARU_NOWAIT), 0);
    test_gate_open(&done);
    CHECK_INT(naru_semaphore_acquire(&shared->semaphore, SOON), 0);
    for (int i = 1; i < NARU_SEMAPHORE_HOLDERS; i++)
        test_gate_open(&done);
    for (int i = 0; i < NARU_SEMAPHORE_HOLDERS; i++)
        test_join(pids[i]);
}

TEST(garbage_in_memory_is_an_answer)
{
    struct shared *shared = shared_semaphore(1, 1);
    uint32_t *words = (uint32_t *)(void *)&shared->semaphore;
    struct naru_semaphore zeroes = {{0}};

    CHECK_INT(naru_semaphore_wait(&zeroes, NARU_FOREVER), -EPROTO);
    for (int round = 0; round < 200; round++) {
        int r;

        CHECK_INT(naru_semaphore_init(&shared->semaphore, 1, 1), 0);
        /* All but the head and the lock, which have their own tests; every other round only the table. */
        for (size_t i = round % 2 ? 24 : 40; i < sizeof shared->semaphore / sizeof *words; i++)
            words[i] = (uint32_t)random();
        r = naru_semaphore_acquire(&shared->semaphore, NARU_US(10));
        CHECK(r == 0 || r == -ETIMEDOUT);
        r = naru_semaphore_release(&shared->semaphore);
        CHECK(r == 0 || r == -EPERM);
        r = naru_semaphore_post(&shared->semaphore, 1);
        CHECK(r == 0 || r == -EOVERFLOW);
    }
}
