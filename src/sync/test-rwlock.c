/* SPDX-License-Identifier: MIT */
/* The reader-writer lock: who excludes whom, in which order, and what deaths do. */
#include "sync/test-sync.h"

#include "naru/rwlock.h"

struct shared {
    struct naru_rwlock lock;
    _Atomic uint64_t steps;
    _Atomic uint32_t written, read;
    /* Guarded, and different only while a writer is at work. Volatile: another process changes them. */
    volatile uint64_t first, second;
};

static struct shared *shared_lock(void)
{
    struct shared *shared = shared_new(sizeof *shared);

    CHECK_INT(naru_rwlock_init(&shared->lock), 0);
    return shared;
}

static void read_once(struct shared *shared)
{
    int r = naru_rwlock_read(&shared->lock, SOON);

    CHECK(r == 0 || r == -EOWNERDEAD);
    if (r == 0)
        CHECK(shared->first == shared->second);
    CHECK_INT(naru_rwlock_unlock(&shared->lock), 0);
}

static void write_once(struct shared *shared)
{
    int r = naru_rwlock_write(&shared->lock, SOON);

    if (r == -EOWNERDEAD) {
        CHECK(shared->first == shared->second || shared->first == shared->second + 1);
        shared->second = shared->first;
        CHECK_INT(naru_rwlock_consistent(&shared->lock), 0);
        r = 0;
    }
    CHECK_INT(r, 0);
    CHECK(shared->first == shared->second);
    shared->first++;
    shared->second++;
    CHECK_INT(naru_rwlock_unlock(&shared->lock), 0);
}

static void work(void *memory, int number)
{
    if (number % 3 == 0)
        write_once(memory);
    else
        read_once(memory);
}

TEST(killing_readers_and_writers_at_random_never_blocks_the_rest)
{
    struct shared *shared = shared_lock();

    torture(work, shared, &shared->steps, 5, 300);
    write_once(shared);
    CHECK_INT(naru_rwlock_write(&shared->lock, NARU_NOWAIT), 0);
    CHECK_INT(naru_rwlock_unlock(&shared->lock), 0);
}

static void *work_in_thread(void *argument)
{
    for (int i = 0; i < 1500; i++)
        work(argument, i);
    return NULL;
}

TEST(threads_exclude_each_other)
{
    struct shared *shared = shared_lock();
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, work_in_thread, shared), 0);
    for (int i = 0; i < 4; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK_INT(shared->first, 4 * 500);
}

TEST(many_readers_or_one_writer)
{
    struct shared *shared = shared_lock();
    struct naru_rwlock *lock = &shared->lock;
    int pid;

    CHECK_INT(naru_rwlock_read(lock, NARU_NOWAIT), 0);
    CHECK_INT(naru_rwlock_read(lock, NARU_NOWAIT), 0);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(naru_rwlock_unlock(lock), -EPERM);
        CHECK_INT(naru_rwlock_read(lock, NARU_NOWAIT), 0);
        CHECK_INT(naru_rwlock_write(lock, NARU_NOWAIT), -EAGAIN);
        CHECK_INT(naru_rwlock_unlock(lock), 0);
        CHECK_INT(naru_rwlock_write(lock, NARU_MS(10)), -ETIMEDOUT);
        /* A writer that gave up keeps no reader out. */
        CHECK_INT(naru_rwlock_read(lock, NARU_NOWAIT), 0);
        CHECK_INT(naru_rwlock_unlock(lock), 0);
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(naru_rwlock_consistent(lock), -EPERM);
    CHECK_INT(naru_rwlock_unlock(lock), 0);
    CHECK_INT(naru_rwlock_deinit(lock), -EBUSY);
    CHECK_INT(naru_rwlock_unlock(lock), 0);
    CHECK_INT(naru_rwlock_unlock(lock), -EPERM);

    CHECK_INT(naru_rwlock_write(lock, NARU_NOWAIT), 0);
    CHECK_INT(naru_rwlock_write(lock, NARU_FOREVER), -EDEADLK);
    CHECK_INT(naru_rwlock_read(lock, NARU_FOREVER), -EDEADLK);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(naru_rwlock_read(lock, NARU_NOWAIT), -EAGAIN);
        CHECK_INT(naru_rwlock_write(lock, NARU_MS(5)), -ETIMEDOUT);
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(naru_rwlock_deinit(lock), -EBUSY);
    CHECK_INT(naru_rwlock_unlock(lock), 0);
    CHECK_INT(naru_rwlock_deinit(lock), 0);
    CHECK_INT(naru_rwlock_read(lock, NARU_NOWAIT), -EPROTO);
}

