/* SPDX-License-Identifier: MIT */
/* The mutex: exclusion between threads and processes, and what deaths do to it. */
#include "sync/test-sync.h"

#include "naru/mutex.h"

struct shared {
    struct naru_mutex mutex;
    _Atomic uint64_t steps;
    /* Guarded, and different only while a holder is at work. Volatile: another process changes them. */
    volatile uint64_t first, second;
};

static struct shared *shared_mutex(void)
{
    struct shared *shared = shared_new(sizeof *shared);

    CHECK_INT(naru_mutex_init(&shared->mutex), 0);
    return shared;
}

static void work(void *memory, int number)
{
    struct shared *shared = memory;
    int r = naru_mutex_lock(&shared->mutex, number % 2 ? NARU_FOREVER : SOON);

    if (r == -EOWNERDEAD) {
        CHECK(shared->first == shared->second || shared->first == shared->second + 1);
        shared->second = shared->first;
        CHECK_INT(naru_mutex_consistent(&shared->mutex), 0);
        r = 0;
    }
    CHECK_INT(r, 0);
    CHECK(shared->first == shared->second);
    shared->first++;
    shared->second++;
    CHECK_INT(naru_mutex_unlock(&shared->mutex), 0);
}

TEST(killing_holders_and_waiters_at_random_never_blocks_the_rest)
{
    struct shared *shared = shared_mutex();

    torture(work, shared, &shared->steps, 4, 300);
    work(shared, 0);
}

static void *count_in_thread(void *argument)
{
    struct shared *shared = argument;

    for (int i = 0; i < 2000; i++)
        work(shared, i);
    return NULL;
}

TEST(threads_exclude_each_other)
{
    struct shared *shared = shared_mutex();
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, count_in_thread, shared), 0);
    for (int i = 0; i < 4; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK_INT(shared->first, 8000);
}

TEST(the_next_owner_is_told_of_the_death_and_by_whom)
{
    struct shared *shared = shared_mutex();
    int pid = test_fork();

    if (pid == 0) {
        CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_NOWAIT), 0);
        CHECK_INT(naru_mutex_holder(&shared->mutex), getpid());
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(naru_mutex_holder(&shared->mutex), 0);
    CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_NOWAIT), -EOWNERDEAD);
    CHECK_CONTAINS(naru_explain(), "died holding it");
    CHECK_INT(naru_mutex_last_dead(&shared->mutex), pid);
    CHECK_INT(naru_mutex_holder(&shared->mutex), getpid());
    CHECK_INT(naru_mutex_consistent(&shared->mutex), 0);
    CHECK_INT(naru_mutex_consistent(&shared->mutex), -EINVAL);
    CHECK_INT(naru_mutex_unlock(&shared->mutex), 0);
    CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_NOWAIT), 0);
    CHECK_INT(naru_mutex_deinit(&shared->mutex), -EBUSY);
    CHECK_INT(naru_mutex_unlock(&shared->mutex), 0);
    CHECK_INT(naru_mutex_deinit(&shared->mutex), 0);
    CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_NOWAIT), -EPROTO);
}

TEST(unlocking_without_repair_gives_the_mutex_up_for_everybody)
{
    struct shared *shared = shared_mutex();
    int pid = test_fork();

    if (pid == 0) {
        CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_FOREVER), 0);
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_S(60)), -EOWNERDEAD);
    CHECK_INT(naru_mutex_unlock(&shared->mutex), 0);
    CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_FOREVER), -ENOTRECOVERABLE);
    CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_NOWAIT), -ENOTRECOVERABLE);
    CHECK_CONTAINS(naru_explain(), "initialise it anew");
    CHECK_INT(naru_mutex_init(&shared->mutex), 0);
    CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_NOWAIT), 0);
    CHECK_INT(naru_mutex_unlock(&shared->mutex), 0);
}

