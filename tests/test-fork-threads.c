/* SPDX-License-Identifier: MIT */
/*
 * A program of many threads that forks while they open and close channels: no deadlock in the child, which
 * can use naru at once, and no copy of another thread's descriptor in it, which would keep a dead parent's
 * endpoint alive, or a command from the end of its input.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

enum { FORKS = 60, WORKERS_MAX = 7, DESCRIPTORS = 200, BALLAST = 32 << 20 /* bytes */ };

/* One thread each: what it does again and again until told to stop. */
struct worker {
    void (*work)(const struct worker *worker);
    const char *urls[2];
    atomic_int rounds;
};

static atomic_bool stop;

static void open_both_ends(const char *url)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l;
    struct naru_channel *far, *near;

    options.interruptible = 1; /* more descriptors */
    CHECK_INT(naru_listen(url, &options, &l), 0);
    CHECK_INT(naru_connect(naru_listener_url(l), NULL, NARU_S(60), &far), 0);
    CHECK_INT(naru_accept(l, NARU_S(60), &near), 0);
    CHECK(naru_channel_fd(near) >= 0);
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}

static void open_endpoints(const struct worker *worker)
{
    open_both_ends(worker->urls[0]);
    open_both_ends(worker->urls[1]);
}

static void run_commands(const struct worker *worker)
{
    struct naru_channel *command;
    char byte;

    (void)worker;
    CHECK_INT(naru_connect("exec:exec true", NULL, NARU_S(60), &command), 0);
    naru_channel_close(command);
    CHECK_INT(naru_connect("exec:exec cat", NULL, NARU_S(60), &command), 0);
    CHECK_INT(naru_channel_finish(command), 0);
    CHECK_INT(naru_recv(command, &byte, 1, NARU_S(60)), -EPIPE); /* no child keeps cat's input open */
    naru_channel_close(command);
}

static void watch_and_loop(const struct worker *worker)
{
    struct naru_file_watch *watch;
    struct naru_channel *sender;
    struct naru_loop *loop;

    CHECK_INT(naru_file_watch_open(worker->urls[0], &watch), 0);
    CHECK_INT(naru_loop_new(&loop), 0);
    CHECK_INT(naru_connect(worker->urls[1], NULL, NARU_MS(2), &sender), -ETIMEDOUT); /* waits with inotify */
    naru_loop_free(loop);
    naru_file_watch_close(watch);
}

/* Nobody answers, again and again. */
static void knock_and_listen(const struct worker *worker)
{
    struct naru_channel *ch;
    struct naru_listener *l;

    for (int i = 0; i < 100; i++)
        CHECK_INT(naru_connect(worker->urls[0], NULL, NARU_NOWAIT, &ch), -EAGAIN);
    CHECK_INT(naru_listen(worker->urls[1], NULL, &l), 0);
    naru_listener_close(l);
}

/* Channels that are not connected yet: given up, answered and given up, connected. */
static void meet_and_part(const struct worker *worker)
{
    struct naru_channel *far, *near;
    struct naru_listener *l;

    CHECK_INT(naru_listen(worker->urls[0], NULL, &l), 0);
    for (int i = 0; i < 10; i++) {
        CHECK_INT(naru_connect(worker->urls[0], NULL, NARU_NOWAIT, &far), 0);
        CHECK(naru_channel_fd(far) >= 0);
        if (i % 3 > 0)
            CHECK_INT(naru_accept(l, NARU_NOWAIT, &near), 0);
        if (i % 3 > 1)
            CHECK_INT(naru_send(far, "x", 1, NARU_NOWAIT), 0);
        naru_channel_close(far);
        if (i % 3 > 0)
            naru_channel_close(near);
    }
    naru_listener_close(l);
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;

    while (!stop) {
        worker->work(worker);
        worker->rounds++;
    }
    return NULL;
}

/* Nothing is open beyond what the runner had opened before. */
static void check_descriptors(const bool *known)
{
    for (int fd = 0; fd < DESCRIPTORS; fd++) {
        char what[256] = "";

        if (known[fd] || fcntl(fd, F_GETFD) < 0)
            continue;
        (void)!readlink(test_format("/proc/self/fd/%d", fd), what, sizeof what - 1);
        test_fail(__FILE__, __LINE__, "the child has descriptor %d of its parent: %s", fd, what);
    }
}

