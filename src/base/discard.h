/* SPDX-License-Identifier: MIT */
/* Closing descriptors that a stranger has passed, who may have chosen them so that close(2) waits. */
#ifndef NARU_BASE_DISCARD_H
#define NARU_BASE_DISCARD_H

#include <stddef.h>

/* Closes those that are not negative, without waiting: what close(2) might wait for is closed by a thread of
 * its own, perhaps later, and stays open if there is no thread or memory for that. Keeps errno. */
void discard_fds(const int *fds, size_t count);

#endif
