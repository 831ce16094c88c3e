/* SPDX-License-Identifier: MIT */
/* Who holds a lock, for sentences: "process 1234 listens there" tells whom to end. */
#ifndef NARU_BASE_HOLDER_H
#define NARU_BASE_HOLDER_H

#include <sys/types.h>

enum { HOLDER_NAME = 32 };

/*
 * A process with a lock on the first byte of the file at path, of flock(2) or of an open file description
 * (fcntl(2)), as far as /proc shows it: descriptors of this user's processes, of all to root. 0: nobody that
 * could be seen. It may have ended since. Reads through /proc: for what fails anyway, not for the usual way.
 */
pid_t holder_of_lock(const char *path);

/* "process 1234", or "a process" of 0, into name, which is returned. */
const char *holder_name(pid_t pid, char name[static HOLDER_NAME]);

/* Both in one. */
const char *holder_of_lock_name(const char *path, char name[static HOLDER_NAME]);

#endif
