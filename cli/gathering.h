/* SPDX-License-Identifier: MIT */
/* A gather that a verb receives from; its waits end by a signal, too (interrupt.h). */
#ifndef CLI_GATHERING_H
#define CLI_GATHERING_H

#include <stdbool.h>
#include <stdint.h>

#include "naru/naru.h"

/* Whether many can connect to that mechanism's endpoint, and be received from together. */
bool gathering_can(const struct naru_mechanism *row);

/* As endpoint_listen(). The gather is the caller's. */
int gathering_open(const char *url, const struct naru_options *opt, struct naru_gather **ret_g);

/* As naru_gather_borrow(); -ECANCELED after a signal. */
int gathering_borrow(struct naru_gather *g, int64_t timeout_ns, struct naru_view *ret_view,
                     struct naru_gather_from *from);

#endif
