/* SPDX-License-Identifier: MIT */
/*
 * A process that is stopped (SIGSTOP) inside a call, within the few instructions in which an object's state
 * is changed. It is alive, so nobody may take its place; but who has a deadline gives up.
 */
#include "sync/test-sync.h"

#include "naru/barrier.h"
#include "naru/rwlock.h"
#include "naru/semaphore.h"
#include "sync/monitor.h"

struct shared {
    union {
        struct monitor monitor; /* each object begins with it */
        struct naru_semaphore semaphore;
        struct naru_rwlock rwlock;
        struct naru_barrier barrier;
    } u;
};

struct stopped {
    struct test_gate inside;
    int pid;
};

/* A child that enters and stays, until it is killed. */
static struct stopped stop_inside(struct shared *shared, enum naru_sync_kind kind)
{
    struct stopped s;

    test_gate_init(&s.inside);
    s.pid = test_fork();
    if (s.pid == 0) {
        CHECK_INT(monitor_enter(&shared->u.monitor, kind, NARU_FOREVER), 0);
        test_gate_open(&s.inside);
        for (;;)
            (void)raise(SIGSTOP);
    }
    test_gate_wait(&s.inside);
    return s;
}

static void check_sentence(void)
{
    CHECK_CONTAINS(naru_explain(), "it was stopped there (SIGSTOP)");
}

TEST(calls_with_a_deadline_give_up_on_a_process_that_is_stopped_inside_a_semaphore)
{
    struct shared *shared = shared_new(sizeof *shared);
    struct naru_semaphore_info info = NARU_INIT(struct naru_semaphore_info);
    struct stopped stopped;

    CHECK_INT(naru_semaphore_init(&shared->u.semaphore, 1, 0), 0);
    stopped = stop_inside(shared, NARU_SYNC_SEMAPHORE);
    CHECK_INT(naru_semaphore_acquire(&shared->u.semaphore, NARU_NOWAIT), -EAGAIN);
    check_sentence();
    CHECK_INT(naru_semaphore_wait(&shared->u.semaphore, NARU_MS(1)), -ETIMEDOUT);
    check_sentence();
    CHECK_INT(naru_semaphore_info(&shared->u.semaphore, &info), -EAGAIN);
    test_kill(stopped.pid);
    CHECK_INT(naru_semaphore_acquire(&shared->u.semaphore, SOON), 0);
}

TEST(calls_with_a_deadline_give_up_on_a_process_that_is_stopped_inside_a_rwlock_or_barrier)
{
    struct shared *shared = shared_new(sizeof *shared);
    struct stopped stopped;

    CHECK_INT(naru_rwlock_init(&shared->u.rwlock), 0);
    stopped = stop_inside(shared, NARU_SYNC_RWLOCK);
    CHECK_INT(naru_rwlock_read(&shared->u.rwlock, NARU_MS(1)), -ETIMEDOUT);
    CHECK_INT(naru_rwlock_write(&shared->u.rwlock, NARU_NOWAIT), -EAGAIN);
    check_sentence();
    test_kill(stopped.pid);
    CHECK_INT(naru_rwlock_write(&shared->u.rwlock, SOON), 0);

    CHECK_INT(naru_barrier_init(&shared->u.barrier, 1), 0);
    stopped = stop_inside(shared, NARU_SYNC_BARRIER);
    CHECK_INT(naru_barrier_wait(&shared->u.barrier, NARU_MS(1)), -ETIMEDOUT);
    check_sentence();
    test_kill(stopped.pid);
    CHECK_INT(naru_barrier_wait(&shared->u.barrier, SOON), 1);
}

/* It waits already when the other one is stopped. Then it lives on, and its place among those who wait must
 * not keep others out. */
TEST(who_gives_up_waiting_behind_a_stopped_process_keeps_nobody_out)
{
    struct shared *shared = shared_new(sizeof *shared);
    struct test_gate gave_up, end;
    struct stopped stopped;
    int writer, reader;

    CHECK_INT(naru_rwlock_init(&shared->u.rwlock), 0);
    CHECK_INT(naru_rwlock_read(&shared->u.rwlock, NARU_NOWAIT), 0);
    test_gate_init(&gave_up);
    test_gate_init(&end);
    writer = test_fork();
    if (writer == 0) {
        CHECK_INT(naru_rwlock_write(&shared->u.rwlock, NARU_S(2)), -ETIMEDOUT);
        test_gate_open(&gave_up);
        test_gate_wait(&end);
        _exit(0);
    }
    WAIT_UNTIL(is_asleep(writer));
    stopped = stop_inside(shared, NARU_SYNC_RWLOCK);
    test_gate_wait(&gave_up);
    test_kill(stopped.pid);
    reader = test_fork();
    if (reader == 0) {
        CHECK_INT(naru_rwlock_read(&shared->u.rwlock, NARU_NOWAIT), 0);
        _exit(0);
    }
    test_join(reader);
    test_gate_open(&end);
    test_join(writer);
}

TEST(what_is_done_behind_a_process_that_was_stopped_inside_is_done_when_it_goes_on)
{
    struct shared *shared = shared_new(sizeof *shared);
    int stopped, poster, status;

    CHECK_INT(naru_semaphore_init(&shared->u.semaphore, 0, 0), 0);
    stopped = test_fork();
    if (stopped == 0) {
        CHECK_INT(monitor_enter(&shared->u.monitor, NARU_SYNC_SEMAPHORE, NARU_FOREVER), 0);
        (void)raise(SIGSTOP);
        monitor_exit(&shared->u.monitor);
        _exit(0);
    }
    CHECK_INT(waitpid(stopped, &status, WUNTRACED), stopped);
    CHECK(WIFSTOPPED(status));
    poster = test_fork();
    if (poster == 0) {
        CHECK_INT(naru_semaphore_post(&shared->u.semaphore, 1), 0);
        _exit(0);
    }
    WAIT_UNTIL(is_asleep(poster));
    CHECK_INT(kill(stopped, SIGCONT), 0);
    test_join(stopped);
    test_join(poster);
    CHECK_INT(naru_semaphore_wait(&shared->u.semaphore, NARU_NOWAIT), 0);
}
