/* SPDX-License-Identifier: MIT */
/*
 * Named objects whose files somebody wrote over: whoever opens and uses them afterwards, several at once,
 * gets an answer; nobody crashes or waits for ever. (What is overwritten while it is held may crash its
 * holder: naru/sync.h, Trust.)
 */
#include "sync/test-sync.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "naru/barrier.h"
#include "naru/event.h"
#include "naru/mutex.h"
#include "naru/rwlock.h"
#include "naru/semaphore.h"

enum {
    ROUNDS = 6,
    USERS = 3,
    LOCK_WORD = 32
}; /* LOCK_WORD: where the thread that holds the inner lock stands */

#define PATIENCE NARU_MS(1)

/* What an object may say, whatever was written into it. */
static void check_answer(int r)
{
    static const int answers[] = {0,          -EAGAIN, -ETIMEDOUT, -EOWNERDEAD, -ENOTRECOVERABLE,
                                  -EPROTO,    -EXDEV,  -EDEADLK,   -EPERM,      -EINVAL,
                                  -EOVERFLOW, -EUSERS, -EBUSY};

    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        if (r == answers[i]) {
            CHECK(r == 0 || strcmp(naru_explain(), "no error") != 0);
            return;
        }
    test_fail(__FILE__, __LINE__, "%d: %s", r, naru_explain());
}

static void use_mutex(const char *name)
{
    struct naru_mutex *mutex = NULL;
    int r = naru_mutex_open(name, NULL, &mutex);

    check_answer(r);
    if (r < 0)
        return;
    r = naru_mutex_lock(mutex, PATIENCE);
    check_answer(r);
    CHECK(naru_mutex_holder(mutex) >= -EPROTO);
    if (r == 0 || r == -EOWNERDEAD)
        check_answer(naru_mutex_unlock(mutex));
    (void)naru_mutex_close(mutex);
}

static void use_rwlock(const char *name)
{
    struct naru_rwlock *lock = NULL;
    int r = naru_rwlock_open(name, NULL, &lock);

    check_answer(r);
    if (r < 0)
        return;
    for (int i = 0; i < 2; i++) {
        r = i == 0 ? naru_rwlock_read(lock, PATIENCE) : naru_rwlock_write(lock, PATIENCE);
        check_answer(r);
        if (r == 0 || r == -EOWNERDEAD)
            check_answer(naru_rwlock_unlock(lock));
    }
    (void)naru_rwlock_close(lock);
}

static void use_semaphore(const char *name)
{
    struct naru_semaphore_info info = NARU_INIT(struct naru_semaphore_info);
    struct naru_semaphore *semaphore = NULL;
    int r = naru_semaphore_open(name, NULL, 2, 0, &semaphore);

    check_answer(r);
    if (r < 0)
        return;
    r = naru_semaphore_acquire(semaphore, PATIENCE);
    check_answer(r);
    if (r == 0)
        check_answer(naru_semaphore_release(semaphore));
    check_answer(naru_semaphore_post(semaphore, 1));
    check_answer(naru_semaphore_wait(semaphore, PATIENCE));
    check_answer(naru_semaphore_info(semaphore, &info));
    (void)naru_semaphore_close(semaphore);
}

static void use_event(const char *name)
{
    struct naru_event *event = NULL;
    int r = naru_event_open(name, NULL, NARU_EVENT_AUTO, &event);

    check_answer(r);
    if (r < 0)
        return;
    check_answer(naru_event_set(event));
    check_answer(naru_event_wait(event, PATIENCE));
    check_answer(naru_event_pulse(event));
    check_answer(naru_event_reset(event));
    (void)naru_event_close(event);
}

static void use_barrier(const char *name)
{
    struct naru_barrier *barrier = NULL;
    int r = naru_barrier_open(name, NULL, 2, &barrier);

    check_answer(r);
    if (r < 0)
        return;
    r = naru_barrier_wait(barrier, PATIENCE);
    check_answer(r == 1 ? 0 : r); /* 1: who completed the round */
    check_answer(naru_barrier_leave(barrier));
    (void)naru_barrier_close(barrier);
}

static const struct {
    enum naru_sync_kind kind;
    const char *name;
    void (*use)(const char *name);
} kinds[] = {
    {NARU_SYNC_MUTEX, "mutex", use_mutex},
    {NARU_SYNC_RWLOCK, "rwlock", use_rwlock},
    {NARU_SYNC_SEMAPHORE, "semaphore", use_semaphore},
    {NARU_SYNC_EVENT, "event", use_event},
    {NARU_SYNC_BARRIER, "barrier", use_barrier},
};

static const char *kind_name(size_t index)
{
    return index < sizeof kinds / sizeof *kinds ? kinds[index].name : NULL;
}

static const char *file_of(size_t index, const char *name)
{
    return test_format("/dev/shm/naru.%s.%s", kinds[index].name, name);
}

/* Words anywhere behind the magic; not the holder of the lock within, which may name a living thread by
 * chance, and is then believed. That one becomes a thread that cannot be. */
static void overwrite(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat status;

    CHECK(fd >= 0 && fstat(fd, &status) == 0);
    for (uint64_t n = 1 + test_random() % 8; n > 0; n--) {
        off_t at = (off_t)(4 + test_random() % ((uint64_t)status.st_size - 8)) & ~3;
        uint32_t word = at == LOCK_WORD ? 0x3fffffff : (uint32_t)test_random();

        CHECK_INT(pwrite(fd, &word, sizeof word, at), sizeof word);
    }
    close(fd);
}

static void use_by_several(size_t index, const char *name)
{
    int pids[USERS];

    for (int i = 0; i < USERS; i++) {
        pids[i] = test_fork();
        if (pids[i] == 0) {
            for (int times = 0; times < 2; times++)
                kinds[index].use(name);
            _exit(0);
        }
    }
    for (int i = 0; i < USERS; i++)
        test_join(pids[i]);
}

TEST_EACH(an_overwritten_file_answers_and_neither_crashes_nor_holds_anybody, kind_name)
{
    const char *name = own_name("overwritten"), *path = file_of(index, name);

    for (int round = 0; round < ROUNDS; round++) {
        kinds[index].use(name);
        overwrite(path);
        use_by_several(index, name);
        CHECK_INT(naru_sync_remove(kinds[index].kind, name), 0);
    }
}

TEST_EACH(a_file_that_was_cut_short_is_refused_and_can_be_removed, kind_name)
{
    const char *name = own_name("short"), *path = file_of(index, name);
    struct stat status;

    kinds[index].use(name);
    CHECK_INT(stat(path, &status), 0);
    for (off_t size = 0; size < status.st_size; size += status.st_size / 4) {
        CHECK_INT(truncate(path, size), 0);
        use_by_several(index, name);
        kinds[index].use(name);
        CHECK_CONTAINS(naru_explain(), "bytes where");
    }
    CHECK_INT(naru_sync_remove(kinds[index].kind, name), 0);
    kinds[index].use(name); /* made anew */
    CHECK_INT(naru_sync_remove(kinds[index].kind, name), 0);
}
