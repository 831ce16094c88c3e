/* SPDX-License-Identifier: MIT */
/* What became of another process: the difference between "closed" and "died". */
#ifndef NARU_BASE_PROCESS_H
#define NARU_BASE_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

/* A pidfd (pidfd_open(2), close-on-exec), or -1 if there is none to be had. */
int process_pidfd(pid_t pid);

/*
 * Whether the process was ended by a signal, or is being ended by one now. false for a process that lives,
 * has exited by itself, or of which the kernel no longer tells (it was reaped, and the kernel is older
 * than 6.15, whose PIDFD_GET_INFO remembers). pidfd must be of that pid; -1 gives false.
 */
bool process_was_killed(int pidfd, pid_t pid);

#endif
