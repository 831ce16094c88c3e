/* SPDX-License-Identifier: MIT */
/*
 * What it means that memory cannot be mapped: by mmap(2), mremap(2) or shmat(2). Where a program has called
 * mlockall(MCL_FUTURE) all that is mapped from then on is locked, address space of which nothing is used yet,
 * too; what RLIMIT_MEMLOCK does not allow is EAGAIN then, which in naru says that there is something to wait
 * for. So it is ENOMEM.
 */
#ifndef NARU_BASE_MAPPING_H
#define NARU_BASE_MAPPING_H

#include <stddef.h>

/* The errno to return, and what to say of it (static text), for the errno of such a call. */
int mapping_code(int code);
const char *mapping_text(int code);

/* Whether so many bytes could be mapped now: 0, or the errno. */
int mapping_try(size_t length);

#endif
