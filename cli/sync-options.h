/* SPDX-License-Identifier: MIT */
/* What naru lock, sem and event have in common on the command line. */
#ifndef CLI_SYNC_OPTIONS_H
#define CLI_SYNC_OPTIONS_H

/* --mode: octal permission bits; NULL leaves *ret alone. NARU_EXIT_OK, or NARU_EXIT_USAGE, reported. */
int sync_parse_mode(const char *text, unsigned *ret);

/* From now on a file that is cut short under the object it holds (SIGBUS) ends the command with a sentence.
 */
void sync_explain_truncation(void);

#endif
