/* SPDX-License-Identifier: MIT */
/* Signals on an event loop: a signalfd(2) per source, read one signal at a time so that a callback which
 * removes its source leaves the rest pending. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/loop.h"
#include "sync/signal.h"

enum { BATCH = 64 }; /* signals in one go, for fairness to other sources */

struct watch {
    int fd;
    naru_signal_call *call;
    void *data;
};

static int ready(struct naru_source *source, void *state, uint32_t events)
{
    struct watch *watch = state;
    int r = 0;

    (void)events;
    for (int i = 0; i < BATCH && r >= 0 && !source_is_dead(source); i++) {
        struct naru_signal_info info = NARU_INIT(struct naru_signal_info);
        struct signalfd_siginfo raw;

        if (read(watch->fd, &raw, sizeof raw) < 0)
            return errno == EAGAIN || errno == EINTR
                       ? 0
                       : error_set(errno, "reading a signalfd: %s", error_text(errno));
        signal_info_fill_from_fd(&info, &raw);
        r = watch->call(source, &info, watch->data);
    }
    return r;
}

static void end(void *state)
{
    struct watch *watch = state;

    fd_close(watch->fd);
    free(watch);
}

static const struct source_hooks hooks = {.ready = ready, .end = end};

int naru_loop_add_signal(struct naru_loop *loop, uint64_t set, naru_signal_call *call, void *data,
                         struct naru_source **ret_source)
{
    static const char doing[] = "adding a signal to an event loop";
    struct watch *watch;
    int r = loop_check_call(call);

    if (r == 0)
        r = signal_block_everywhere(set, doing);
    if (r < 0)
        return r;
    watch = malloc(sizeof *watch);
    if (!watch)
        return error_set(ENOMEM, "%s: out of memory", doing);
    watch->call = call;
    watch->data = data;
    watch->fd = signal_open_fd(set, doing);
    r = watch->fd < 0 ? watch->fd
                      : loop_add_source(loop, watch->fd, NARU_IN, &hooks, watch, NULL, NULL, ret_source);
    if (r < 0)
        end(watch);
    return r;
}
