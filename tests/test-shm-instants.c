/* SPDX-License-Identifier: MIT */
/*
 * No wake-up is lost, whatever the other side does in between. A call that is about to sleep is stopped at
 * every instruction on its way there, and the other side acts just then: it goes on, and comes back. And the
 * other way round: a call that has to wake somebody is stopped at every instruction, and the other side goes
 * to sleep just then. The window in which a look would be missed is some instructions wide: a test that
 * leaves it to chance does not come upon it (tried: hundreds of thousands of messages).
 *
 * An instruction is told by how many system calls were made before it, which are run through at full speed,
 * and how many instructions after the last of them, which are stepped. Each gets a run of its own.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "naru/naru.h"
#include "runner.h"
#include "tracee.h"

/* Between the look that would be missed and what tells the other side lie some twenty instructions, so that
 * every few are enough; ./dev soak, which has the time, sets NARU_SOAK for all. A sanitizer makes code
 * several times as long. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { STRIDE = 199 };
#else
enum { STRIDE = 11 };
#endif

enum { MESSAGE = 1000, HANGS_S = 60 };

static const int64_t long_time = NARU_S(1000);
static char buffer[2 * MESSAGE];

/* --- what is stopped --- */

static void recv_for_ever(struct naru_channel *ch)
{
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_FOREVER), MESSAGE);
}

static void recv_within(struct naru_channel *ch)
{
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, long_time), MESSAGE);
}

static void borrow(struct naru_channel *ch)
{
    struct naru_view view = NARU_INIT(struct naru_view);

    CHECK_INT(naru_borrow(ch, NARU_FOREVER, &view), 0);
    naru_release(&view);
}

static void sleep_in_a_loop(struct naru_channel *ch)
{
    int want = naru_channel_want(ch);
    struct pollfd ready = {.fd = naru_channel_fd(ch),
                           .events =
                               (short)((want & NARU_IN ? POLLIN : 0) | (want & NARU_OUT ? POLLOUT : 0))};

    CHECK_INT(poll(&ready, 1, -1), 1);
}

static void recv_in_a_loop(struct naru_channel *ch)
{
    ssize_t n;

    while ((n = naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT)) == -EAGAIN)
        sleep_in_a_loop(ch);
    CHECK_INT(n, MESSAGE);
}

static void wait_for_any(struct naru_channel *ch)
{
    struct naru_wait item = NARU_INIT(struct naru_wait);

    item.channel = ch;
    CHECK_INT(naru_wait_any(&item, 1, NARU_FOREVER), 1);
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT), MESSAGE);
}

static struct naru_gather *gather;

static void prepare_gather(struct naru_channel *ch)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);

    CHECK_INT(naru_gather_new(&gather), 0);
    CHECK_INT(naru_gather_add(gather, ch, NULL), 0);
    CHECK_INT(naru_gather_recv(gather, buffer, sizeof buffer, NARU_NOWAIT, &from), -EAGAIN);
}

static void gather_from_one(struct naru_channel *ch)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);

    (void)ch;
    CHECK_INT(naru_gather_recv(gather, buffer, sizeof buffer, NARU_FOREVER, &from), MESSAGE);
}

static void send_for_ever(struct naru_channel *ch)
{
    CHECK_INT(naru_send(ch, buffer, MESSAGE, NARU_FOREVER), 0);
}

static void send_within(struct naru_channel *ch)
{
    CHECK_INT(naru_send(ch, buffer, MESSAGE, long_time), 0);
}

static void send_in_a_loop(struct naru_channel *ch)
{
    int r;

    while ((r = naru_send(ch, buffer, MESSAGE, NARU_NOWAIT)) == -EAGAIN)
        sleep_in_a_loop(ch);
    CHECK_INT(r, 0);
}

static void send_batch(struct naru_channel *ch)
{
    struct iovec piece = {buffer, MESSAGE};
    struct naru_message m = NARU_INIT(struct naru_message);

    m.iov = &piece;
    m.iov_count = 1;
    CHECK_INT(naru_send_batch(ch, &m, 1, NARU_FOREVER), 1);
}

