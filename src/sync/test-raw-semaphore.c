/* SPDX-License-Identifier: MIT */
/* POSIX and System V semaphores, with plain programs on the other side. */
#include "sync/test-sync.h"

#include <fcntl.h>
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/stat.h>

#include "naru/semaphore.h"

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
};

static const char *url_of(const char *kind, const char *options, char *buffer, size_t capacity)
{
    if (strcmp(kind, "posix") == 0)
        (void)snprintf(buffer, capacity, "sem+posix:/naru-test-%d%s", getpid(), options);
    else
        (void)snprintf(buffer, capacity, "sem+sysv:0x%x%s", 0x6f000000u + (unsigned)getpid(), options);
    return buffer;
}

static const char *const kinds[] = {"posix", "sysv"};

TEST(both_kinds_count_and_time_out)
{
    for (int k = 0; k < 2; k++) {
        struct naru_raw_semaphore *semaphore = NULL, *other = NULL;
        char url[200], make[200], new[200];
        int64_t start;

        url_of(kinds[k], "", url, sizeof url);
        url_of(kinds[k], "?create&value=2", make, sizeof make);
        url_of(kinds[k], "?create=new", new, sizeof new);
        CHECK_INT(naru_raw_semaphore_open(url, &semaphore), -ENOENT);
        CHECK_CONTAINS(naru_explain(), "?create");
        CHECK_INT(naru_raw_semaphore_open(make, &semaphore), 0);
        CHECK_INT(naru_raw_semaphore_open(new, &other), -EEXIST);
        CHECK_INT(naru_raw_semaphore_open(make, &other), 0); /* keeps its value */
        CHECK_INT(naru_raw_semaphore_value(semaphore), 2);
        CHECK_INT(naru_raw_semaphore_wait(semaphore, NARU_FOREVER), 0);
        CHECK_INT(naru_raw_semaphore_wait(other, NARU_S(60)), 0);
        CHECK_INT(naru_raw_semaphore_wait(other, NARU_NOWAIT), -EAGAIN);
        start = clock_now();
        storm_begin();
        CHECK_INT(naru_raw_semaphore_wait(other, NARU_MS(50)), -ETIMEDOUT);
        CHECK(clock_now() - start >= NARU_MS(50));
        storm_end();
        CHECK_INT(naru_raw_semaphore_post(other), 0);
        CHECK_INT(naru_raw_semaphore_wait(semaphore, NARU_NOWAIT), 0);
        CHECK(naru_raw_semaphore_close(other) == NULL);
        CHECK_INT(naru_raw_semaphore_remove(url), 0);
        CHECK_INT(naru_raw_semaphore_remove(url), -ENOENT);
        if (k == 1) {
            CHECK_INT(naru_raw_semaphore_wait(semaphore, NARU_FOREVER), -EIDRM);
            CHECK_INT(naru_raw_semaphore_value(semaphore), -EIDRM);
        }
        (void)naru_raw_semaphore_close(semaphore);
    }
}

TEST(a_plain_program_with_sem_open_shares_it)
{
    struct naru_raw_semaphore *semaphore = NULL;
    char url[200], name[100];
    sem_t *plain;
    int pid;

    (void)snprintf(name, sizeof name, "/naru-test-%d", getpid());
    plain = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
    CHECK(plain != SEM_FAILED);
    CHECK_INT(naru_raw_semaphore_open(url_of("posix", "", url, sizeof url), &semaphore), 0);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(naru_raw_semaphore_wait(semaphore, SOON), 0);
        CHECK_INT(naru_raw_semaphore_post(semaphore), 0);
        CHECK_INT(naru_raw_semaphore_post(semaphore), 0);
        _exit(0);
    }
    CHECK_INT(sem_post(plain), 0);
    test_join(pid);
    CHECK_INT(sem_wait(plain), 0);
    CHECK_INT(sem_wait(plain), 0);
    CHECK_INT(sem_close(plain), 0);
    (void)naru_raw_semaphore_close(semaphore);
    CHECK_INT(naru_raw_semaphore_remove(url), 0);
}

TEST(a_plain_program_with_semget_shares_it)
{
    key_t key = (key_t)(0x6f000000 + getpid());
    int id = semget(key, 2, IPC_CREAT | IPC_EXCL | 0600), pid;
    struct naru_raw_semaphore *semaphore = NULL;
    struct sembuf take = {1, -1, 0};
    char url[200];

    CHECK(id >= 0);
    CHECK_INT(semctl(id, 1, SETVAL, (union semun){.val = 1}), 0);
    CHECK_INT(naru_raw_semaphore_open(url_of("sysv", "?create&index=1&undo=no", url, sizeof url), &semaphore),
              0);
    CHECK_INT(naru_raw_semaphore_value(semaphore), 1);
    CHECK_INT(naru_raw_semaphore_wait(semaphore, NARU_NOWAIT), 0);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(semop(id, &take, 1), 0);
        _exit(0);
    }
    CHECK_INT(naru_raw_semaphore_post(semaphore), 0);
    test_join(pid);
    CHECK_INT(naru_raw_semaphore_value(semaphore), 0);
    (void)naru_raw_semaphore_close(semaphore);
    CHECK_INT(naru_raw_semaphore_open(url_of("sysv", "?index=2", url, sizeof url), &semaphore), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "fewer than 3");
    CHECK_INT(naru_raw_semaphore_remove(url), 0);
}

