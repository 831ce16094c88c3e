/* SPDX-License-Identifier: MIT */
#include "cli/gathering.h"

#include <errno.h>

#include "cli/endpoint.h"
#include "cli/interrupt.h"
#include "cli/now.h"
#include "cli/report.h"

bool gathering_can(const struct naru_mechanism *row)
{
    const uint32_t needed = NARU_CAN_ACCEPT_MANY | NARU_CAN_POLL;

    return row && (row->capabilities & needed) == needed;
}

int gathering_open(const char *url, const struct naru_options *opt, struct naru_gather **ret_g)
{
    const char *actual;
    struct naru_gather *g;
    int r = interrupt_graceful();

    if (r == 0)
        r = naru_gather_new(&g);
    if (r < 0)
        return r;
    r = naru_gather_fd(g); /* which takes a descriptor: rather refused now than later */
    if (r >= 0)
        r = naru_gather_listen(g, url, opt, &actual);
    if (r < 0) {
        (void)naru_gather_close(g);
        return r;
    }
    if (endpoint_is_port_chosen(url))
        report_note("listening on %s", actual);
    *ret_g = g;
    return 0;
}

/* Not all that there is to know shows in the descriptor (a name that was removed): it is asked this often. */
static const int64_t ask_again = NARU_S(1);

int gathering_borrow(struct naru_gather *g, int64_t timeout_ns, struct naru_view *ret_view,
                     struct naru_gather_from *from)
{
    int64_t begun = now();
    int r;

    while ((r = naru_gather_borrow(g, NARU_NOWAIT, ret_view, from)) == -EAGAIN && timeout_ns != NARU_NOWAIT) {
        struct naru_wait items[2] = {NARU_INIT(struct naru_wait), NARU_INIT(struct naru_wait)};
        int64_t left = timeout_ns == NARU_FOREVER ? NARU_FOREVER : timeout_ns - (now() - begun);

        if (left <= 0)
            return -ETIMEDOUT;
        items[0].fd = r = naru_gather_fd(g);
        if (r < 0)
            return r;
        items[1].fd = interrupt_fd();
        items[0].events = items[1].events = NARU_IN;
        r = (int)naru_wait_any(items, 2, left < ask_again ? left : ask_again);
        if (items[1].ready)
            return -ECANCELED;
        if (r < 0 && r != -ETIMEDOUT)
            return r;
    }
    return r;
}
