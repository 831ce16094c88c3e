/* SPDX-License-Identifier: MIT */
/*
 * Running a command on behalf of somebody who holds something for it (naru lock, naru sem run): its exit
 * status becomes ours, and signals sent to us reach it.
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include <stdbool.h>

struct command {
    char **argv; /* NULL-terminated; searched in PATH */
    /* Called in the child, before the command takes its place; NULL: nothing. What it returns but
     * NARU_EXIT_OK is reported already, and becomes the exit code. */
    int (*prepare)(void *argument);
    void *argument;
    bool die_with_us; /* the kernel kills the command if we are killed (prctl(2), PR_SET_PDEATHSIG) */
};

/*
 * Runs it to its end. Its exit status, or 128 + the number of the signal that ended it, or
 * NARU_EXIT_NO_COMMAND and NARU_EXIT_CANNOT_RUN, reported. Signals sent to us meanwhile are sent on; those of
 * the terminal reach the command by themselves, and do not end us before it.
 */
int command_run(const struct command *command);

#endif