static void lend(struct naru_channel *ch)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);

    CHECK_INT(naru_loan(ch, MESSAGE, NARU_FOREVER, &loan), 0);
    CHECK_INT(naru_commit(&loan, MESSAGE, NULL), 0);
}

static void send_first_of_all(struct naru_channel *ch)
{
    struct iovec piece = {buffer, MESSAGE};
    struct naru_message m = NARU_INIT(struct naru_message);

    m.iov = &piece;
    m.iov_count = 1;
    m.priority = 2;
    CHECK_INT(naru_send_message(ch, &m, NARU_FOREVER), 0);
}

static void flush_taken(struct naru_channel *ch)
{
    CHECK_INT(naru_flush(ch, NARU_TAKEN, NARU_FOREVER), 0);
}

static void flush_done(struct naru_channel *ch)
{
    CHECK_INT(naru_flush(ch, NARU_DONE, NARU_FOREVER), 0);
}

/* --- before it: the channel is this process's, and what is set up once is --- */

static void find_nothing(struct naru_channel *ch)
{
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT), -EAGAIN);
}

static void prepare_loop(struct naru_channel *ch)
{
    CHECK(naru_channel_fd(ch) >= 0);
    find_nothing(ch);
}

static void fill(struct naru_channel *ch)
{
    int r;

    while ((r = naru_send(ch, buffer, MESSAGE, NARU_NOWAIT)) == 0)
        ;
    CHECK_INT(r, -EAGAIN);
}

static void fill_from_a_loop(struct naru_channel *ch)
{
    CHECK(naru_channel_fd(ch) >= 0);
    fill(ch);
}

static void send_one(struct naru_channel *ch)
{
    send_for_ever(ch);
}

/* --- what the other side does --- */

static void take_all(struct naru_channel *ch)
{
    ssize_t n;

    while ((n = naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT)) == MESSAGE)
        ;
    CHECK_INT(n, -EAGAIN);
}

static void take_and_release(struct naru_channel *ch)
{
    struct naru_view view = NARU_INIT(struct naru_view);

    CHECK_INT(naru_borrow(ch, NARU_NOWAIT, &view), 0);
    naru_release(&view);
}

static void leave(struct naru_channel *ch)
{
    naru_channel_close(ch);
}

static void recv_the_end(struct naru_channel *ch)
{
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_FOREVER), -EPIPE);
}

#define RING  "shm:?ring=4k&wait=sleep"
#define POOL  "shm:?ring=4k&pool=4k&wait=sleep"
#define LANES "shm:?ring=4k&lanes=3&wait=sleep"

static const struct way {
    const char *name, *url;
    void (*prepare)(struct naru_channel *), (*call)(struct naru_channel *), (*act)(struct naru_channel *);
    bool keeps; /* act() does not close its end */
} sleepers[] = {
    {"recv", RING, find_nothing, recv_for_ever, send_one, true},
    {"recv with a limit", RING, find_nothing, recv_within, send_one, true},
    {"recv by lanes", LANES, find_nothing, recv_for_ever, send_first_of_all, true},
    {"recv of a batch", RING, find_nothing, recv_for_ever, send_batch, true},
    {"recv of a loan", RING, find_nothing, recv_for_ever, lend, true},
    {"recv of the end", RING, find_nothing, recv_the_end, leave, false},
    {"borrow", RING, find_nothing, borrow, send_one, true},
    {"an event loop", RING, prepare_loop, recv_in_a_loop, send_one, true},
    {"wait_any", RING, prepare_loop, wait_for_any, send_one, true},
    {"gather", RING, prepare_gather, gather_from_one, send_one, true},
    {"send", RING, fill, send_for_ever, take_all, true},
    {"send with a limit", RING, fill, send_within, take_all, true},
    {"send by an event loop", RING, fill_from_a_loop, send_in_a_loop, take_all, true},
    {"send of a loan", RING, fill, lend, take_all, true},
    {"flush", RING, send_one, flush_taken, take_all, true},
    {"flush of a view", RING, send_one, flush_done, take_and_release, true},
};

static const char *each_sleeper(size_t index)
{
    return index < sizeof sleepers / sizeof *sleepers ? sleepers[index].name : NULL;
}

