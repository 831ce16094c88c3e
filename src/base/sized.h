/* SPDX-License-Identifier: MIT */
/*
 * Public structs that begin with their size (naru/export.h). Who was compiled against a newer naru gives a
 * larger one, of which what is known here is read or filled. A smaller one than the first release had nobody
 * has: it was not made by NARU_INIT, and nothing in it, or behind it, is to be relied on.
 */
#ifndef NARU_BASE_SIZED_H
#define NARU_BASE_SIZED_H

#include <stddef.h>

/* 0, or -EINVAL, explained. where: a URL or a call, what: an argument, type: of the struct, without the word.
 */
#define SIZED_CHECK(where, what, type, object)                                                               \
    ((object)->size < sizeof(struct type) ? sized_refuse(where, what, #type, (object)->size) : 0)

/* The rest of SIZED_CHECK(). */
int sized_refuse(const char *where, const char *what, const char *type, size_t size);

#endif
