/* SPDX-License-Identifier: MIT */
/*
 * fork(2) under AddressSanitizer and ThreadSanitizer, whose allocators take no part in it (those of gcc 12
 * and clang 14; libc's does): a child that allocates waits for ever for a lock that another thread of its
 * parent held in that moment. A thread that begins or ends allocates, too. In a build without them there is
 * nothing of this.
 */
#ifndef NARU_BASE_FORK_SANITIZED_H
#define NARU_BASE_FORK_SANITIZED_H

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
/* Returns once every other thread of this process sleeps in the kernel, and so is not inside an allocator; or
 * after a while, where some never sleep. To be called where none can wake up to work: with forks about to
 * happen, and fork_hold() closed to others. Keeps errno. */
void fork_await_sleep(void);
#else
static inline void fork_await_sleep(void)
{
}
#endif

#endif
