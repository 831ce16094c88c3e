/* SPDX-License-Identifier: MIT */
#include "cli/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/escape.h"
#include "cli/exit.h"
#include "cli/interrupt.h"
#include "naru/error.h"

enum { SENTENCE_MAX = 1536, LINE_MAX_BYTES = 2048 };

static const char *verb;

void report_set_verb(const char *name)
{
    verb = name;
}

/* One write a line, so that lines of concurrent commands do not mix: stderr is unbuffered. What is quoted in
 * it may hold anything, as names that others chose do: it neither begins a new line nor commands the
 * terminal. */
static void print_line(const char *sentence, const char *tail)
{
    char line[LINE_MAX_BYTES], shown[LINE_MAX_BYTES * ESCAPE_GROWTH];

    (void)snprintf(line, sizeof line, "naru%s%s: %s%s", verb ? " " : "", verb ? verb : "", sentence, tail);
    escape_text(line, shown, sizeof shown - 1);
    (void)strcat(shown, "\n");
    (void)fputs(shown, stderr);
}

/* Of a long sentence the middle is cut out: what was expected stands at its end. */
static void __attribute__((format(printf, 1, 0)))
print_format(const char *format, va_list args, const char *tail)
{
    char *whole = NULL, sentence[SENTENCE_MAX];
    int length = vasprintf(&whole, format, args);

    if (length < 0) {
        print_line("out of memory for what is to be said", "");
        return;
    }
    if (length < SENTENCE_MAX)
        memcpy(sentence, whole, (size_t)length + 1);
    else
        (void)snprintf(sentence, sizeof sentence, "%.*s...%s", SENTENCE_MAX / 2, whole,
                       whole + length - (SENTENCE_MAX - SENTENCE_MAX / 2 - 4)); /* "..." and the NUL */
    free(whole);
    print_line(sentence, tail);
}

int report_failure_of(const char *url, long result, const char *tail)
{
    return report_sentence_of(url, result, naru_explain(), tail);
}

int report_sentence_of(const char *url, long result, const char *sentence, const char *tail)
{
    char line[1536];

    if (result == -ECANCELED && interrupt_signal())
        return exit_code(result);
    if (result == -EPIPE)
        sentence = "the other end was closed";
    if (strstr(sentence, url))
        (void)snprintf(line, sizeof line, "%s", sentence);
    else
        (void)snprintf(line, sizeof line, "%s: %s", url, sentence);
    print_line(line, tail);
    return exit_code(result);
}

/* The sentences that are fixed name no URL. */
bool report_knows_why(const char *url)
{
    return strncmp(naru_explain(), url, strcspn(url, ":") + 1) == 0;
}

int report_failure(long result)
{
    return report_failure_of("", result, "");
}

int report(int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_format(format, args, "");
    va_end(args);
    return code;
}

int report_errno(int error, const char *format, ...)
{
    const char *text = strerrordesc_np(error);
    char tail[128];
    va_list args;

    (void)snprintf(tail, sizeof tail, ": %s", text ? text : "unknown error");
    va_start(args, format);
    print_format(format, args, tail);
    va_end(args);
    return exit_code(-error);
}

int report_usage(const char *format, ...)
{
    char tail[128];
    va_list args;

    (void)snprintf(tail, sizeof tail, " (see `naru %s%s--help`)", verb ? verb : "", verb ? " " : "");
    va_start(args, format);
    print_format(format, args, tail);
    va_end(args);
    return NARU_EXIT_USAGE;
}

void report_note(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_format(format, args, "");
    va_end(args);
}