TEST(sem_undo_gives_back_what_a_killed_process_took)
{
    struct naru_raw_semaphore *semaphore = NULL;
    char url[200];
    int pid;

    CHECK_INT(naru_raw_semaphore_open(url_of("sysv", "?create=new&value=1", url, sizeof url), &semaphore), 0);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(naru_raw_semaphore_wait(semaphore, NARU_NOWAIT), 0);
        for (;;)
            (void)pause();
    }
    WAIT_UNTIL(naru_raw_semaphore_value(semaphore) == 0);
    test_kill(pid);
    CHECK_INT(naru_raw_semaphore_wait(semaphore, SOON), 0);
    (void)naru_raw_semaphore_close(semaphore);
    CHECK_INT(naru_raw_semaphore_remove(url), 0);
}

TEST(an_unnamed_one_in_shared_memory_is_borrowed)
{
    sem_t *memory = shared_new(sizeof *memory);
    struct naru_raw_semaphore *semaphore = NULL;
    int pid;

    CHECK_INT(sem_init(memory, 1, 0), 0);
    CHECK_INT(naru_raw_semaphore_borrow(memory, &semaphore), 0);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(sem_wait(memory), 0);
        _exit(0);
    }
    CHECK_INT(naru_raw_semaphore_post(semaphore), 0);
    test_join(pid);
    CHECK_INT(naru_raw_semaphore_wait(semaphore, NARU_MS(1)), -ETIMEDOUT);
    (void)naru_raw_semaphore_close(semaphore);
    CHECK_INT(sem_post(memory), 0); /* still the caller's */
    CHECK_INT(sem_destroy(memory), 0);
}

/* A maker of the same kind as ours, killed between semget() and giving the value. */
TEST(a_set_whose_maker_was_killed_is_given_its_value)
{
    key_t key = (key_t)(0x6f000000 + getpid());
    struct naru_raw_semaphore *semaphore = NULL, *again = NULL;
    char url[200];

    CHECK(semget(key, 1, IPC_CREAT | IPC_EXCL | 0600) >= 0);
    CHECK_INT(naru_raw_semaphore_open(url_of("sysv", "?create&value=3", url, sizeof url), &semaphore), 0);
    CHECK_INT(naru_raw_semaphore_value(semaphore), 3);
    CHECK_INT(naru_raw_semaphore_open(url, &again), 0);
    CHECK_INT(naru_raw_semaphore_value(again), 3);
    (void)naru_raw_semaphore_close(again);
    (void)naru_raw_semaphore_close(semaphore);
    CHECK_INT(naru_raw_semaphore_remove(url), 0);
}

TEST(many_first_openers_give_the_value_once)
{
    char url[200];

    url_of("sysv", "?create&value=1&undo=no", url, sizeof url);
    for (int round = 0; round < 50; round++) {
        int pids[3];

        for (int i = 0; i < 3; i++) {
            pids[i] = test_fork();
            if (pids[i] == 0) {
                struct naru_raw_semaphore *semaphore = NULL;

                CHECK_INT(naru_raw_semaphore_open(url, &semaphore), 0);
                CHECK(naru_raw_semaphore_value(semaphore) == 1);
                (void)naru_raw_semaphore_close(semaphore);
                _exit(0);
            }
        }
        for (int i = 0; i < 3; i++)
            test_join(pids[i]);
        CHECK_INT(naru_raw_semaphore_remove(url), 0);
    }
}

TEST(the_permission_mode_is_exact_and_decides)
{
    test_need_root();
    (void)umask(077);
    for (int k = 0; k < 2; k++) {
        for (int allowed = 0; allowed < 2; allowed++) {
            struct naru_raw_semaphore *semaphore = NULL;
            char url[200], make[200];
            int pid;

            url_of(kinds[k], "", url, sizeof url);
            url_of(kinds[k], allowed ? "?create=new&value=1&mode=0666" : "?create=new&value=1", make,
                   sizeof make);
            CHECK_INT(naru_raw_semaphore_open(make, &semaphore), 0);
            pid = test_fork_as_nobody();
            if (pid == 0) {
                int r;

                r = naru_raw_semaphore_open(url, &semaphore);
                if (r == 0)
                    r = naru_raw_semaphore_wait(semaphore, NARU_NOWAIT);
                CHECK_INT(r, allowed ? 0 : -EACCES);
                r = naru_raw_semaphore_remove(url);
                CHECK(r == -EPERM || r == -EACCES);
                _exit(0);
            }
            test_join(pid);
            (void)naru_raw_semaphore_close(semaphore);
            CHECK_INT(naru_raw_semaphore_remove(url), 0);
        }
    }
}

TEST(what_makes_no_sense_is_refused_with_a_sentence)
{
    static const struct {
        const char *url, *part;
    } cases[] = {
        {"tcp://127.0.0.1:1", "expected sem+posix"},
        {"sem+posix:/", "expected a name"},
        {"sem+posix:/a/b", "expected a name"},
        {"sem+posix:/a?value=-1", "a number from 0"},
        {"sem+posix:/a?undo=no", "means nothing"},
        {"sem+sysv:0", "a System V key"},
        {"sem+sysv:x", "a System V key"},
        {"sem+sysv:1?value=40000", "32767"},
        {"sem+sysv:1?create=perhaps", "no|yes|new"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct naru_raw_semaphore *semaphore = NULL;

        CHECK_INT(naru_raw_semaphore_open(cases[i].url, &semaphore), -EINVAL);
        CHECK_CONTAINS(naru_explain(), cases[i].part);
        CHECK_INT(naru_raw_semaphore_remove(cases[i].url), -EINVAL);
    }
}
