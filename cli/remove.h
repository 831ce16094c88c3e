/* SPDX-License-Identifier: MIT */
/* Removing shared memory that has a name, which may be a channel's: for naru rm and naru segment. */
#ifndef CLI_REMOVE_H
#define CLI_REMOVE_H

/* Of shm+posix: and shm+sysv:, what a channel's listener left, with all that belongs to it, or any other
 * segment of that name. 0, or naru_explain()ed: -EBUSY where somebody listens to a channel there, which stays
 * as it is, as does what could not be looked at (-EMFILE, say). */
int remove_segment(const char *url);

#endif
