/* SPDX-License-Identifier: MIT */
/*
 * Machines that lack a system call, and code that must make none: filters of seccomp(2) in the calling test.
 * They hold for the rest of the test and for the processes that it forks afterwards, and cannot be taken
 * back.
 */
#ifndef TESTS_RUNNER_SYSCALLS_H
#define TESTS_RUNNER_SYSCALLS_H

/* From now on this system call (SYS_...) fails with the errno. */
void test_refuse_call(long number, int error);

/* Likewise, where its third argument, open(2)'s flags by openat(2), has any of these bits. */
void test_refuse_flags(long number, unsigned bits, int error);

/* From now on every system call of this thread but write(2) and exit_group(2) kills the process with SIGSYS:
 * a test can still fail and end. */
void test_forbid_calls(void);

/* Ends such a process, with success: _exit(2) itself would call the sanitizers, and they the kernel. */
void test_end_without_calls(void);

#endif
