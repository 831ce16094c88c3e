/* SPDX-License-Identifier: MIT */
/* One run up to a kill point: see killpoints-run.h. */
#include "killpoints-run.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "runner.h"
#include "shm/wakeup.h"

enum {
    EVENTS = 1 << 16,
    ACTS = 64,      /* of the survivor, to wake a victim that sleeps */
    DEADLINE_S = 60 /* after which a process hangs; it would take milliseconds */
};

static bool is_at(const struct point *point, size_t event, enum phase phase)
{
    return point && point->event == event && point->phase == phase;
}

/* --- what is wrong --- */

const char *sweep_describe(const struct event *event, char text[DESCRIPTION])
{
    snprintf(text, DESCRIPTION, "%s %llu at %#llx",
             event->kind == EVENT_STORE ? "the store to byte" : "system call",
             (unsigned long long)event->where, (unsigned long long)event->ip);
    return text;
}

/* --- processes --- */

static void be_victim(struct kill_run *run, struct naru_channel *ch[2])
{
    (void)close(run->gate[0]);
    (void)close(run->gate[1]);
    ch[1] = naru_channel_close(ch[1]);
    tracee_begin();
    run->scenario->victim(run, ch[0]);
    _exit(0);
}

static void be_survivor(struct kill_run *run, struct naru_channel *ch[2])
{
    (void)close(run->gate[1]);
    ch[0] = naru_channel_close(ch[0]);
    run->scenario->survivor(run, ch[1]);
    kill_check_leaks(run);
    _exit(0);
}

/* Tester and victim take turns: on one CPU, none of the turns is a wait for another CPU to wake up. The
 * channel has been made before, as it looks at how many there are. */
static void share_cpu(struct sweep *s, int victim)
{
    cpu_set_t set;
    int cpu = sched_getcpu();

    CPU_ZERO(&set);
    CPU_SET(cpu < 0 ? 0 : (unsigned)cpu, &set);
    if (sched_setaffinity(victim, sizeof set, &set) < 0 || sched_setaffinity(0, sizeof set, &set) < 0)
        kill_complain(s->run, "cannot choose CPU %d: %s", cpu, strerror(errno));
}

/* Waits until the survivor sleeps (at the gate, or in its channel), or has ended. */
static void let_survivor_settle(struct sweep *s)
{
    int64_t deadline = clock_now() + NARU_S(DEADLINE_S);

    while (!process_sleeps(s->survivor) && !process_has_ended(s->survivor)) {
        if (clock_now() > deadline) {
            kill_complain(s->run, "the survivor comes to no rest");
            return;
        }
        (void)sched_yield();
    }
}

void sweep_start(struct sweep *s)
{
    struct kill_run *run = s->run;
    struct naru_channel *ch[2] = {NULL, NULL};
    int victim;

    memset(run, 0, sizeof *run);
    run->scenario = s->scenario;
    run->descriptors = kill_count_descriptors();
    CHECK_INT(pipe2(run->gate, O_CLOEXEC), 0);
    CHECK_INT(sched_setaffinity(0, sizeof s->cpus, &s->cpus), 0);
    if (s->scenario->url)
        CHECK_INT(naru_channel_pair(s->scenario->url, NULL, ch), 0);
    victim = test_fork();
    if (victim == 0)
        be_victim(run, ch);
    s->survivor = test_fork();
    if (s->survivor == 0)
        be_survivor(run, ch);
    naru_channel_close(ch[0]);
    naru_channel_close(ch[1]);
    (void)close(run->gate[0]);
    s->ended = s->strayed = false;
    share_cpu(s, victim);
    tracee_take(&s->tracee, victim, s->stores);
    let_survivor_settle(s);
}

