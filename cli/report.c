/* SPDX-License-Identifier: MIT */
#include "cli/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/exit.h"
#include "cli/interrupt.h"
#include "naru/error.h"

static const char *verb;

void report_set_verb(const char *name)
{
    verb = name;
}

/* One write a line, so that lines of concurrent commands do not mix: stderr is unbuffered. */
static void print_line(const char *sentence, const char *tail)
{
    char line[2048];

    (void)snprintf(line, sizeof line, "naru%s%s: %s%s\n", verb ? " " : "", verb ? verb : "", sentence, tail);
    (void)fputs(line, stderr);
}

static void __attribute__((format(printf, 1, 0)))
print_format(const char *format, va_list args, const char *tail)
{
    char sentence[1536];

    (void)vsnprintf(sentence, sizeof sentence, format, args);
    print_line(sentence, tail);
}

int report_failure_of(const char *url, long result, const char *tail)
{
    const char *sentence = result == -EPIPE ? "the other end was closed" : naru_explain();
    char line[1536];

    if (result == -ECANCELED && interrupt_signal())
        return exit_code(result);
    if (strstr(sentence, url))
        (void)snprintf(line, sizeof line, "%s", sentence);
    else
        (void)snprintf(line, sizeof line, "%s: %s", url, sentence);
    print_line(line, tail);
    return exit_code(result);
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
