/* SPDX-License-Identifier: MIT */
/*
 * The first 16 bytes of every object, which say what it is: kind, version of its layout, the machine word and
 * C library it was made for, and the PID namespace its pids mean something in. Each call compares them first,
 * so that memory never initialised, overwritten, or made by another version is an error and not a wild guess.
 */
#ifndef NARU_SYNC_HEAD_H
#define NARU_SYNC_HEAD_H

#include <assert.h>
#include <stddef.h>
#include <stdatomic.h>
#include <stdint.h>

#include "naru/sync.h"

struct head {
    _Atomic uint32_t magic; /* written last by whoever makes the object */
    uint16_t kind;
    uint16_t version;
    uint32_t abi;
    uint32_t namespace;
};

static_assert(sizeof(struct head) == 16 && offsetof(struct head, kind) == 4 &&
                  offsetof(struct head, version) == 6 && offsetof(struct head, abi) == 8 &&
                  offsetof(struct head, namespace) == 12,
              "the layout is shared between processes");

/* -EINVAL (explained) unless the address is aligned as every object must be. */
int head_check_address(const void *object, enum naru_sync_kind kind);

/* The last step of making an object. */
void head_finish(struct head *head, enum naru_sync_kind kind);

/* The first step of ending it: who uses it later gets -EPROTO. */
void head_clear(struct head *head);

/* 0, -EPROTO or -EXDEV (explained). For events async-signal-safe while it is 0, and never -EXDEV. */
int head_check(const struct head *head, enum naru_sync_kind kind);

#endif
