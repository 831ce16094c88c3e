/* SPDX-License-Identifier: MIT */
/* What the tests of segments have in common: a name of each kind, and a new segment under it. */
#ifndef NARU_SEGMENT_TEST_SEGMENT_H
#define NARU_SEGMENT_TEST_SEGMENT_H

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "naru/error.h"
#include "naru/segment.h"
#include "runner.h"

enum { SIZE = 10000 };

/* A URL of the kind that no other test run uses; made new, gone when closed. */
static inline const char *url_of(const char *kind, char *buffer, size_t capacity)
{
    if (strcmp(kind, "shm+posix") == 0)
        (void)snprintf(buffer, capacity, "shm+posix:/naru-test-%d", getpid());
    else if (strcmp(kind, "shm+sysv") == 0)
        (void)snprintf(buffer, capacity, "shm+sysv:0x%x", 0x6e000000u + (unsigned)getpid());
    else
        (void)snprintf(buffer, capacity, "mmap://%s/file", test_directory());
    return buffer;
}

static inline struct naru_segment *open_new(const char *url, size_t size)
{
    struct naru_segment_options options = NARU_INIT(struct naru_segment_options);
    struct naru_segment *segment = NULL;

    options.create = NARU_CREATE_NEW;
    options.unlink = 1;
    CHECK_INT(naru_segment_open(url, size, &options, &segment), 0);
    return segment;
}

static inline int open_with(const char *url, size_t size, enum naru_create create, struct naru_segment **ret)
{
    struct naru_segment_options options = NARU_INIT(struct naru_segment_options);

    options.create = create;
    return naru_segment_open(url, size, &options, ret);
}

#endif
