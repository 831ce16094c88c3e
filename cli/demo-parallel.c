/* SPDX-License-Identifier: MIT */
/*
 * Parallel work. The parent cuts the work into jobs, hands each worker process one, and the next as soon as
 * its result is back, so that nobody waits for the slowest. Each worker is at the other end of a channel of
 * its own; an event loop in the parent listens to them all. The work: how many primes are there below LIMIT?
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/demo.h"
#include "cli/now.h"
#include "naru/naru.h"

enum {
    LIMIT = 2000000,
    PRIMES_BELOW_LIMIT = 148933,
    JOB_SIZE = 20000,
    JOBS = LIMIT / JOB_SIZE,
    WORKERS_MAX = 64
};

struct job {
    uint32_t from, to;
};

struct result {
    pid_t pid; /* who worked: the process itself says so */
    uint32_t primes;
    int64_t cpu_ns; /* of the worker so far */
};

static bool is_prime(uint32_t n)
{
    if (n < 4 || n % 2 == 0)
        return n == 2 || n == 3;
    for (uint32_t divisor = 3; divisor * divisor <= n; divisor += 2)
        if (n % divisor == 0)
            return false;
    return true;
}

static int64_t cpu_time(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* cannot fail: the clock exists */
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* A worker: takes jobs until the parent closes its end. */
static int work(void *argument)
{
    struct naru_channel **ends = argument, *parent = ends[1];
    struct job job;
    ssize_t r;

    naru_channel_close(ends[0]);
    while ((r = naru_recv(parent, &job, sizeof job, NARU_FOREVER)) == sizeof job) {
        struct result result = {.pid = getpid()};

        for (uint32_t n = job.from; n < job.to; n++)
            result.primes += is_prime(n);
        result.cpu_ns = cpu_time();
        r = naru_send(parent, &result, sizeof result, NARU_FOREVER);
        if (r < 0)
            break;
    }
    naru_channel_close(parent);
    return r == -EPIPE ? 0 : (int)r;
}

struct team;

struct worker {
    struct team *team;
    struct naru_channel *channel;
    pid_t pid;
    uint32_t results;  /* that came from this process */
    uint32_t mistaken; /* that came from another one */
    int64_t cpu_ns;
};

struct team {
    struct worker workers[WORKERS_MAX];
    int count;
    uint32_t next, results; /* jobs handed out, and back */
    uint32_t primes;
};

static int hand_out(struct worker *worker)
{
    struct team *team = worker->team;
    struct job job = {team->next * JOB_SIZE, (team->next + 1) * JOB_SIZE};

    if (team->next == JOBS)
        return 0;
    team->next++;
    return naru_send(worker->channel, &job, sizeof job, DEMO_PATIENCE);
}

/* The loop calls this when a worker has said something. */
static int take_result(struct naru_source *source, uint32_t events, void *data)
{
    struct worker *worker = data;
    struct team *team = worker->team;
    struct result result;
    ssize_t r = naru_recv(worker->channel, &result, sizeof result, NARU_NOWAIT);

    (void)events;
    if (r < 0)
        return r == -EAGAIN ? 0 : (int)r;
    worker->results += result.pid == worker->pid;
    worker->mistaken += result.pid != worker->pid;
    worker->cpu_ns = result.cpu_ns;
    team->primes += result.primes;
    if (++team->results == JOBS)
        naru_loop_stop(naru_source_loop(source));
    return hand_out(worker);
}

static int start_worker(struct worker *worker)
{
    struct naru_channel *ends[2];
    int r = naru_channel_pair("unix:?type=seqpacket", NULL, ends);

    if (r < 0)
        return r;
    worker->pid = demo_start(work, ends);
    naru_channel_close(ends[1]);
    worker->channel = ends[0];
    return worker->pid < 0 ? worker->pid : 0;
}

/* All the work, by so many workers. The ns it took, or -errno. */
static int64_t run_team(struct team *team, struct naru_loop *loop)
{
    int64_t start;
    int r = 0;

    for (int i = 0; i < team->count && r == 0; i++) {
        struct worker *worker = &team->workers[i];

        worker->team = team;
        r = start_worker(worker);
        if (r == 0)
            r = naru_loop_add_channel(loop, worker->channel, take_result, worker, NULL);
    }
    start = now();
    for (int i = 0; i < team->count && r == 0; i++)
        r = hand_out(&team->workers[i]);
    if (r == 0)
        r = naru_loop_run(loop);
    return r < 0 ? r : now() - start;
}

/* Ends a worker, whose part in the work goes into the figures. Whether it had one, alone, and ended well. */
static bool conclude_worker(struct demo *d, struct worker *worker)
{
    const struct team *team = worker->team;
    int number = (int)(worker - team->workers) + 1;
    char key[48];

    naru_channel_close(worker->channel); /* which ends the worker */
    (void)snprintf(key, sizeof key, "workers_%d_pid_%d", team->count, number);
    demo_number(d, key, worker->pid);
    (void)snprintf(key, sizeof key, "workers_%d_jobs_%d", team->count, number);
    demo_number(d, key, worker->results);
    return worker->pid > 0 && demo_end(worker->pid) == 0 && worker->results > 0 && worker->mistaken == 0;
}

static void show_time(struct demo *d, int count, int64_t time, int64_t alone, int64_t cpu)
{
    char key[48];

    demo_heading(d, "%2d worker%s %8.1f ms, %.2f times as fast, %.2f CPUs busy", count,
                 count == 1 ? " " : "s", (double)time / 1e6, (double)alone / (double)time,
                 (double)cpu / (double)time);
    (void)snprintf(key, sizeof key, "workers_%d_ms", count);
    demo_number(d, key, (double)time / 1e6);
    (void)snprintf(key, sizeof key, "workers_%d_speedup", count);
    demo_number(d, key, (double)alone / (double)time);
}

static int show_team(struct demo *d, int count, int64_t alone, int64_t *ret_time)
{
    struct team team = {.count = count};
    struct naru_loop *loop;
    int64_t cpu = 0, time;
    bool all_well = true;
    int r = naru_loop_new(&loop);

    if (r < 0)
        return r;
    time = run_team(&team, loop);
    naru_loop_free(loop);
    for (int i = 0; i < count; i++) {
        team.workers[i].team = &team;
        all_well &= conclude_worker(d, &team.workers[i]);
        cpu += team.workers[i].cpu_ns;
    }
    if (time < 0)
        return (int)time;
    show_time(d, count, time, alone ? alone : time, cpu);
    demo_check(d, team.results == JOBS && team.primes == PRIMES_BELOW_LIMIT,
               "%" PRIu32 " of %d results came back: %" PRIu32 " primes, which is right", team.results, JOBS,
               team.primes);
    demo_check(d, all_well,
               "every worker, a process of its own, had a share, and ended when its channel was closed");
    *ret_time = time;
    return 0;
}

static int cpus(void)
{
    cpu_set_t allowed;

    return sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
}

static int run(struct demo *d)
{
    int many = cpus() > 4 ? cpus() : 4, r;
    int64_t alone = 0, time;

    if (many > WORKERS_MAX)
        many = WORKERS_MAX;
    demo_say(d,
             "How many primes are there below %d? %d jobs, handed out to worker processes\n"
             "over unix sockets. This process may use %d CPU%s.",
             LIMIT, JOBS, cpus(), cpus() == 1 ? "" : "s");
    demo_number(d, "cpus", cpus());
    r = show_team(d, 1, 0, &alone);
    if (r == 0)
        r = show_team(d, 2, alone, &time);
    if (r == 0)
        r = show_team(d, many, alone, &time);
    demo_say(d, "\nMore workers than CPUs gain nothing: they take turns. Fewer CPUs busy than there\n"
                "are workers and CPUs means that other programs were using them meanwhile.");
    return r;
}

const struct demo_kind demo_parallel = {
    .name = "parallel",
    .title = "Parallel: the same work by 1, 2 and more processes",
    .source = "cli/demo-parallel.c",
    .run = run,
};
