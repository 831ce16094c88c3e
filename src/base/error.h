/* SPDX-License-Identifier: MIT */
/*
 * Errors: a negated errno for the program and one sentence for people, kept per thread for naru_explain().
 *
 * The sentence is written where the failure is understood best, once. Callers further up pass the number on;
 * they write a new sentence only if they know better.
 */
#ifndef NARU_BASE_ERROR_H
#define NARU_BASE_ERROR_H

#include "naru/error.h"

/* What has room for any, with its NUL. Two paths of usual length fit. Of a longer sentence the middle is cut
 * out: it begins with a URL, which may have 8 KiB, and what went wrong and how to mend it stands at the end.
 */
enum { ERROR_SENTENCE_MAX = 1024 };

/* Remembers the sentence and returns -code. The format ends without full stop or newline; a mend goes behind
 * a semicolon: "tcp://:80: permission denied; ports below 1024 need CAP_NET_BIND_SERVICE". */
int error_set(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For the outcomes of normal running (-EAGAIN, -ETIMEDOUT, -ECANCELED, -EPIPE): formats nothing, the sentence
 * is fixed text. */
int error_expected(int code);

/* What the kernel says of an errno: "No such file or directory"; of a want of descriptors also what allows
 * more. Thread-safe, static text. */
const char *error_text(int code);

#endif