/* The one before may have been killed with the lock in its hands. */
static void lock_and_repair(struct naru_mutex *mutex, int64_t timeout_ns)
{
    int r = naru_mutex_lock(mutex, timeout_ns);

    CHECK(r == 0 || r == -EOWNERDEAD);
    if (r == -EOWNERDEAD)
        CHECK_INT(naru_mutex_consistent(mutex), 0);
}

TEST(a_waiter_that_is_killed_takes_no_wake_up_with_it)
{
    struct shared *shared = shared_mutex();

    for (int round = 0; round < 100; round++) {
        int waiters[2];

        CHECK_INT(naru_mutex_lock(&shared->mutex, SOON), 0);
        for (int i = 0; i < 2; i++) {
            waiters[i] = test_fork();
            if (waiters[i] == 0) {
                lock_and_repair(&shared->mutex, NARU_FOREVER);
                CHECK_INT(naru_mutex_unlock(&shared->mutex), 0);
                _exit(0);
            }
        }
        WAIT_UNTIL(is_asleep(waiters[0]) && is_asleep(waiters[1]));
        if (round % 2)
            CHECK_INT(kill(waiters[0], SIGKILL), 0);
        CHECK_INT(naru_mutex_unlock(&shared->mutex), 0);
        test_kill(waiters[0]); /* just woken, perhaps */
        lock_and_repair(&shared->mutex, SOON);
        CHECK_INT(naru_mutex_unlock(&shared->mutex), 0);
        test_join(waiters[1]);
    }
}

TEST(misuse_is_an_error_and_no_deadlock)
{
    struct shared *shared = shared_mutex();
    int pid;

    CHECK_INT(naru_mutex_unlock(&shared->mutex), -EPERM);
    CHECK_INT(naru_mutex_consistent(&shared->mutex), -EINVAL);
    CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_FOREVER), 0);
    CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_FOREVER), -EDEADLK);
    CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_S(60)), -EDEADLK);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(naru_mutex_unlock(&shared->mutex), -EPERM);
        CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_NOWAIT), -EAGAIN);
        CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_MS(20)), -ETIMEDOUT);
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(naru_mutex_unlock(&shared->mutex), 0);
    CHECK_INT(naru_mutex_init((struct naru_mutex *)(void *)((char *)shared + 1)), -EINVAL);
    CHECK_INT(naru_mutex_init(NULL), -EINVAL);
}

TEST(signals_neither_end_nor_lengthen_a_wait)
{
    struct shared *shared = shared_mutex();
    int pid;

    CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_NOWAIT), 0);
    pid = test_fork();
    if (pid == 0) {
        int64_t start = clock_now();

        storm_begin();
        CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_MS(100)), -ETIMEDOUT);
        CHECK(clock_now() - start >= NARU_MS(100));
        storm_end();
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(naru_mutex_unlock(&shared->mutex), 0);
}

/* Whatever stands there, calls with a limit come back with some answer. */
TEST(garbage_in_memory_is_an_answer)
{
    struct naru_mutex zeroes = {{0}};
    struct shared *shared = shared_mutex();
    uint32_t *words = (uint32_t *)(void *)&shared->mutex;

    CHECK_INT(naru_mutex_lock(&zeroes, NARU_FOREVER), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "no mutex at");
    CHECK_INT(naru_mutex_unlock(&zeroes), -EPROTO);
    for (int round = 0; round < 300; round++) {
        int pid, status;

        CHECK_INT(naru_mutex_init(&shared->mutex), 0);
        for (size_t i = 0; i < sizeof shared->mutex / sizeof *words; i++)
            if (i >= 4 || round % 2)
                words[i] = (uint32_t)random();
        pid = test_fork();
        if (pid == 0) {
            int r = naru_mutex_lock(&shared->mutex, NARU_MS(1));

            CHECK(r == -EPROTO || r == -EXDEV);
            _exit(0);
        }
        CHECK_INT(waitpid(pid, &status, 0), pid);
        CHECK(WIFEXITED(status));
    }
}
