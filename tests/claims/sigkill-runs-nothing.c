/* SPDX-License-Identifier: MIT */
/* Two signals, not one, can neither be caught, blocked nor ignored: SIGKILL and SIGSTOP (signal(7)). A
 * process that is killed runs nothing more: no handler, no atexit(3). Neither does one that dies of SIGTERM's
 * default action; only exit(3) runs them. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "claim.h"

static int report;

static void at_exit(void)
{
    if (write(report, "x", 1) != 1)
        _exit(2);
}

/* Whether the exit handlers of a child ran that ends in this way; 0: by exit(3). */
static bool ran_handlers(int sig)
{
    char byte;
    int ends[2];

    MUST(pipe(ends));
    if (MUST(fork()) == 0) {
        report = ends[1];
        atexit(at_exit);
        if (sig)
            raise(sig);
        exit(0);
    }
    MUST(close(ends[1]));
    MUST(wait(NULL));
    return read(ends[0], &byte, 1) == 1;
}

int main(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    bool killed = ran_handlers(SIGKILL), terminated = ran_handlers(SIGTERM), exited = ran_handlers(0);
    int refused = 0;

    for (int sig = 1; sig < SIGRTMIN; sig++)
        refused += sigabbrev_np(sig) && FAILS(sigaction(sig, &ignore, NULL), EINVAL);
    return seen(!killed && !terminated && exited && refused == 2,
                "exit handlers ran: SIGKILL %d, SIGTERM %d, exit %d; signals that take no handler: %d",
                killed, terminated, exited, refused);
}
