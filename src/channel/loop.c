/* SPDX-License-Identifier: MIT */
/* Channels and listeners on an event loop: their descriptor, and what they want of it at each moment. */
#include "base/loop.h"

static uint32_t channel_wants(void *state)
{
    return (uint32_t)naru_channel_want(state);
}

static uint32_t listener_wants(void *state)
{
    return (uint32_t)naru_listener_want(state);
}

static const struct source_hooks channel_hooks = {.want = channel_wants};
static const struct source_hooks listener_hooks = {.want = listener_wants};

int naru_loop_add_channel(struct naru_loop *loop, struct naru_channel *ch, naru_loop_call *call, void *data,
                          struct naru_source **ret_source)
{
    int fd = naru_channel_fd(ch);

    if (fd < 0)
        return fd;
    return loop_add_source(loop, fd, channel_wants(ch), &channel_hooks, ch, call, data, ret_source);
}

int naru_loop_add_listener(struct naru_loop *loop, struct naru_listener *l, naru_loop_call *call, void *data,
                           struct naru_source **ret_source)
{
    int fd = naru_listener_fd(l);

    if (fd < 0)
        return fd;
    return loop_add_source(loop, fd, listener_wants(l), &listener_hooks, l, call, data, ret_source);
}
