/* SPDX-License-Identifier: MIT */
/* Where and when something was measured: figures without that are hearsay. */
#ifndef BENCH_ENVIRONMENT_H
#define BENCH_ENVIRONMENT_H

enum { ENVIRONMENT_TEXT = 128 };

struct environment {
    char time[32];                 /* ISO 8601, UTC */
    char kernel[ENVIRONMENT_TEXT]; /* "Linux 6.1.0 x86_64" */
    char cpu[ENVIRONMENT_TEXT];    /* "AMD EPYC 7B13", "unknown" */
    char clocksource[ENVIRONMENT_TEXT];
    char compiler[ENVIRONMENT_TEXT];
    char libc[ENVIRONMENT_TEXT];
    const char *hypervisor; /* "yes", "no", "unknown" */
    const char *build;      /* "optimised", "not optimised", "sanitized" */
    int cpus;               /* that we may run on */
    double load;            /* average of the last minute; -1: unknown */
};

/* What cannot be found out is "unknown". */
struct environment environment_read(void);

/* Whether so much else is running that times mean little. */
int environment_is_busy(const struct environment *e);

#endif
