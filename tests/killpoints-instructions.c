/* SPDX-License-Identifier: MIT */
/*
 * Killed before any single instruction: see killpoints.h.
 *
 * A victim is stepped once through the scenario, and where it stood each time is listed. It is never stepped
 * again: a step costs more here than all else that happens between two system calls. Each later run goes at
 * full speed from system call to system call, as far as the one that its point lies behind, and from there
 * from trap to trap (tracee_run_to()): to the point itself if that instruction is not executed before;
 * otherwise, in a loop, by way of others. An instruction that repeats itself (rep movs) counts once here;
 * kill_sweep() kills between its repetitions.
 *
 * Between two system calls nothing decides where a victim goes but its memory, which is the same each time,
 * and the clock. Reading that is the kernel's code (vdso(7)), which begins anew when the clock ticks
 * meanwhile, as it does when stepped, so its instructions are no points. Computing with the time may go one
 * way or the other; a point that a run does not come to for that reason is tried again, and more than a few
 * that none comes to are a failure.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "killpoints-run.h"
#include "killpoints.h"
#include "runner.h"

enum {
    INSTRUCTIONS = 1 << 20,
    HOPS = 1 << 12,
    WORKERS = 8,
    ATTEMPTS = 20,                 /* on a busy machine some in a row may stray */
    LISTINGS = STRIDE > 1 ? 1 : 9, /* of tens of thousands of instructions under a sanitizer */
    FEW = 3,
    MANY = 500 /* one in so many */
};

/* What a victim executes: up to its first system call, between that and the second, and so on. */
struct listing {
    uint64_t *ip;      /* of each instruction */
    uint32_t *from;    /* for each: the first one that a trap at it is reached from */
    uint32_t *section; /* for each: how many system calls (events) come before it */
    size_t count;
    uint64_t clock, clock_end; /* where the kernel's code lies */
};

/* Several work side by side, each with victims of its own, and share the points out. */
struct share {
    size_t first, step; /* its points */
    size_t count;       /* of all there are; the worker's to say, as is the verdict */
    size_t strayed;     /* of its points, those that no attempt came to */
    struct kill_verdict verdict;
};

/* --- listing --- */

/* In this process, and so in those it forks. */
static void find_clock(struct listing *l)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];

    CHECK(maps);
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "[vdso]"))
            CHECK_INT(sscanf(line, "%" SCNx64 "-%" SCNx64, &l->clock, &l->clock_end), 2);
    fclose(maps);
}

static void list_instruction(struct listing *l, uint64_t ip, size_t section)
{
    if (ip >= l->clock && ip < l->clock_end)
        return;
    if (l->count > 0 && l->ip[l->count - 1] == ip && l->section[l->count - 1] == section)
        return;
    CHECK(l->count < INSTRUCTIONS);
    l->ip[l->count] = ip;
    l->section[l->count++] = (uint32_t)section;
}

/* A victim that is stepped, from one system call to the next, through all of them. */
static bool step_through(struct sweep *s, struct listing *l)
{
    struct event event;
    bool goes_on = true;

    l->count = 0;
    sweep_start(s);
    for (size_t i = 0; goes_on; i++) {
        do
            list_instruction(l, tracee_place(&s->tracee), i);
        while (tracee_step(&s->tracee));
        tracee_next(&s->tracee, &event);
        CHECK(event.kind == EVENT_CALL && sweep_agrees(s, i, &event));
        goes_on = sweep_pass_call(s, i, NULL);
    }
    return sweep_finish(s, "never");
}

/* From where a trap at an instruction is run into at that instruction, and not at an earlier execution of it:
 * from behind the last of those, in the same section. */
static void find_ways(struct listing *l)
{
    for (size_t i = 0; i < l->count; i++) {
        size_t before = i;

        while (before > 0 && l->section[before - 1] == l->section[i] && l->ip[before - 1] != l->ip[i])
            before--;
        l->from[i] = (uint32_t)before;
    }
}

/* --- a run --- */

/* The traps that lead to an instruction from its section's beginning, the last one first. */
static size_t plan(const struct listing *l, size_t instruction, uint32_t hops[HOPS])
{
    size_t count = 0, at = instruction;

    while (at > 0 && l->section[at - 1] == l->section[instruction]) {
        size_t best = l->from[at];

        CHECK(count < HOPS);
        hops[count++] = (uint32_t)at;
        if (best == 0 || l->section[best - 1] != l->section[instruction])
            break;
        for (size_t i = best; i < at; i++)
            if (l->from[i] < l->from[best])
                best = i;
        at = best;
    }
    return count;
}

/* Brings the victim there. false: it went another way than when it was listed; it stands behind the point. */
static bool go_before(struct sweep *s, const struct listing *l, size_t instruction)
{
    static uint32_t hops[HOPS];
    size_t count = plan(l, instruction, hops), section = l->section[instruction];

    if (section > 0)
        sweep_walk(s, &(struct point){section - 1, AFTER, 0});
    while (count > 0 && !s->run->complained)
        if (!tracee_run_to(&s->tracee, l->ip[hops[--count]]))
            return false;
    return true;
}

