/* SPDX-License-Identifier: MIT */
/* Locks inside segments of every kind: mapped at different addresses by processes that share nothing else. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

/* What two programs agree on: a variable, its lock, and the news that it has changed. */
struct variable {
    struct naru_mutex mutex;
    struct naru_rwlock rwlock;
    struct naru_semaphore semaphore;
    struct naru_event changed;
    struct naru_barrier barrier;
    int value;
};

static int initialise(void *data, size_t size, void *argument)
{
    struct variable *variable = data;
    int r;

    CHECK_INT(size, sizeof *variable);
    CHECK(argument == NULL);
    r = naru_mutex_init(&variable->mutex);
    r = r ? r : naru_rwlock_init(&variable->rwlock);
    r = r ? r : naru_semaphore_init(&variable->semaphore, 2, 2);
    r = r ? r : naru_event_init(&variable->changed, NARU_EVENT_AUTO);
    return r ? r : naru_barrier_init(&variable->barrier, 2);
}

static const char *const kinds[] = {"shm+posix", "mmap", "shm+sysv"};

static struct naru_segment *attach(const char *kind)
{
    struct naru_segment_options options = NARU_INIT(struct naru_segment_options);
    struct naru_segment *segment = NULL;
    static int maker;
    char url[512];

    maker = maker ? maker : getpid(); /* children attach to what their parent means */
    if (strcmp(kind, "mmap") == 0)
        (void)snprintf(url, sizeof url, "mmap://%s/variable", test_directory());
    else if (strcmp(kind, "shm+posix") == 0)
        (void)snprintf(url, sizeof url, "shm+posix:/naru-test-in-%d", maker);
    else
        (void)snprintf(url, sizeof url, "shm+sysv:0x%x", 0x6a000000u + (unsigned)maker);
    options.unlink = getpid() == maker;
    if (strcmp(kind, "shm+sysv") != 0)
        options.initialise = initialise;
    CHECK_INT(naru_segment_open(url, sizeof(struct variable), &options, &segment), 0);
    return segment;
}

/* The other program: waits for A's 3, answers with 4, and dies holding everything. */
static void other(const char *kind)
{
    struct naru_segment *segment = attach(kind);
    struct variable *variable = naru_segment_data(segment);

    CHECK_INT(naru_event_wait(&variable->changed, NARU_S(60)), 0);
    CHECK_INT(naru_mutex_lock(&variable->mutex, NARU_S(60)), 0);
    CHECK_INT(variable->value, 3);
    variable->value = 4;
    CHECK_INT(naru_rwlock_write(&variable->rwlock, NARU_NOWAIT), 0);
    CHECK_INT(naru_semaphore_acquire(&variable->semaphore, NARU_NOWAIT), 0);
    CHECK_INT(naru_semaphore_acquire(&variable->semaphore, NARU_NOWAIT), 0);
    CHECK_INT(naru_barrier_wait(&variable->barrier, NARU_NOWAIT), -EAGAIN);
    _exit(0);
}

TEST(every_lock_works_and_survives_its_holder_in_every_kind_of_segment)
{
    for (int k = 0; k < 3; k++) {
        struct naru_segment *segment = attach(kinds[k]), *moved = attach(kinds[k]);
        struct variable *variable = naru_segment_data(segment);
        int pid;

        CHECK(naru_segment_data(moved) != naru_segment_data(segment));
        if (k == 2)
            CHECK_INT(initialise(variable, sizeof *variable, NULL), 0);
        pid = test_fork();
        if (pid == 0)
            other(kinds[k]);
        CHECK_INT(naru_mutex_lock(&variable->mutex, NARU_FOREVER), 0);
        variable->value = 3;
        /* Set through another mapping of the same bytes: the kernel knows futexes by page, not address. */
        CHECK_INT(naru_event_set(&((struct variable *)naru_segment_data(moved))->changed), 0);
        CHECK_INT(naru_mutex_unlock(&variable->mutex), 0);
        test_join(pid);
        CHECK_INT(naru_mutex_lock(&variable->mutex, NARU_S(60)), -EOWNERDEAD);
        CHECK_INT(variable->value, 4);
        CHECK_INT(naru_mutex_consistent(&variable->mutex), 0);
        CHECK_INT(naru_mutex_unlock(&variable->mutex), 0);
        CHECK_INT(naru_rwlock_read(&variable->rwlock, NARU_S(60)), -EOWNERDEAD);
        CHECK_INT(naru_rwlock_unlock(&variable->rwlock), 0);
        CHECK_INT(naru_semaphore_acquire(&variable->semaphore, NARU_S(60)), 0);
        CHECK_INT(naru_semaphore_release(&variable->semaphore), 0);
        CHECK_INT(naru_barrier_wait(&variable->barrier, NARU_S(60)), -EOWNERDEAD);
        (void)naru_segment_close(moved);
        (void)naru_segment_close(segment);
    }
}

TEST(many_writers_under_a_lock_lose_no_update)
{
    struct naru_segment *segment = attach("shm+posix");
    struct variable *variable = naru_segment_data(segment);
    int pids[4];

    for (int i = 0; i < 4; i++) {
        pids[i] = test_fork();
        if (pids[i] == 0) {
            struct naru_segment *mine = attach("shm+posix");
            struct variable *shared = naru_segment_data(mine);

            for (int n = 0; n < 2000; n++) {
                CHECK_INT(naru_mutex_lock(&shared->mutex, NARU_S(60)), 0);
                shared->value++;
                CHECK_INT(naru_mutex_unlock(&shared->mutex), 0);
            }
            _exit(0);
        }
    }
    for (int i = 0; i < 4; i++)
        test_join(pids[i]);
    CHECK_INT(variable->value, 8000);
    (void)naru_segment_close(segment);
}

static int refuse(void *data, size_t size, void *argument)
{
    CHECK(data && size);
    return *(int *)argument;
}

TEST(an_object_whose_initialising_fails_never_appears)
{
    struct naru_segment_options options = NARU_INIT(struct naru_segment_options);
    struct naru_segment *segment = NULL;
    int code = -ECANCELED;
    char url[100];

    options.initialise = refuse;
    options.argument = &code;
    (void)snprintf(url, sizeof url, "shm+posix:/naru-test-refused-%d", getpid());
    CHECK_INT(naru_segment_open(url, 10, &options, &segment), -ECANCELED);
    CHECK_INT(naru_segment_open(url, 0, NULL, &segment), -ENOENT);
    CHECK_INT(naru_segment_open("memfd:", 10, &options, &segment), -ECANCELED);
    (void)snprintf(url, sizeof url, "shm+sysv:0x%x", 0x6a000000u + (unsigned)getpid());
    CHECK_INT(naru_segment_open(url, 10, &options, &segment), -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "before it is initialised");
}
