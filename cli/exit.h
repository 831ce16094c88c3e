/* SPDX-License-Identifier: MIT */
/* What the naru command's exit codes mean, and the one place that chooses them. */
#ifndef CLI_EXIT_H
#define CLI_EXIT_H

enum {
    NARU_EXIT_OK = 0,
    NARU_EXIT_FAILED = 1,
    NARU_EXIT_USAGE = 2,        /* the command line makes no sense */
    NARU_EXIT_NOT_FOUND = 3,    /* what was named does not exist */
    NARU_EXIT_PERMISSION = 4,   /* it exists and is not ours to use */
    NARU_EXIT_TIMEOUT = 124,    /* the time was up, as timeout(1) says it */
    NARU_EXIT_CANNOT_RUN = 126, /* a command found but not runnable, as shells say it */
    NARU_EXIT_NO_COMMAND = 127, /* a command not found */
    NARU_EXIT_SIGNAL = 128,     /* plus the signal's number: 130 after an interrupt from the keyboard */
    NARU_EXIT_INTERRUPTED = 130,
    NARU_EXIT_BROKEN_PIPE = 141 /* main() makes it a real SIGPIPE, which shells and xargs look for */
};

/* The exit code for what a naru function returned: 0 and counts are success, -errno is what went wrong. */
int exit_code(long result);

#endif
