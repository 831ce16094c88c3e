/* SPDX-License-Identifier: MIT */
/* Whether a descriptor that a stranger has passed may be asked and closed without waiting for anybody. */
#ifndef NARU_BASE_LOCAL_FILE_H
#define NARU_BASE_LOCAL_FILE_H

#include <stdbool.h>

/* Whether it is certain that the kernel alone answers for what is open as fd: a file or directory of a file
 * system that is on this machine's memory or disks and mounted where this process sees it, a terminal, a
 * device of memory, or none of a file system at all (eventfd(2), epoll(7) ...). Asks nobody else, so it does
 * not wait; without /proc nothing is certain. Keeps errno. */
bool local_file(int fd);

#endif
