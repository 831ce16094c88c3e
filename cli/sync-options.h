/* SPDX-License-Identifier: MIT */
/* What naru lock, sem and event have in common on the command line. */
#ifndef CLI_SYNC_OPTIONS_H
#define CLI_SYNC_OPTIONS_H

#include <stdbool.h>

#include "naru/sync.h"

/* --mode: octal permission bits; NULL leaves *ret alone. NARU_EXIT_OK, or NARU_EXIT_USAGE, reported. */
int sync_parse_mode(const char *text, unsigned *ret);

/* Whether somebody holds the mutex, or units of the semaphore, of that name, which is reported then: it must
 * not be removed, as who makes it anew would get in beside the holder. What is none (any more) is held by
 * nobody; of the other kinds nobody is known to hold one. */
bool sync_report_held(enum naru_sync_kind kind, const char *name);

/* From now on a file that is cut short under the object it holds (SIGBUS) ends the command with a sentence.
 */
void sync_explain_truncation(void);

#endif
