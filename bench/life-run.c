/* SPDX-License-Identifier: MIT */
/*
 * The bodies. The far side listens and receives, the near side connects and sends. A run's processes are
 * fresh from fork(2), so page faults and cold caches are part of what is measured, as in a program that
 * connects once.
 */
#include "bench/life-run.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/engine.h"
#include "bench/life.h"
#include "naru/naru.h"

enum { IDLE_MS = 500 };

static int send_one(struct life_run *run)
{
    int r = run->way->send(&run->end, true);

    return r == LIFE_GONE ? duo_fail(-EPIPE, "the other side has gone") : r;
}

/* Both ends of a connection over which a message has gone. The far side listens already. */
static int establish(struct life_run *run, enum duo_side side)
{
    int r = side == DUO_FAR ? run->way->accept(&run->end) : run->way->connect(&run->end);

    if (r < 0)
        return r;
    return side == DUO_FAR ? run->way->recv(&run->end) : send_one(run);
}

/* From before the connect call until the message has been received, by a listener who waits in accept. */
int life_first_message(void *context, enum duo_side side)
{
    struct life_run *run = context;
    int r;

    meeting_attend(&run->meeting, side);
    r = side == DUO_FAR ? run->way->listen(&run->end) : 0;
    if (r == 0)
        r = meeting_both(&run->meeting, side);
    if (r < 0)
        return r;
    if (side == DUO_NEAR)
        run->shared->began = engine_now();
    r = establish(run, side);
    if (side == DUO_FAR)
        run->shared->ended = engine_now();
    return r < 0 ? r : meeting_both(&run->meeting, side); /* neither ends before the message is there */
}

/* --- killed --- */

/* Fills what there is room for, says so, and is in its send call when the receiver dies. */
static int sender(struct life_run *run)
{
    int r = meeting_await(&run->meeting, DUO_NEAR);

    run->shared->sender = getpid();
    if (r == 0)
        r = establish(run, DUO_NEAR);
    if (r == 0)
        r = meeting_await(&run->meeting, DUO_NEAR); /* the first message has left again */
    while (r == LIFE_SENT)
        r = run->way->send(&run->end, false);
    if (r == LIFE_GONE)
        return duo_fail(-EPIPE, "the receiver has gone before it was killed");
    if (r < 0)
        return r;
    r = meeting_tell(&run->meeting, DUO_NEAR);
    while (r == LIFE_SENT)
        r = run->way->send(&run->end, true);
    run->shared->ended = engine_now();
    return r == LIFE_GONE ? 0 : r;
}

/* Receives one message and then nothing more, until it is killed. Tells on that descriptor when it listens,
 * and when it has received. */
static int receiver(struct life_run *run, pid_t killer, int told)
{
    int r;

    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return duo_fail_errno("prctl");
    if (getppid() != killer) /* it died before the line above */
        return duo_fail(-ECANCELED, "the killer is gone");
    r = run->way->listen(&run->end);
    if (r == 0 && write(told, "", 1) != 1)
        r = duo_fail_errno("write");
    if (r == 0)
        r = establish(run, DUO_FAR);
    if (r == 0 && write(told, "", 1) != 1)
        r = duo_fail_errno("write");
    while (r == 0)
        (void)pause();
    return r;
}

/* The state letter of a process, proc(5); its name may hold anything, so it stands behind the last ')'. */
static int state_of(pid_t pid)
{
    char path[32], line[512];
    const char *behind = NULL;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (!file)
        return duo_fail_errno(path);
    if (fgets(line, sizeof line, file))
        behind = strrchr(line, ')');
    (void)fclose(file);
    return behind && behind[1] ? behind[2] : duo_fail(-EPROTO, "%s says no state", path);
}

/* Until it sleeps, which it does nowhere but in its send call. One that spins there cannot be told from one
 * that is about to: it comes to it in a microsecond. */
static int await_sleep(const struct life_run *run)
{
    pid_t pid = run->shared->sender;

    if (run->way == &life_ways[LIFE_NARU] && strcmp(run->end.options, LIFE_SPINS) == 0)
        return 0;
    for (;;) {
        int state = state_of(pid);

        if (state < 0 || state == 'S')
            return state < 0 ? state : 0;
        if (state == 'Z' || state == 'X')
            return duo_fail(-EPIPE, "the sender has ended");
        (void)sched_yield();
    }
}

/* The receiver has done one more thing. */
static int hear(int told)
{
    char byte;
    ssize_t n = read(told, &byte, 1);

    /* what it said of why is in our own report: it is our child */
    return n == 1 ? 0 : n == 0 ? -EPIPE : duo_fail_errno("read");
}

static int watch_and_kill(struct life_run *run, pid_t victim, int told)
{
    int r = hear(told); /* it listens */

    if (r == 0)
        r = meeting_tell(&run->meeting, DUO_FAR);
    if (r == 0)
        r = hear(told); /* it has received */
    if (r == 0)
        r = meeting_both(&run->meeting, DUO_FAR);
    if (r == 0)
        r = await_sleep(run);
    run->shared->began = engine_now();
    if (kill(victim, SIGKILL) < 0 && r == 0)
        r = duo_fail_errno("kill");
    while (waitpid(victim, NULL, 0) < 0 && errno == EINTR)
        ;
    return r;
}

/* The far side is not the receiver itself: somebody has to see it die. */
int life_killed(void *context, enum duo_side side)
{
    struct life_run *run = context;
    int told[2], r;
    pid_t killer = getpid(), victim;

    meeting_attend(&run->meeting, side);
    if (side == DUO_NEAR)
        return sender(run);
    if (pipe(told) < 0)
        return duo_fail_errno("pipe");
    victim = fork();
    if (victim < 0)
        return duo_fail_errno("fork");
    if (victim == 0) {
        (void)close(told[0]);
        meeting_close(&run->meeting); /* or the sender would not see the killer end */
        _exit(receiver(run, killer, told[1]) < 0);
    }
    (void)close(told[1]);
    r = watch_and_kill(run, victim, told[0]);
    (void)close(told[0]);
    return r;
}

