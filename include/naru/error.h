/* SPDX-License-Identifier: MIT */
/*
 * Errors. Every naru function that can fail returns 0 (or a count) for success and a negated errno value for
 * failure: `if (r == -EPIPE)`. Beside the number, each failure leaves one sentence for people.
 */
#ifndef NARU_ERROR_H
#define NARU_ERROR_H

#include "naru/export.h"

NARU_BEGIN

/*
 * What the last failure of a naru call in this thread was: what was being done, to which URL, what the kernel
 * said, and how to mend it. Never NULL, never ends in a newline; "no error" before the first failure. A call
 * that succeeds leaves the sentence of the failure before it, and so do calls that are async-signal-safe
 * (naru_interrupt()), whatever they return.
 *
 * The string belongs to the thread and is valid until its next naru call. Never blocks; safe in any thread
 * and after fork(); not async-signal-safe. The outcomes that programs expect in normal running (-EAGAIN, most
 * -ETIMEDOUT, -ECANCELED) cost nothing here: their sentence is fixed text.
 */
NARU_API const char *naru_explain(void);

NARU_END

#endif
