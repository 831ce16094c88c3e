/* SPDX-License-Identifier: MIT */
/* What became of another process: the difference between "closed" and "died". */
#ifndef NARU_BASE_PROCESS_H
#define NARU_BASE_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

/* A pidfd (pidfd_open(2), close-on-exec), or -1 if there is none to be had. */
int process_pidfd(pid_t pid);

/*
 * Opens a pidfd of each child that the first thread of the process has now, at most max of them, and says of
 * how many; the others are not looked at. pid must be a process that nobody has reaped yet. 0 also where
 * the kernel does not list children (CONFIG_PROC_CHILDREN) or /proc is not mounted.
 */
int process_open_children(pid_t pid, int *ret_pidfds, int max);

/*
 * Whether the process was ended by a signal, or is being ended by one now. false for a process that lives,
 * has exited by itself, or of which the kernel no longer tells (it was reaped, and the kernel is older
 * than 6.15, whose PIDFD_GET_INFO remembers). pidfd must be of that pid; -1 gives false.
 */
bool process_was_killed(int pidfd, pid_t pid);

#endif
