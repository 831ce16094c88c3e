/* SPDX-License-Identifier: MIT */
/* A standard signal sent three times while it is blocked arrives once; a real-time one arrives three times,
 * in order, each with its value (signal(7), "Real-time signals"). */
#include <signal.h>
#include <unistd.h>

#include "claim.h"

int main(void)
{
    int standard = 0, values[4] = {0}, queued = 0;
    siginfo_t info;
    sigset_t set, one;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    one = set;
    sigaddset(&set, SIGRTMIN);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    for (int i = 1; i <= 3; i++) {
        MUST(kill(getpid(), SIGUSR1));
        MUST(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i * 10}));
    }
    while (sigtimedwait(&one, &info, &(struct timespec){0}) > 0)
        standard++;
    while (queued < 4 && sigtimedwait(&set, &info, &(struct timespec){0}) > 0)
        values[queued++] = info.si_value.sival_int;
    return seen(standard == 1 && queued == 3 && values[0] == 10 && values[1] == 20 && values[2] == 30,
                "SIGUSR1 three times: %d arrived; SIGRTMIN three times: %d arrived, with %d, %d, %d",
                standard, queued, values[0], values[1], values[2]);
}