/* A process that is not traced ends by itself. */
static void await(struct sweep *s, const char *who, int pid)
{
    int64_t deadline = clock_now() + NARU_S(DEADLINE_S);
    int status, r;

    while ((r = waitpid(pid, &status, WNOHANG)) == 0 && clock_now() < deadline)
        (void)sched_yield();
    if (r == 0) {
        kill_complain(s->run, "%s hangs", who);
        CHECK_INT(kill(pid, SIGKILL), 0);
        r = waitpid(pid, &status, 0);
    }
    CHECK_INT(r, pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        kill_complain(s->run, "%s ended with status %#x", who, (unsigned)status);
}

/* --- one run --- */

/* The victim sleeps, all of its threads: the survivor does what wakes it. */
static enum call_state wake_victim(struct sweep *s)
{
    for (int acts = 0;; acts++) {
        enum call_state state;

        let_survivor_settle(s);
        state = tracee_call_state(&s->tracee);
        if (state != CALL_SLEEPS && state != CALL_RUNS)
            return state;
        if (state == CALL_RUNS) {
            (void)sched_yield();
            continue;
        }
        if (tracee_switch(&s->tracee))
            return CALL_DONE;
        if (s->scenario->eager || acts == ACTS || process_has_ended(s->survivor)) {
            kill_complain(s->run, "the victim sleeps, and nobody wakes it");
            return CALL_SLEEPS;
        }
        CHECK_INT(write(s->run->gate[1], "", 1), 1);
        (void)sched_yield();
    }
}

/* Makes the victim's system call. false: it is to be killed in it, or cannot go on. */
bool sweep_pass_call(struct sweep *s, size_t index, const struct point *point)
{
    struct listed *listed = &s->events[index];
    enum call_state state;

    tracee_call(&s->tracee);
    while ((state = tracee_call_state(&s->tracee)) == CALL_RUNS)
        (void)sched_yield();
    if (s->recording)
        listed->sleeps = state == CALL_SLEEPS;
    else if (listed->sleeps && state != CALL_SLEEPS) {
        s->strayed = true;
        kill_complain(s->run, "another run than the one listed: event %zu did not sleep", index);
        return false;
    }
    if (state == CALL_SLEEPS && is_at(point, index, DURING))
        return false;
    if (state == CALL_SLEEPS)
        state = tracee_switch(&s->tracee) ? CALL_DONE : wake_victim(s);
    s->ended = state == CALL_ENDED;
    let_survivor_settle(s);
    return state == CALL_DONE;
}

/* Steps through the victim's store. false: it is to be killed in the middle. */
static bool pass_store(struct sweep *s, size_t index, const struct point *point)
{
    bool here = is_at(point, index, DURING);
    uint64_t repetitions = 1;

    while (!tracee_store(&s->tracee)) {
        if (here && repetitions == point->repetition)
            return false;
        repetitions++;
    }
    if (s->recording)
        s->events[index].repetitions = repetitions;
    return true;
}

/* Lists the event, or compares it with the one listed. */
bool sweep_agrees(struct sweep *s, size_t index, const struct event *event)
{
    const struct event *listed = &s->events[index].event;
    char here[DESCRIPTION], there[DESCRIPTION] = "the end";

    if (s->recording) {
        CHECK(index < EVENTS);
        s->events[index] = (struct listed){.event = *event};
        s->count = index + 1;
        return true;
    }
    if (index < s->count && listed->kind == event->kind && listed->ip == event->ip &&
        listed->where == event->where)
        return true;
    if (index < s->count)
        (void)sweep_describe(listed, there);
    s->strayed = true;
    kill_complain(s->run, "another run than the one listed: event %zu is %s, not %s", index,
                  sweep_describe(event, here), there);
    return false;
}

/* Runs the victim up to the point, or to its end. */
void sweep_walk(struct sweep *s, const struct point *point)
{
    struct event event;

    for (size_t i = 0;; i++) {
        bool goes_on;

        tracee_next(&s->tracee, &event);
        if (event.kind == EVENT_END) {
            s->ended = true;
            kill_complain(s->run, "the victim died of itself: status %#x", s->tracee.status);
            return;
        }
        if (!sweep_agrees(s, i, &event) || is_at(point, i, BEFORE))
            return;
        goes_on = event.kind == EVENT_CALL ? sweep_pass_call(s, i, point) : pass_store(s, i, point);
        if (!goes_on || is_at(point, i, AFTER))
            return;
    }
}

/* After the victim's death: whether what arrived is what it had sent, and no less than in the run before. */
static void judge(struct sweep *s)
{
    struct kill_run *run = s->run;
    uint64_t begun = run->begun, done = run->done, arrived = run->arrived;
    uint64_t batch = (uint64_t)s->scenario->batch;

    if (!s->scenario->sends) {
        if (arrived < done)
            kill_complain(run, "the victim has received %d messages, the survivor has sent %d", (int)done,
                          (int)arrived);
        return;
    }
    if (arrived < done || arrived > begun)
        kill_complain(run, "%d messages arrived; the victim had sent %d and begun %d", (int)arrived,
                      (int)done, (int)begun);
    if (batch && arrived % batch != 0)
        kill_complain(run, "%d messages arrived, which is a part of a batch of %d", (int)arrived, (int)batch);
    if (arrived < s->arrived || arrived > s->arrived + s->stride * (batch ? batch : 1))
        kill_complain(run, "%d messages arrived, and %d when the victim was killed just before", (int)arrived,
                      (int)s->arrived);
    s->arrived = arrived;
}

/* The run whose victim has got to its point: kills it, and judges. false: there was a complaint. */
bool sweep_finish(struct sweep *s, const char *where)
{
    struct kill_run *run = s->run;
    int next;

    if (!s->ended)
        tracee_kill(&s->tracee);
    (void)close(run->gate[1]);
    if (s->scenario->next) {
        next = test_fork();
        if (next == 0) {
            s->scenario->next(run);
            _exit(0);
        }
        await(s, "who comes next", next);
    }
    await(s, "the survivor", s->survivor);
    if (!run->complained && !s->recording && !s->whole)
        judge(s);
    if (run->complained)
        snprintf(s->verdict->complaint, sizeof s->verdict->complaint, "%s: killed %s: %s", s->scenario->name,
                 where, run->complaint);
    return !run->complained;
}

/* --- a sweep --- */

void sweep_open(struct sweep *s, const struct kill_scenario *scenario, bool stores,
                struct kill_verdict *verdict)
{
    const char *missing = tracee_unsupported();

    if (missing)
        test_skip("%s", missing);
    *verdict = (struct kill_verdict){0};
    *s = (struct sweep){.scenario = scenario,
                        .stores = stores,
                        .stride = 1,
                        .verdict = verdict,
                        .run = test_shared(sizeof *s->run)};
    waker_always_asks = true; /* the victim would ask or not as the clock stands */
    s->events = calloc(EVENTS, sizeof *s->events);
    CHECK(s->events);
    CHECK_INT(sched_getaffinity(0, sizeof s->cpus, &s->cpus), 0);
}

void sweep_close(struct sweep *s)
{
    CHECK_INT(munmap(s->run, sizeof *s->run), 0);
    free(s->events);
}