/* --- stopping --- */

struct instant {
    unsigned calls, steps; /* system calls, and instructions after the last of them */
};

struct stopped {
    struct tracee tracee; /* the thread that is stopped */
    bool asleep;          /* it sleeps in the last of the calls */
};

static void wait_for_stop(int pid)
{
    int status;

    CHECK_INT(waitpid(pid, &status, 0), pid);
    if (!WIFSTOPPED(status))
        test_fail(__FILE__, __LINE__, "what was to be stopped ended with %#x", (unsigned)status);
}

static void let_go(int pid, enum __ptrace_request how)
{
    CHECK_INT(ptrace(how, pid, NULL, NULL), 0);
}

/* Runs through one system call. false: it sleeps there. */
static bool pass_call(int pid)
{
    int status, r;

    let_go(pid, PTRACE_SYSCALL);
    wait_for_stop(pid);
    let_go(pid, PTRACE_SYSCALL);
    do {
        bool sleeps =
            thread_sleeps(pid, pid); /* or did when its call ended: only what is said after counts */

        r = waitpid(pid, &status, WNOHANG);
        if (r == 0 && sleeps)
            return false;
    } while (r == 0);
    CHECK_INT(r, pid);
    CHECK(WIFSTOPPED(status));
    return true;
}

/* From its first instruction to that instant. The next one, or where it is asleep. */
static struct instant run_to(struct stopped *s, int pid, struct instant at)
{
    struct processor_state state;

    tracee_take(&s->tracee, pid, false);
    s->asleep = false;
    for (unsigned i = 0; i < at.calls && !s->asleep; i++)
        s->asleep = !pass_call(pid);
    for (unsigned i = 0; !s->asleep; i++) {
        processor_look(pid, &state);
        if (processor_is_call(pid, state.ip))
            return (struct instant){at.calls + 1, 0};
        if (i == at.steps)
            return (struct instant){at.calls, at.steps + (getenv("NARU_SOAK") ? 1 : STRIDE)};
        let_go(pid, PTRACE_SINGLESTEP);
        wait_for_stop(pid);
    }
    return at;
}

/* Lets it go on by itself. */
static void set_free(const struct stopped *s)
{
    int pid = s->tracee.pid;

    if (s->asleep) /* it is on its way to the end of its call, or will be: ptrace(2) has it stop there */
        wait_for_stop(pid);
    let_go(pid, PTRACE_DETACH);
}

/* Whether it ends by itself in a time in which nothing else could hold it up; reaps it. */
static void check_comes_back(int pid, const char *name, struct instant at)
{
    int64_t deadline = clock_now() + NARU_S(HANGS_S);
    int status, r;

    while ((r = waitpid(pid, &status, WNOHANG)) == 0 && clock_now() < deadline)
        (void)sched_yield();
    if (r == 0)
        test_fail(__FILE__, __LINE__, "%s: sleeps for good, from %u instructions after %u system calls on",
                  name, at.steps, at.calls);
    CHECK_INT(r, pid);
    CHECK_INT(status, 0);
}

static void open_pair(const char *url, struct naru_channel *ch[2])
{
    CHECK_INT(naru_channel_pair(url, NULL, ch), 0);
}

/* --- whoever is about to sleep --- */

static int fork_caller(const struct way *way, struct naru_channel *ch[2])
{
    int pid = test_fork();

    if (pid == 0) {
        ch[1] = naru_channel_close(ch[1]);
        way->prepare(ch[0]);
        tracee_begin();
        way->call(ch[0]);
        _exit(0); /* and closes nothing by itself */
    }
    return pid;
}

static void check_woken(const struct stopped *s, const char *name, struct instant at)
{
    int64_t deadline = clock_now() + NARU_S(HANGS_S);
    int pid = s->tracee.pid;

    while (s->asleep && thread_sleeps(pid, pid))
        if (clock_now() > deadline)
            test_fail(__FILE__, __LINE__, "%s: nobody wakes it in its system call %u", name, at.calls);
    set_free(s);
    check_comes_back(pid, name, at);
}