/* *ret_strayed: it was killed elsewhere, and is to be killed again. */
static bool kill_before(struct sweep *s, const struct listing *l, size_t instruction, bool *ret_strayed)
{
    uint64_t arrived = s->arrived;
    char where[96];
    bool well;

    sweep_start(s);
    *ret_strayed = !go_before(s, l, instruction);
    snprintf(where, sizeof where, "%s instruction %zu (at %#llx), behind %u system calls",
             *ret_strayed ? "behind" : "before", instruction, (unsigned long long)l->ip[instruction],
             l->section[instruction]);
    well = sweep_finish(s, where);
    if (*ret_strayed) /* what arrived is no measure of the next point's */
        s->arrived = arrived;
    return well;
}

static bool kill_at(struct sweep *s, const struct listing *l, size_t instruction, struct share *share)
{
    bool strayed = true;

    for (int i = 0; strayed && i < ATTEMPTS; i++)
        if (!kill_before(s, l, instruction, &strayed))
            return false;
    *(strayed ? &share->strayed : &share->verdict.points) += 1;
    return true;
}

/* --- the sweep --- */

/* FNV-1a. */
static uint64_t digest_of(const struct listing *l)
{
    uint64_t digest = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < l->count; i++)
        digest = (digest ^ l->ip[i]) * UINT64_C(0x100000001b3);
    return digest;
}

/* Until two listings in a row are alike, if there is time for more than one: what happens only the first time
 * (kill_sweep()) or seldom is not listed then. */
static bool list(struct sweep *s, struct listing *l)
{
    uint64_t before = 1, digest = 0;

    find_clock(l);
    l->ip = calloc(INSTRUCTIONS, sizeof *l->ip);
    l->from = calloc(INSTRUCTIONS, sizeof *l->from);
    l->section = calloc(INSTRUCTIONS, sizeof *l->section);
    CHECK(l->ip && l->from && l->section);
    s->recording = true;
    for (int i = 0; before != digest && i < LISTINGS; i++) {
        before = digest;
        if (!step_through(s, l))
            return false;
        digest = digest_of(l);
    }
    s->recording = false;
    find_ways(l);
    return true;
}

static void forget(struct listing *l)
{
    free(l->ip);
    free(l->from);
    free(l->section);
}

static void work(const struct kill_scenario *scenario, size_t points, struct share *share)
{
    struct listing listing = {0};
    struct sweep s;

    sweep_open(&s, scenario, false, &share->verdict);
    if (list(&s, &listing)) {
        share->count = listing.count;
        share->verdict.calls = s.count;
        share->step *= points < listing.count ? listing.count / points : 1;
        s.stride = share->step;
        for (size_t i = share->first; i < listing.count; i += share->step)
            if (!kill_at(&s, &listing, i, share))
                break;
    }
    forget(&listing);
    sweep_close(&s);
}

static size_t workers_for(size_t points)
{
    cpu_set_t set;

    CHECK_INT(sched_getaffinity(0, sizeof set, &set), 0);
    if (points != SIZE_MAX || CPU_COUNT(&set) == 1)
        return 1;
    return CPU_COUNT(&set) < WORKERS ? (size_t)CPU_COUNT(&set) : WORKERS;
}

void kill_sweep_instructions(const struct kill_scenario *scenario, size_t points,
                             struct kill_verdict *ret_verdict)
{
    struct share *share = test_shared(WORKERS * sizeof *share);
    size_t workers = workers_for(points);
    size_t strayed = 0;
    int pid[WORKERS];

    if (tracee_unsupported())
        test_skip("%s", tracee_unsupported());
    *ret_verdict = (struct kill_verdict){0};
    for (size_t i = 0; i < workers; i++) {
        share[i] = (struct share){.first = i, .step = workers};
        pid[i] = test_fork();
        if (pid[i] == 0) {
            work(scenario, points, &share[i]);
            _exit(0);
        }
    }
    for (size_t i = 0; i < workers; i++) {
        test_join(pid[i]);
        ret_verdict->points += share[i].verdict.points;
        strayed += share[i].strayed;
        if (share[i].verdict.complaint[0])
            memcpy(ret_verdict->complaint, share[i].verdict.complaint, sizeof ret_verdict->complaint);
    }
    ret_verdict->calls = share[0].verdict.calls;
    test_note("%zu kill points among %zu instructions and %zu system calls; %zu were never come to",
              ret_verdict->points, share[0].count, ret_verdict->calls, strayed);
    if (ret_verdict->complaint[0] == '\0' && strayed > FEW + ret_verdict->points / MANY)
        snprintf(ret_verdict->complaint, sizeof ret_verdict->complaint, "%s: %zu points were not come to",
                 scenario->name, strayed);
    CHECK_INT(munmap(share, WORKERS * sizeof *share), 0);
}
