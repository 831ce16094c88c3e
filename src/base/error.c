/* SPDX-License-Identifier: MIT */
/* The per-thread sentence behind naru_explain(). */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Long enough for two paths of PATH_MAX in their usual lengths; longer sentences are cut. */
enum { SENTENCE_MAX = 1024 };

static _Thread_local struct {
    int expected; /* an expected outcome's code, whose text is fixed; 0: the sentence counts */
    char sentence[SENTENCE_MAX];
} last;

int error_set(int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(last.sentence, sizeof last.sentence, format, args);
    va_end(args);
    last.expected = 0;
    return -code;
}

int error_expected(int code)
{
    last.expected = code;
    return -code;
}

const char *error_text(int code)
{
    const char *text = strerrordesc_np(code);

    return text ? text : "unknown error";
}

static const char *expected_text(int code)
{
    switch (code) {
    case EAGAIN:
        return "it would have had to wait, and was told not to (NARU_NOWAIT)";
    case ETIMEDOUT:
        return "the time was up before it could be done";
    case ECANCELED:
        return "the wait was ended by naru_interrupt()";
    case EPIPE:
        return "the other end was closed, and everything it sent has been received";
    default:
        return error_text(code);
    }
}

const char *naru_explain(void)
{
    if (last.expected)
        return expected_text(last.expected);
    return last.sentence[0] ? last.sentence : "no error";
}
