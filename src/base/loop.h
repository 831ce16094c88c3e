/* SPDX-License-Identifier: MIT */
/* What the layers above need to make new kinds of loop sources: a descriptor, and hooks around it. */
#ifndef NARU_BASE_LOOP_H
#define NARU_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "naru/loop.h"

struct source_hooks {
    /* The events to poll for now; asked before each wait. NULL: they are fixed. */
    uint32_t (*want)(void *state);
    /* Called in place of the source's own callback, with what is ready. NULL: that one is called. */
    int (*ready)(struct naru_source *source, void *state, uint32_t events);
    /* Called when the source has ended: frees the state. May be NULL. */
    void (*end)(void *state);
};

/* 0 or the explained -EINVAL. */
int loop_check_call(bool there_is_one);

/* Adds a descriptor with hooks. On failure the state is still the caller's. Errors of naru_loop_add_fd(). */
int loop_add_source(struct naru_loop *loop, int fd, uint32_t events, const struct source_hooks *hooks,
                    void *state, naru_loop_call *call, void *data, struct naru_source **ret_source);

/* Whether the source has been removed: for hooks that call back more than once. Valid inside a callback. */
bool source_is_dead(const struct naru_source *source);

#endif
