/* SPDX-License-Identifier: MIT */
/*
 * Messages for people: one line on standard error that begins with the command ("naru send: ..."). Standard
 * output carries data only. Control characters in what is quoted are shown (escape.h), and long lines cut in
 * the middle.
 */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include <stdbool.h>

/* Which verb the messages speak for; NULL for the command itself. */
void report_set_verb(const char *name);

/* Prints naru_explain() for a failed naru call and returns the exit code of its result. Says nothing when the
 * user ended the command with a signal. */
int report_failure(long result);

/* The same for a call on that URL, which is named in front where the sentence does not do so itself: those of
 * -EPIPE, -ETIMEDOUT and -EAGAIN are fixed. tail: what else to say, or "". */
int report_failure_of(const char *url, long result, const char *tail);

/* The same with a sentence that naru_explain() said before something else was asked. */
int report_sentence_of(const char *url, long result, const char *sentence, const char *tail);

/* After a call on that URL whose time was up: whether naru_explain() says more than that. */
bool report_knows_why(const char *url);

/* Prints the sentence and returns code. */
int report(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As report(), followed by ": " and what the kernel says of the errno. Returns the exit code of -error. */
int report_errno(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A wrong command line: the sentence, and where the right one is described. Returns NARU_EXIT_USAGE. */
int report_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A remark that is no failure: what is being waited for, and the like. */
void report_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