static void use_naru(void)
{
    struct naru_channel *ends[2];
    char byte;

    CHECK_INT(naru_channel_pair("unix:", NULL, ends), 0);
    CHECK_INT(naru_send(ends[0], "x", 1, NARU_S(60)), 0);
    CHECK_INT(naru_recv(ends[1], &byte, 1, NARU_S(60)), 1);
    naru_channel_close(ends[0]);
    naru_channel_close(ends[1]);
}

/* Memory for fork() to copy the page tables of: it makes the moment long in which the child has the
 * descriptors already and the variables not yet, and other threads run. */
static void *load_ballast(void)
{
    char *ballast = mmap(NULL, BALLAST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(ballast != MAP_FAILED);
    (void)madvise(ballast, BALLAST, MADV_NOHUGEPAGE); /* EINVAL: no kernel of huge pages, as wanted */
    for (size_t i = 0; i < BALLAST; i += 4096)
        ballast[i] = 1;
    return ballast;
}

/* The rounds that the slowest worker has done. */
static int rounds_of(const struct worker *workers, size_t count)
{
    int least = workers[0].rounds;

    for (size_t i = 1; i < count; i++)
        if (workers[i].rounds < least)
            least = workers[i].rounds;
    return least;
}

static void fork_and_check(const bool *known)
{
    int pid = test_fork();

    if (pid == 0) {
        check_descriptors(known);
        use_naru();
        test_child_end();
    }
    test_join(pid);
}

static void fork_beside(struct worker *workers, size_t count)
{
    pthread_t threads[WORKERS_MAX];
    void *ballast = load_ballast();
    bool known[DESCRIPTORS];
    int seen;

    for (int fd = 0; fd < DESCRIPTORS; fd++)
        known[fd] = fcntl(fd, F_GETFD) >= 0;
    for (size_t i = 0; i < count; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, run_worker, &workers[i]), 0);
    WAIT_UNTIL(rounds_of(workers, count) > 0);
    for (int i = 0; i < FORKS; i++) {
        seen = rounds_of(workers, count);
        fork_and_check(known);
        if (i % 10 == 0)
            WAIT_UNTIL(rounds_of(workers, count) > seen); /* forks do not starve them */
    }
    stop = true;
    for (size_t i = 0; i < count; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    (void)munmap(ballast, BALLAST);
}

TEST(a_child_has_nothing_of_what_other_threads_open_and_close)
{
    const char *directory = test_directory();
    struct worker workers[] = {
        {open_endpoints,
         {test_format("unix:%s/s", directory), test_format("unix:%s/d?type=dgram", directory)},
         0},
        {open_endpoints,
         {test_format("fifo:%s/f?unlink=yes", directory), test_format("file:%s/l?unlink=yes", directory)},
         0},
        {open_endpoints, {"tcp://127.0.0.1:0", "udp://127.0.0.1:0"}, 0},
        {open_endpoints,
         {test_format("shm://%s/m", directory), test_format("shm://%s/n?ring=16k", directory)},
         0},
        {meet_and_part, {test_format("shm://%s/w?ring=16k&service=manual", directory), NULL}, 0},
        {run_commands, {NULL, NULL}, 0},
        {watch_and_loop, {directory, test_format("fifo:%s/none", directory)}, 0},
    };

    fork_beside(workers, sizeof workers / sizeof *workers);
}

/* Such a path is longer than an address: it is reached by way of its directory, which is opened for that. */
TEST(a_child_has_no_directory_of_the_long_paths_of_other_threads)
{
    const char *directory = test_format("%s/%0100d", test_directory(), 0);
    struct worker workers[] = {
        {knock_and_listen, {test_format("unix:%s/none", directory), test_format("unix:%s/s", directory)}, 0},
        {knock_and_listen,
         {test_format("shm://%s/none", directory), test_format("shm://%s/m", directory)},
         0},
    };

    CHECK_INT(mkdir(directory, 0700), 0);
    fork_beside(workers, sizeof workers / sizeof *workers);
}
