/* SPDX-License-Identifier: MIT */
#include "cli/one-by-one.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/now.h"
#include "cli/report.h"

void one_by_one_note(struct one_by_one *o, int result, const char *sentence)
{
    int code = report_sentence_of(o->url, result, sentence, "");

    o->code = o->code == NARU_EXIT_OK ? code : o->code;
}

int one_by_one_listen(struct one_by_one *o)
{
    struct naru_options options = NARU_INIT(struct naru_options);

    options.direction = NARU_DIRECTION_RECEIVE;
    options.interruptible = 1;
    return endpoint_listen(&o->end, o->actual, &options);
}

/* Lets nobody new come: only who is connected already, and may have sent all and gone, is received from.
 * -EPIPE: there is nobody. */
static int accept_rest(struct one_by_one *o)
{
    int r = naru_listener_finish(o->end.listener);

    if (r < 0 && r != -ENOTSUP)
        one_by_one_note(o, r, naru_explain());
    r = endpoint_accept(&o->end, NARU_NOWAIT);
    return r == -ETIMEDOUT || r == -EAGAIN || r == -ENOTCONN ? -EPIPE : r;
}

/* A connection may need a segment for the next one first: there is no room for that, or something else stands
 * in its place. */
static bool is_want_of_next(int r)
{
    return r == -ENOSPC || r == -ENOMEM || r == -EMFILE || r == -ENFILE || r == -EEXIST || r == -EACCES ||
           r == -EPERM;
}

int one_by_one_accept(struct one_by_one *o, int64_t deadline)
{
    int r = endpoint_accept(&o->end, now_left(deadline)), rest;
    char *why;

    if (!is_want_of_next(r))
        return r;
    why = strdup(naru_explain()); /* before the next call says something else */
    rest = accept_rest(o);
    if (o->keep || rest == -EPIPE) {
        one_by_one_note(o, r, why ? why : "out of memory");
        o->shut_by = r;
    }
    free(why);
    return rest;
}

/* The door was shut for want of room. The last who had come has gone, and what that took comes back, or will
 * as soon as he has let go of it. */
static int listen_again(struct one_by_one *o, int64_t deadline)
{
    static const int64_t patience = NARU_S(10), step = NARU_MS(10);
    int64_t begun = now();
    int r;

    endpoint_close(&o->end);
    while ((r = one_by_one_listen(o)) == -ENOSPC && now() - begun < patience &&
           now_left(deadline) != NARU_NOWAIT) {
        struct naru_wait interrupt = NARU_INIT(struct naru_wait);

        interrupt.fd = interrupt_fd();
        interrupt.events = NARU_IN;
        if (naru_wait_any(&interrupt, 1, step) >= 0)
            return -ECANCELED;
    }
    return r;
}

int one_by_one_next(struct one_by_one *o, int ended, int64_t deadline)
{
    int r;

    if (!o->keep) {
        if (ended == -EOWNERDEAD)
            one_by_one_note(o, ended, naru_explain());
        return accept_rest(o);
    }
    r = one_by_one_accept(o, deadline);
    if (r != -ENOTCONN)
        return r;
    r = listen_again(o, deadline);
    if (r < 0)
        return r == o->shut_by ? -EPIPE : r; /* as before */
    o->shut_by = 0;
    return one_by_one_accept(o, deadline);
}
