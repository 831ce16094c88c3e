/* SPDX-License-Identifier: MIT */
/* Bells that are words: that whoever sleeps there asks in time whether the other side lives. */
#include "shm/bell.h"

#include <errno.h>
#include <signal.h>
#include <sys/time.h>

#include "base/clock.h"
#include "naru/naru.h"
#include "runner.h"

static bool is_dead(void *peer)
{
    ++*(int *)peer;
    return true;
}

static bool is_alive(void *peer)
{
    ++*(int *)peer;
    return false;
}

static void take_signal(int number)
{
    (void)number;
}

static void signal_every_ms(void)
{
    struct sigaction action = {.sa_handler = take_signal, .sa_flags = SA_RESTART};
    const struct itimerval ms = {{0, 1000}, {0, 1000}};

    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_INT(setitimer(ITIMER_REAL, &ms, NULL), 0);
}

/* As a call that waits without a limit does: what ends its sleep before the time lets it begin anew. */
TEST(a_death_is_noticed_though_signals_come)
{
    _Atomic uint32_t ticket = 1, bell = 0;
    int asked = 0, r = 0, woken = 0;
    struct sleeper s = {.ticket = &ticket, .last = 1, .bell = &bell, .is_gone = is_dead, .peer = &asked};

    bell_slice_ns = NARU_MS(50);
    signal_every_ms();
    while (r == 0 && ++woken < 1000) /* a second, in which 20 questions were due */
        r = bell_sleep(&s, NARU_FOREVER);
    CHECK_INT(r, 1);
    CHECK_INT(asked, 1);
}

TEST(who_lives_is_asked_once_a_slice_and_not_once_a_sleep)
{
    _Atomic uint32_t ticket = 1, bell = 0;
    int asked = 0;
    struct sleeper s = {.ticket = &ticket, .last = 1, .bell = &bell, .is_gone = is_alive, .peer = &asked};

    bell_slice_ns = NARU_S(1000);
    for (int i = 0; i < 3; i++)
        CHECK_INT(bell_sleep(&s, deadline_after(NARU_MS(1))), -ETIMEDOUT);
    CHECK_INT(asked, 0);
    s.ask_at = 1; /* long ago */
    bell = 1;
    CHECK_INT(bell_sleep(&s, NARU_FOREVER), 0); /* it rang: there is no question */
    CHECK_INT(asked, 0);
    bell = 0;
    for (int i = 0; i < 3; i++)
        CHECK_INT(bell_sleep(&s, deadline_after(NARU_MS(1))), -ETIMEDOUT);
    CHECK_INT(asked, 1);
}
