/* SPDX-License-Identifier: MIT */
/* The supervisor's limit: it ends a run that hangs, and not one that only is slow. What it says of a death.
 */
#include "bench/duo.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runner.h"

static const int64_t ms = 1000000;

static int64_t read_clock(clockid_t clock)
{
    struct timespec now;

    CHECK_INT(clock_gettime(clock, &now), 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int run(int64_t limit_ns, int (*body)(void *, enum duo_side), void *context, char why[DUO_WHY_MAX])
{
    struct duo duo;
    int r;

    CHECK_INT(duo_init(&duo, DUO_PIN_NONE, limit_ns, -1), 0);
    r = duo_run(&duo, body, NULL, context, why);
    duo_deinit(&duo);
    return r;
}

static int sleep_for_ever(void *context, enum duo_side side)
{
    (void)context;
    while (side == DUO_NEAR)
        (void)pause();
    return 0;
}

TEST(a_run_that_hangs_ends_at_the_limit)
{
    char why[DUO_WHY_MAX];

    CHECK_INT(run(200 * ms, sleep_for_ever, NULL, why), -ETIMEDOUT);
    CHECK_CONTAINS(why, "it did not end within 0.2 s");
}

/* At work when the first limit passes, with as much of a CPU by then as is noticed: a machine whose CPUs
 * others have may not give it that. */
static int compute_beyond_the_limit(void *context, enum duo_side side)
{
    int64_t begin = read_clock(CLOCK_MONOTONIC);

    while (side == DUO_NEAR && read_clock(CLOCK_MONOTONIC) - begin < 1500 * ms)
        if (read_clock(CLOCK_MONOTONIC) - begin < 900 * ms)
            atomic_store((_Atomic int64_t *)context, read_clock(CLOCK_PROCESS_CPUTIME_ID));
    return 0;
}

TEST(a_run_that_is_at_work_at_the_limit_goes_on)
{
    _Atomic int64_t *used_ns = duo_share(sizeof *used_ns);
    char why[DUO_WHY_MAX];
    int r = -ETIMEDOUT;

    CHECK(used_ns);
    for (int attempts = 0; attempts < 20; attempts++) {
        *used_ns = 0;
        r = run(1000 * ms, compute_beyond_the_limit, used_ns, why);
        if (r == 0 || *used_ns > 20 * ms)
            break;
    }
    duo_unshare(used_ns, sizeof *used_ns);
    CHECK_INT(r, 0);
}

static int compute_for_ever(void *context, enum duo_side side)
{
    volatile bool always = true;

    (void)context;
    (void)side;
    while (always)
        ;
    return 0;
}

TEST(a_run_that_computes_for_ever_ends_as_well)
{
    char why[DUO_WHY_MAX];

    CHECK_INT(run(20 * ms, compute_for_ever, NULL, why), -ETIMEDOUT);
}

/* The far side fails as if the near one had gone, and the near one is killed once that has been seen. */
static int fail_before_the_cause(void *context, enum duo_side side)
{
    _Atomic pid_t *far = context;
    struct pollfd ended = {-1, POLLIN, 0};

    if (side == DUO_FAR) {
        *far = getpid();
        return duo_fail(-EPIPE, "the other side has ended");
    }
    while (*far == 0)
        (void)sched_yield();
    ended.fd = (int)syscall(SYS_pidfd_open, *far, 0); /* -1: reaped already */
    if (ended.fd >= 0)
        (void)poll(&ended, 1, -1);
    return kill(getpid(), SIGKILL);
}

TEST(a_death_is_the_cause_also_when_its_consequence_is_seen_first)
{
    _Atomic pid_t *far = duo_share(sizeof *far);
    struct duo duo;
    char why[DUO_WHY_MAX];

    CHECK(far);
    CHECK_INT(duo_init(&duo, DUO_PIN_NONE, 10000 * ms, -1), 0);
    CHECK_INT(duo_run(&duo, fail_before_the_cause, NULL, far, why), -ECHILD);
    CHECK_CONTAINS(why, "the near process was ended by signal 9");
    duo_deinit(&duo);
    duo_unshare(far, sizeof *far);
}
