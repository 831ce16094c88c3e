/* SPDX-License-Identifier: MIT */
/* The per-thread sentence behind naru_explain(). */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SENTENCE_HEAD = 500 }; /* of one whose middle is cut out */

static _Thread_local struct {
    int expected; /* an expected outcome's code, whose text is fixed; 0: the sentence counts */
    char sentence[ERROR_SENTENCE_MAX];
} last;

/* Of `length` bytes. */
static void keep(const char *whole, size_t length)
{
    const char *tail;

    if (length < ERROR_SENTENCE_MAX) {
        memcpy(last.sentence, whole, length + 1);
        return;
    }
    tail = whole + length - (ERROR_SENTENCE_MAX - SENTENCE_HEAD - 4); /* "..." and the NUL */
    (void)snprintf(last.sentence, sizeof last.sentence, "%.*s...%s", SENTENCE_HEAD, whole, tail);
}

/* Of a longer one; on the heap, as a thread's stack may be of 32 KiB. Without memory its beginning has to do.
 */
__attribute__((format(printf, 3, 0))) static void keep_long(const char *beginning, size_t length,
                                                            const char *format, va_list args)
{
    char *whole = malloc(length + 1);

    if (whole && vsnprintf(whole, length + 1, format, args) >= 0)
        keep(whole, length);
    else
        keep(beginning, strlen(beginning));
    free(whole);
}

int error_set(int code, const char *format, ...)
{
    char sentence[ERROR_SENTENCE_MAX]; /* the last one may be among the arguments */
    va_list args, again;
    int length;

    va_start(args, format);
    va_copy(again, args);
    length = vsnprintf(sentence, sizeof sentence, format, args);
    if (length < 0) /* only wide characters can fail, and we print none */
        keep("", 0);
    else if (length < ERROR_SENTENCE_MAX)
        keep(sentence, (size_t)length);
    else
        keep_long(sentence, (size_t)length, format, again);
    va_end(again);
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

    switch (code) { /* how to mend it is the same wherever it happens */
    case EMFILE:
        return "Too many open files (`ulimit -n` allows more)";
    case ENFILE:
        return "Too many open files in system (fs.file-max allows more)";
    default:
        return text ? text : "unknown error";
    }
}

static const char *expected_text(int code)
{
    switch (code) {
    case EAGAIN:
        return "it would have had to wait, and was not to (NARU_NOWAIT, or a call that never waits)";
    case ETIMEDOUT:
        return "the time was up before it could be done";
    case ECANCELED:
        return "the wait was ended by naru_interrupt()";
    case EPIPE:
        return "the other end was closed";
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