/* --- idle --- */

/* Its share of anonymous memory: divided by how often each page is mapped (proc(5)). */
static int read_anonymous(int64_t *ret_bytes)
{
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    int64_t kib = -1;
    char line[256];

    if (!file)
        return duo_fail_errno("/proc/self/smaps_rollup");
    while (fgets(line, sizeof line, file) && sscanf(line, "Pss_Anon: %" SCNd64, &kib) != 1)
        ;
    (void)fclose(file);
    if (kib < 0)
        return duo_fail(-ENOTSUP, "/proc/self/smaps_rollup does not tell Pss_Anon");
    *ret_bytes = kib * 1024;
    return 0;
}

/* Bytes of a mapping that the kernel has memory for, whether this process has touched them or not. */
static int64_t count_resident(uintptr_t begin, uintptr_t end)
{
    static unsigned char pages[4096]; /* one for each */
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int64_t bytes = 0;

    while (begin < end) {
        size_t length = end - begin < sizeof pages * page ? end - begin : sizeof pages * page;

        if (mincore((void *)begin, length, pages) < 0) /* NOLINT(performance-no-int-to-ptr) */
            return duo_fail_errno("mincore");
        for (size_t i = 0; i < length / page; i++)
            bytes += pages[i] & 1 ? (int64_t)page : 0;
        begin += length;
    }
    return bytes;
}

/* Shared memory that this process made: what naru reserves is there before anybody touches it, and so in
 * nobody's share. A ring is mapped twice in a row, so of what is one file only what lies further in it than
 * all before counts. */
static int read_shared(int64_t *ret_bytes)
{
    FILE *file = fopen("/proc/self/maps", "re");
    unsigned long begin, end, offset, inode, last = 0, reached = 0;
    int64_t bytes = 0, here = 0;
    char line[PATH_MAX + 128], access[5];

    if (!file)
        return duo_fail_errno("/proc/self/maps");
    while (here >= 0 && fgets(line, sizeof line, file)) {
        if (sscanf(line, "%lx-%lx %4s %lx %*s %lu", &begin, &end, access, &offset, &inode) != 5 ||
            strcmp(access, "rw-s") != 0 || !strstr(line, "/memfd:naru"))
            continue;
        if (inode != last)
            reached = 0;
        last = inode;
        if (offset < reached)
            begin += reached - offset < end - begin ? reached - offset : end - begin;
        here = count_resident(begin, end);
        bytes += here;
        reached = offset > reached ? offset : reached;
        reached += end - begin;
    }
    (void)fclose(file);
    if (here < 0)
        return (int)here;
    *ret_bytes = bytes;
    return 0;
}

static int read_share(int64_t *ret_bytes)
{
    int64_t anonymous, shared;
    int r = read_anonymous(&anonymous);

    if (r == 0)
        r = read_shared(&shared);
    if (r == 0)
        *ret_bytes = anonymous + shared;
    return r;
}

/* Both have come here and read; neither goes on before the other has. */
static int read_together(struct life_run *run, enum duo_side side, int64_t *ret_bytes)
{
    int r = meeting_both(&run->meeting, side);

    if (r == 0)
        r = read_share(ret_bytes);
    return r < 0 ? r : meeting_both(&run->meeting, side);
}

/* One connection comes before, for what a program needs once: the listener, its keeper, the pages of the
 * library's data. The connections stay open until both have read. */
int life_memory(void *context, enum duo_side side)
{
    struct life_run *run = context;
    int64_t before, after;
    int r;

    meeting_attend(&run->meeting, side);
    r = side == DUO_FAR ? run->way->listen(&run->end) : 0;
    if (r == 0)
        r = meeting_both(&run->meeting, side);
    if (r == 0)
        r = establish(run, side);
    if (r == 0)
        r = read_together(run, side, &before);
    for (int i = 0; i < LIFE_PAIRS && r == 0; i++)
        r = establish(run, side);
    if (r == 0)
        r = read_together(run, side, &after);
    if (r == 0)
        run->shared->bytes[side] = after - before;
    return r;
}

static int64_t cpu_ns(void)
{
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage);
    return ((int64_t)usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000 +
           ((int64_t)usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

/* A message has gone; then both wait for one that does not come. */
int life_idle(void *context, enum duo_side side)
{
    struct life_run *run = context;
    char buffer[LIFE_MESSAGE];
    int64_t cpu, start;
    ssize_t n;
    int r;

    meeting_attend(&run->meeting, side);
    r = side == DUO_FAR ? run->way->listen(&run->end) : 0;
    if (r == 0)
        r = meeting_both(&run->meeting, side);
    if (r == 0)
        r = establish(run, side);
    if (r == 0)
        r = meeting_both(&run->meeting, side);
    if (r < 0)
        return r;
    cpu = cpu_ns();
    start = engine_now();
    n = naru_recv(run->end.channel, buffer, sizeof buffer, NARU_MS(IDLE_MS));
    run->shared->elapsed_ns[side] = engine_now() - start;
    run->shared->cpu_ns[side] = cpu_ns() - cpu;
    if (n != -ETIMEDOUT)
        return n < 0 ? duo_fail((int)n, "%s", naru_explain()) : duo_fail(-EPROTO, "a message nobody sent");
    return meeting_both(&run->meeting, side); /* a side that ends would wake the other */
}
