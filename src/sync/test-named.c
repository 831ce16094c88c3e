/* SPDX-License-Identifier: MIT */
/* Named objects: made whole by whoever is first, found by the others, and closed to those without permission.
 */
#include "sync/test-sync.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "naru/barrier.h"
#include "naru/event.h"
#include "naru/mutex.h"
#include "naru/rwlock.h"
#include "naru/semaphore.h"

static struct naru_sync_options options_of(enum naru_create create, unsigned mode)
{
    struct naru_sync_options options = NARU_INIT(struct naru_sync_options);

    options.create = create;
    options.mode = mode;
    return options;
}

TEST(two_processes_meet_by_name)
{
    const char *name = own_name("meet");
    struct naru_mutex *mutex = NULL;
    int pid = test_fork();

    if (pid == 0) {
        CHECK_INT(naru_mutex_open(name, NULL, &mutex), 0);
        CHECK_INT(naru_mutex_lock(mutex, NARU_FOREVER), 0);
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(naru_mutex_open(name, NULL, &mutex), 0);
    CHECK_INT(naru_mutex_lock(mutex, NARU_NOWAIT), -EOWNERDEAD);
    CHECK_INT(naru_mutex_consistent(mutex), 0);
    CHECK(naru_mutex_close(mutex) == NULL); /* unlocks */
    CHECK_INT(naru_mutex_open(name, NULL, &mutex), 0);
    CHECK_INT(naru_mutex_lock(mutex, NARU_NOWAIT), 0);
    (void)naru_mutex_close(mutex);
    CHECK_INT(naru_sync_remove(NARU_SYNC_MUTEX, name), 0);
    CHECK_INT(naru_sync_remove(NARU_SYNC_MUTEX, name), -ENOENT);
}

TEST(every_kind_has_names_of_its_own_and_keeps_its_properties)
{
    const char *name = own_name("kinds");
    struct naru_rwlock *rwlock = NULL;
    struct naru_semaphore *semaphore = NULL;
    struct naru_event *event = NULL;
    struct naru_barrier *barrier = NULL;

    CHECK_INT(naru_rwlock_open(name, NULL, &rwlock), 0);
    CHECK_INT(naru_rwlock_write(rwlock, NARU_NOWAIT), 0);
    CHECK_INT(naru_rwlock_unlock(rwlock), 0);
    (void)naru_rwlock_close(rwlock);

    CHECK_INT(naru_semaphore_open(name, NULL, 2, 5, &semaphore), 0);
    CHECK_INT(naru_semaphore_wait(semaphore, NARU_NOWAIT), 0);
    (void)naru_semaphore_close(semaphore);
    CHECK_INT(naru_semaphore_open(name, NULL, 2, 6, &semaphore), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "maximum of 5, not 6");
    CHECK_INT(naru_semaphore_open(name, NULL, 2, 0, &semaphore), 0);
    CHECK_INT(naru_semaphore_wait(semaphore, NARU_NOWAIT), 0);
    CHECK_INT(naru_semaphore_wait(semaphore, NARU_NOWAIT), -EAGAIN);
    (void)naru_semaphore_close(semaphore);

    CHECK_INT(naru_event_open(name, NULL, NARU_EVENT_MANUAL, &event), 0);
    CHECK_INT(naru_event_set(event), 0);
    (void)naru_event_close(event);
    CHECK_INT(naru_event_open(name, NULL, NARU_EVENT_AUTO, &event), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "manual-reset");
    CHECK_INT(naru_event_open(name, NULL, NARU_EVENT_MANUAL, &event), 0);
    CHECK_INT(naru_event_wait(event, NARU_NOWAIT), 0);
    (void)naru_event_close(event);

    CHECK_INT(naru_barrier_open(name, NULL, 0, &barrier), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "one party or more");
    CHECK_INT(naru_barrier_open(name, NULL, 2, &barrier), 0);
    CHECK_INT(naru_barrier_wait(barrier, NARU_NOWAIT), -EAGAIN);
    (void)naru_barrier_close(barrier);
    CHECK_INT(naru_barrier_open(name, NULL, 3, &barrier), -EINVAL);
    CHECK_INT(naru_barrier_open(name, NULL, 0, &barrier), 0);
    (void)naru_barrier_close(barrier);
    for (int kind = NARU_SYNC_RWLOCK; kind <= NARU_SYNC_BARRIER; kind++)
        CHECK_INT(naru_sync_remove((enum naru_sync_kind)kind, name), 0);
}

/* Its members are the ones who close properly, so the last word on a round is not -EOWNERDEAD. */
TEST(closing_a_barrier_leaves_it)
{
    const char *name = own_name("leave");
    struct naru_barrier *barrier = NULL;
    int pid;

    CHECK_INT(naru_barrier_open(name, NULL, 2, &barrier), 0);
    pid = test_fork();
    if (pid == 0) {
        struct naru_barrier *mine = NULL;

        CHECK_INT(naru_barrier_open(name, NULL, 2, &mine), 0);
        CHECK_INT(naru_barrier_wait(mine, NARU_NOWAIT), -EAGAIN);
        (void)naru_barrier_close(mine);
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(naru_barrier_wait(barrier, NARU_NOWAIT), -EAGAIN);
    (void)naru_barrier_close(barrier);
    CHECK_INT(naru_sync_remove(NARU_SYNC_BARRIER, name), 0);
}

TEST(create_says_who_makes_it)
{
    const char *name = own_name("create");
    struct naru_sync_options no = options_of(NARU_CREATE_NO, 0), new = options_of(NARU_CREATE_NEW, 0);
    struct naru_mutex *mutex = NULL;

    CHECK_INT(naru_mutex_open(name, &no, &mutex), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "nobody has made it");
    CHECK_INT(naru_mutex_open(name, &new, &mutex), 0);
    (void)naru_mutex_close(mutex);
    CHECK_INT(naru_mutex_open(name, &new, &mutex), -EEXIST);
    CHECK_INT(naru_mutex_open(name, &no, &mutex), 0);
    (void)naru_mutex_close(mutex);
    CHECK_INT(naru_sync_remove(NARU_SYNC_MUTEX, name), 0);
}

/* All race to be first; the counter shows that they got the same lock. */
TEST(many_first_openers_get_one_object)
{
    const char *name = own_name("race");
    volatile int *counter = shared_new(sizeof *counter);

    for (int round = 0; round < 40; round++) {
        struct test_gate gate;
        int pids[4];

        test_gate_init(&gate);
        *counter = 0;
        for (int i = 0; i < 4; i++) {
            pids[i] = test_fork();
            if (pids[i] == 0) {
                struct naru_mutex *mutex = NULL;

                test_gate_wait(&gate);
                CHECK_INT(naru_mutex_open(name, NULL, &mutex), 0);
                for (int n = 0; n < 50; n++) {
                    CHECK_INT(naru_mutex_lock(mutex, SOON), 0);
                    *counter = *counter + 1;
                    CHECK_INT(naru_mutex_unlock(mutex), 0);
                }
                _exit(0);
            }
        }
        for (int i = 0; i < 4; i++)
            test_gate_open(&gate);
        for (int i = 0; i < 4; i++)
            test_join(pids[i]);
        CHECK_INT(*counter, 200);
        CHECK_INT(naru_sync_remove(NARU_SYNC_MUTEX, name), 0);
        for (int i = 0; i < 2; i++)
            (void)close(gate.fds[i]);
    }
}

static const char *victim_name;

/* Makes, uses and removes it again and again: killed anywhere in it. */
static void make_and_remove(void *memory, int number)
{
    struct naru_semaphore *semaphore = NULL;
    int r;

    (void)memory;
    (void)number;
    r = naru_semaphore_open(victim_name, NULL, 1, 1, &semaphore);
    CHECK(r == 0 || r == -EAGAIN);
    if (r == 0) {
        CHECK_INT(naru_semaphore_acquire(semaphore, SOON), 0);
        CHECK_INT(naru_semaphore_release(semaphore), 0);
        (void)naru_semaphore_close(semaphore);
    }
    r = naru_sync_remove(NARU_SYNC_SEMAPHORE, victim_name);
    CHECK(r == 0 || r == -ENOENT);
}

TEST(makers_killed_at_any_moment_leave_a_whole_object_or_none)
{
    _Atomic uint64_t *steps = shared_new(sizeof *steps);
    int r;

    victim_name = own_name("maker");
    torture(make_and_remove, NULL, steps, 3, 200);
    make_and_remove(NULL, 0);
    r = naru_sync_remove(NARU_SYNC_SEMAPHORE, victim_name);
    CHECK_INT(r, -ENOENT);
}

TEST(the_permission_mode_is_exact_and_decides)
{
    const char *name = own_name("mode");

    test_need_root();
    (void)umask(077);
    for (int allowed = 0; allowed < 2; allowed++) {
        struct naru_sync_options options = options_of(NARU_CREATE_NEW, allowed ? 0666 : 0);
        struct naru_mutex *mutex = NULL;
        int pid;

        CHECK_INT(naru_mutex_open(name, &options, &mutex), 0);
        pid = test_fork_as_nobody();
        if (pid == 0) {
            CHECK_INT(naru_sync_remove(NARU_SYNC_MUTEX, name), -EPERM);
            if (!allowed) {
                CHECK_INT(naru_mutex_open(name, NULL, &mutex), -EACCES);
                CHECK_CONTAINS(naru_explain(), "maker decides");
                _exit(0);
            }
            CHECK_INT(naru_mutex_open(name, NULL, &mutex), 0);
            CHECK_INT(naru_mutex_lock(mutex, NARU_FOREVER), 0);
            _exit(0);
        }
        test_join(pid);
        CHECK_INT(naru_mutex_lock(mutex, NARU_NOWAIT), allowed ? -EOWNERDEAD : 0);
        (void)naru_mutex_close(mutex);
        CHECK_INT(naru_sync_remove(NARU_SYNC_MUTEX, name), 0);
    }
}

/* Whether a holder of another user lives must be found out without permission to signal him. */
TEST(a_holder_of_another_user_is_seen_alive_and_dead)
{
    const char *name = own_name("users");
    struct naru_sync_options options = options_of(NARU_CREATE_NEW, 0666);
    struct naru_semaphore *semaphore = NULL;
    struct test_gate held;
    int holder, waiter;

    test_need_root();
    CHECK_INT(naru_semaphore_open(name, &options, 1, 1, &semaphore), 0);
    test_gate_init(&held);
    holder = test_fork();
    if (holder == 0) {
        CHECK_INT(naru_semaphore_acquire(semaphore, NARU_NOWAIT), 0);
        test_gate_open(&held);
        for (;;)
            (void)pause();
    }
    test_gate_wait(&held);
    waiter = test_fork_as_nobody();
    if (waiter == 0) {
        CHECK_INT(naru_semaphore_acquire(semaphore, NARU_MS(30)), -ETIMEDOUT);
        test_gate_open(&held);
        CHECK_INT(naru_semaphore_acquire(semaphore, SOON), 0);
        _exit(0);
    }
    test_gate_wait(&held);
    test_kill(holder);
    test_join(waiter);
    (void)naru_semaphore_close(semaphore);
    CHECK_INT(naru_sync_remove(NARU_SYNC_SEMAPHORE, name), 0);
}

TEST(what_is_none_of_ours_is_refused)
{
    const char *name = own_name("foreign");
    struct naru_mutex *mutex = NULL;
    struct naru_event *event = NULL;
    char path[200], other[200];
    int fd;

    (void)snprintf(path, sizeof path, "/dev/shm/naru.mutex.%s", name);
    (void)snprintf(other, sizeof other, "/dev/shm/naru.event.%s", name);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_INT(naru_mutex_open(name, NULL, &mutex), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "0 bytes where");
    CHECK_INT(ftruncate(fd, 4096), 0);
    CHECK_INT(naru_mutex_open(name, NULL, &mutex), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "no mutex at");
    (void)close(fd);
    CHECK_INT(unlink(path), 0);

    CHECK_INT(naru_mutex_open(name, NULL, &mutex), 0);
    CHECK_INT(link(path, other), 0);
    CHECK_INT(naru_event_open(name, NULL, NARU_EVENT_AUTO, &event), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "no event but a mutex");
    CHECK_INT(unlink(other), 0);
    CHECK_INT(symlink(path, other), 0);
    CHECK_INT(naru_event_open(name, NULL, NARU_EVENT_AUTO, &event), -EPROTO);
    CHECK_INT(unlink(other), 0);
    /* The namespace its pids belong to (naru/sync.h). */
    ((uint32_t *)(void *)mutex)[3] ^= 1;
    CHECK_INT(naru_mutex_lock(mutex, NARU_NOWAIT), -EXDEV);
    (void)naru_mutex_close(mutex);
    CHECK_INT(naru_mutex_open(name, NULL, &mutex), -EXDEV);
    CHECK_CONTAINS(naru_explain(), "PID namespace");
    CHECK_INT(naru_sync_remove(NARU_SYNC_MUTEX, name), 0);
}

TEST(names_that_make_no_sense_are_refused)
{
    static const char *const names[] = {"", "a/b", "/a", NULL};
    struct naru_mutex *mutex = NULL;
    char longest[202];

    for (int i = 0; i < 4; i++) {
        CHECK_INT(naru_mutex_open(names[i], NULL, &mutex), -EINVAL);
        CHECK_CONTAINS(naru_explain(), "expected a name");
    }
    memset(longest, 'x', sizeof longest - 1);
    longest[201] = '\0';
    CHECK_INT(naru_mutex_open(longest, NULL, &mutex), -EINVAL);
    (void)snprintf(longest, sizeof longest, "%0200d", getpid());
    CHECK_INT(naru_mutex_open(longest, NULL, &mutex), 0);
    (void)naru_mutex_close(mutex);
    CHECK_INT(naru_sync_remove(NARU_SYNC_MUTEX, longest), 0);
    CHECK_INT(naru_sync_remove((enum naru_sync_kind)9, "x"), -EINVAL);
    CHECK(naru_sync_kind_name((enum naru_sync_kind)0) == NULL);
}

struct search {
    const char *name;
    int found;
};

static int look_for(const struct naru_sync_entry *entry, void *argument)
{
    struct search *search = argument;

    if (entry->kind != NARU_SYNC_EVENT || strcmp(entry->name, search->name) != 0)
        return 0;
    CHECK_INT(entry->mode, 0640);
    CHECK_INT(entry->uid, geteuid());
    return ++search->found;
}

TEST(the_list_shows_what_exists)
{
    struct search search = {.name = own_name("list.with.dots")};
    struct naru_sync_options options = options_of(NARU_CREATE_NEW, 0640);
    struct naru_event *event = NULL;

    CHECK_INT(naru_event_open(search.name, &options, NARU_EVENT_AUTO, &event), 0);
    (void)naru_event_close(event);
    CHECK_INT(naru_sync_list(look_for, &search), 1);
    CHECK_INT(naru_sync_remove(NARU_SYNC_EVENT, search.name), 0);
    CHECK_INT(naru_sync_list(look_for, &search), 0);
}
