/* SPDX-License-Identifier: MIT */
/* Closing descriptors that a stranger has passed, who may have chosen them so that close(2) waits. */
#ifndef NARU_BASE_DISCARD_H
#define NARU_BASE_DISCARD_H

#include <stdbool.h>
#include <stddef.h>

/* From so many lots on that wait to be closed, of what came together, or so many descriptors, it is full. */
enum { DISCARD_MOST = 16, DISCARD_FDS_MOST = 256 };

/* Closes those that are not negative, without waiting: what close(2) might wait for is closed by a thread,
 * perhaps later, and stays open if there is no memory for that. Keeps errno. */
void discard_fds(const int *fds, size_t count);

/* Likewise, of somebody who may go on using what he passed: a socket that lingers is left so. */
void discard_shared_fds(const int *fds, size_t count);

/* Likewise one for which it is certain that its closing may wait. */
void discard_by_thread(int fd);

/* Whether it is a unix socket with something in it, whose closing may wait for what that brings. */
bool discard_may_hold_others(int fd);

/* Whether as many wait as may: then nothing should be received that may bring more of them. Looks for 10 ms
 * whether some of them go. */
bool discard_is_full(void);

#endif
