/* SPDX-License-Identifier: MIT */
/*
 * What the small programs of this folder share. Each settles one point on which textbooks disagree with each
 * other or with the kernel (docs/mechanisms.md cites it): system calls and the C library only, nothing of
 * naru. It exits with 0 and one line of what it saw if the claim at its top holds, with 1 if it does not,
 * with 2 if it could not be tried.
 */
#ifndef TESTS_CLAIMS_CLAIM_H
#define TESTS_CLAIMS_CLAIM_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A system call that must work for the claim to be tried at all; its result. */
#define MUST(call)                                                                                           \
    __extension__({                                                                                          \
        __typeof__(call) result_ = (call);                                                                   \
        if (result_ == (__typeof__(call))-1)                                                                 \
            perror(#call), exit(2);                                                                          \
        result_;                                                                                             \
    })

/* Whether the call failed with that errno. */
#define FAILS(call, code) (errno = 0, (call) == -1 && errno == (code))

/* The end of main(): what was seen, and whether that is what the claim says. */
__attribute__((format(printf, 2, 3))) static inline int seen(bool holds, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    if (!holds)
        printf("NOT SO: ");
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
    return holds ? 0 : 1;
}

#endif
