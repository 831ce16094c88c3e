/* SPDX-License-Identifier: MIT */
/* There is no SIGALARM, SIGSTP or SIGCOUNT: they are SIGALRM, SIGTSTP and SIGCONT (signal(7)). */
#include <signal.h>

#include "claim.h"

#if defined SIGALARM || defined SIGSTP || defined SIGCOUNT
#error "a name that POSIX does not have"
#endif

/* The number of that name; 0: there is none. */
static int number(const char *name)
{
    for (int sig = 1; sig < SIGRTMIN; sig++) {
        const char *known = sigabbrev_np(sig);

        if (known && strcmp(known, name) == 0)
            return sig;
    }
    return 0;
}

int main(void)
{
    return seen(number("ALRM") == SIGALRM && number("TSTP") == SIGTSTP && number("CONT") == SIGCONT &&
                    !number("ALARM") && !number("STP") && !number("COUNT"),
                "ALRM is %d, TSTP %d, CONT %d; ALARM %d, STP %d, COUNT %d (0: no such signal)",
                number("ALRM"), number("TSTP"), number("CONT"), number("ALARM"), number("STP"),
                number("COUNT"));
}