TEST_EACH(who_is_about_to_sleep_sees_what_is_done_at_any_instant, each_sleeper)
{
    const struct way *way = &sleepers[index];
    struct instant at = {0, 0}, next = {0, 0};
    struct stopped s = {.asleep = false};
    const char *missing = tracee_unsupported();
    unsigned count = 0;

    if (missing)
        test_skip("%s", missing);
    for (; !s.asleep; at = next, count++) {
        struct naru_channel *ch[2];
        int pid;

        open_pair(way->url, ch);
        pid = fork_caller(way, ch);
        ch[0] = naru_channel_close(ch[0]);
        CHECK_INT(naru_channel_adopt(ch[1]), 0);
        next = run_to(&s, pid, at);
        way->act(ch[1]);
        check_woken(&s, way->name, at);
        if (way->keeps)
            naru_channel_close(ch[1]);
    }
    test_note("%u instants", count);
    CHECK(count > 4);
}

/* --- whoever has to wake --- */

static void take_one(struct naru_channel *ch)
{
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT), MESSAGE);
}

static void finish(struct naru_channel *ch)
{
    CHECK_INT(naru_channel_finish(ch), 0);
}

/* call: wakes; prepare: of the other side, which then does act. */
static const struct way wakers[] = {
    {"send", RING, find_nothing, send_for_ever, recv_for_ever, true},
    {"a batch", RING, find_nothing, send_batch, recv_for_ever, true},
    {"a loan", RING, find_nothing, lend, recv_for_ever, true},
    {"the end", RING, find_nothing, finish, recv_the_end, true},
    {"recv", RING, fill, take_one, send_for_ever, true},
    {"release", RING, send_one, take_and_release, flush_done, true},
};

static const char *each_waker(size_t index)
{
    return index < sizeof wakers / sizeof *wakers ? wakers[index].name : NULL;
}

struct others {
    struct test_gate ready, act, never;
    _Atomic bool *acts;
};

static int fork_sleeper(const struct way *way, struct naru_channel *ch[2], struct others *o)
{
    int pid = test_fork();

    if (pid == 0) {
        ch[0] = naru_channel_close(ch[0]);
        way->prepare(ch[1]);
        test_gate_open(&o->ready);
        test_gate_wait(&o->act);
        atomic_store(o->acts, true);
        way->act(ch[1]);
        _exit(0);
    }
    return pid;
}

/* Its own end stays open when it has done what it does: a hang-up would wake whom it did not. */
static int fork_waker(const struct way *way, struct naru_channel *ch[2], struct others *o)
{
    int pid = test_fork();

    if (pid == 0) {
        ch[1] = naru_channel_close(ch[1]);
        CHECK_INT(naru_channel_adopt(ch[0]), 0);
        tracee_begin();
        way->call(ch[0]);
        test_gate_wait(&o->never);
    }
    return pid;
}

TEST_EACH(who_sleeps_from_any_instant_on_is_woken, each_waker)
{
    const struct way *way = &wakers[index];
    const char *missing = tracee_unsupported();
    struct instant at = {0, 0}, next = {0, 0};
    struct stopped s = {.asleep = false};
    unsigned count = 0;
    struct others o;

    if (missing)
        test_skip("%s", missing);
    test_gate_init(&o.ready);
    test_gate_init(&o.act);
    test_gate_init(&o.never);
    o.acts = test_shared(sizeof *o.acts);
    for (; !s.asleep; at = next, count++) {
        struct naru_channel *ch[2];
        int sleeper, waker;

        open_pair(way->url, ch);
        sleeper = fork_sleeper(way, ch, &o);
        test_gate_wait(&o.ready);
        waker = fork_waker(way, ch, &o);
        for (int i = 0; i < 2; i++)
            ch[i] = naru_channel_close(ch[i]);
        next = run_to(&s, waker, at);
        *o.acts = false;
        test_gate_open(&o.act);
        WAIT_UNTIL(*o.acts && (process_sleeps(sleeper) || process_has_ended(sleeper)));
        if (!s.asleep)
            set_free(&s);
        check_comes_back(sleeper, way->name, at);
        test_kill(waker);
    }
    test_note("%u instants", count);
    CHECK(count > 4);
}
