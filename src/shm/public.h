/* SPDX-License-Identifier: MIT */
/* What the public calls of rings and cells have in common. what: "ring" or "cell", for sentences. */
#ifndef NARU_SHM_PUBLIC_H
#define NARU_SHM_PUBLIC_H

#include <stddef.h>
#include <stdint.h>

/* 0, or -EINVAL, explained: no memory, or not at a multiple of a line. */
int public_check_address(const char *what, const void *memory);

/* What public_validate() looks at. */
struct public_look {
    /* Moves on whenever what check() reads may have been overwritten. */
    uint64_t (*read_count)(const void *object);
    int (*check)(const char *where, const void *object, size_t bytes); /* as those of validate.h */
};

/* check(), again as long as it finds something wrong and the count has moved meanwhile. 0, -EPROTO; -EAGAIN:
 * it has each time. memory: where it is, for people; object and bytes: what look's calls get. */
int public_validate(const char *what, const void *memory, const struct public_look *look, const void *object,
                    size_t bytes);

#endif