TEST(everybody_is_told_of_a_dead_writer_until_one_repairs)
{
    struct shared *shared = shared_lock();
    struct naru_rwlock *lock = &shared->lock;
    int pid = test_fork();

    if (pid == 0) {
        CHECK_INT(naru_rwlock_write(lock, NARU_NOWAIT), 0);
        _exit(0);
    }
    test_join(pid);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(naru_rwlock_read(lock, NARU_NOWAIT), -EOWNERDEAD);
        CHECK_CONTAINS(naru_explain(), "naru_rwlock_consistent");
        CHECK_INT(naru_rwlock_consistent(lock), -EPERM);
        CHECK_INT(naru_rwlock_unlock(lock), 0);
        CHECK_INT(naru_rwlock_write(lock, NARU_NOWAIT), -EOWNERDEAD);
        if (i == 1)
            CHECK_INT(naru_rwlock_consistent(lock), 0);
        CHECK_INT(naru_rwlock_unlock(lock), 0);
    }
    CHECK_INT(naru_rwlock_read(lock, NARU_NOWAIT), 0);
    CHECK_INT(naru_rwlock_unlock(lock), 0);
}

TEST(a_dead_reader_is_no_news)
{
    struct shared *shared = shared_lock();
    int pid = test_fork();

    if (pid == 0) {
        CHECK_INT(naru_rwlock_read(&shared->lock, NARU_NOWAIT), 0);
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(naru_rwlock_write(&shared->lock, NARU_NOWAIT), 0);
    CHECK_INT(naru_rwlock_unlock(&shared->lock), 0);
}

TEST(a_waiting_writer_goes_before_new_readers_unless_it_is_killed)
{
    struct shared *shared = shared_lock();
    struct naru_rwlock *lock = &shared->lock;
    struct test_gate refused;
    int writer, reader;

    test_gate_init(&refused);
    CHECK_INT(naru_rwlock_read(lock, NARU_NOWAIT), 0);
    writer = test_fork();
    if (writer == 0) {
        CHECK_INT(naru_rwlock_write(lock, NARU_FOREVER), 0);
        _exit(0);
    }
    WAIT_UNTIL(is_asleep(writer));
    reader = test_fork();
    if (reader == 0) {
        CHECK_INT(naru_rwlock_read(lock, NARU_NOWAIT), -EAGAIN);
        test_gate_open(&refused);
        CHECK_INT(naru_rwlock_read(lock, SOON), 0);
        CHECK_INT(naru_rwlock_unlock(lock), 0);
        _exit(0);
    }
    CHECK_INT(naru_rwlock_read(lock, NARU_NOWAIT), 0); /* who reads already may again */
    test_gate_wait(&refused);
    WAIT_UNTIL(is_asleep(reader));
    test_kill(writer);
    test_join(reader); /* though we still read */
    CHECK_INT(naru_rwlock_unlock(lock), 0);
    CHECK_INT(naru_rwlock_unlock(lock), 0);
}

TEST(neither_readers_nor_writers_starve)
{
    struct shared *shared = shared_lock();
    int pids[6];

    /* Each of two writers and four readers does its share while all the others press on. */
    for (int i = 0; i < 6; i++) {
        pids[i] = test_fork();
        if (pids[i] == 0) {
            _Atomic uint32_t *mine = i < 2 ? &shared->written : &shared->read;

            for (int n = 0;
                 n < 100 || atomic_load(&shared->written) < 200 || atomic_load(&shared->read) < 400; n++) {
                if (i < 2)
                    write_once(shared);
                else
                    read_once(shared);
                (void)atomic_fetch_add(mine, 1);
            }
            _exit(0);
        }
    }
    for (int i = 0; i < 6; i++)
        test_join(pids[i]);
}

TEST(readers_killed_while_they_wait_do_not_hold_up_writers)
{
    struct shared *shared = shared_lock();
    int pids[2];

    for (int round = 0; round < 30; round++) {
        CHECK_INT(naru_rwlock_write(&shared->lock, SOON), 0);
        for (int i = 0; i < 2; i++) {
            pids[i] = test_fork();
            if (pids[i] == 0) {
                CHECK_INT(naru_rwlock_read(&shared->lock, SOON), 0);
                _exit(1);
            }
            WAIT_UNTIL(is_asleep(pids[i]));
        }
        test_kill(pids[0]);
        test_kill(pids[1]);
        CHECK_INT(naru_rwlock_unlock(&shared->lock), 0);
    }
    CHECK_INT(naru_rwlock_write(&shared->lock, SOON), 0);
    CHECK_INT(naru_rwlock_unlock(&shared->lock), 0);
}

TEST(readers_killed_while_they_wait_do_not_hold_up_writers_of_little_patience)
{
    struct shared *shared = shared_lock();
    int reader;

    CHECK_INT(naru_rwlock_write(&shared->lock, NARU_NOWAIT), 0);
    reader = test_fork();
    if (reader == 0) {
        CHECK_INT(naru_rwlock_read(&shared->lock, SOON), 0);
        _exit(1);
    }
    WAIT_UNTIL(is_asleep(reader));
    test_kill(reader);
    CHECK_INT(naru_rwlock_unlock(&shared->lock), 0);
    CHECK_INT(naru_rwlock_write(&shared->lock, NARU_US(100)), 0); /* less than any nap */
    CHECK_INT(naru_rwlock_unlock(&shared->lock), 0);
}

TEST(signals_neither_end_nor_lengthen_a_wait)
{
    struct shared *shared = shared_lock();
    int pid;

    CHECK_INT(naru_rwlock_write(&shared->lock, NARU_NOWAIT), 0);
    pid = test_fork();
    if (pid == 0) {
        int64_t start = clock_now();

        storm_begin();
        CHECK_INT(naru_rwlock_read(&shared->lock, NARU_MS(60)), -ETIMEDOUT);
        CHECK_INT(naru_rwlock_write(&shared->lock, NARU_MS(60)), -ETIMEDOUT);
        CHECK(clock_now() - start >= NARU_MS(120));
        storm_end();
        _exit(0);
    }
    test_join(pid);
}

TEST(garbage_in_memory_is_an_answer)
{
    struct shared *shared = shared_lock();
    uint32_t *words = (uint32_t *)(void *)&shared->lock;
    struct naru_rwlock zeroes = {{0}};

    CHECK_INT(naru_rwlock_read(&zeroes, NARU_FOREVER), -EPROTO);
    for (int round = 0; round < 200; round++) {
        int r;

        CHECK_INT(naru_rwlock_init(&shared->lock), 0);
        for (size_t i = 32; i < sizeof shared->lock / sizeof *words; i++)
            words[i] = (uint32_t)random() % (round % 2 ? 3 : UINT32_MAX);
        r = naru_rwlock_read(&shared->lock, NARU_US(10));
        CHECK(r == 0 || r == -ETIMEDOUT || r == -EOWNERDEAD);
        r = naru_rwlock_write(&shared->lock, NARU_US(10));
        CHECK(r == 0 || r == -ETIMEDOUT || r == -EOWNERDEAD);
        r = naru_rwlock_unlock(&shared->lock);
        CHECK(r == 0 || r == -EPERM);
    }
}
