/* SPDX-License-Identifier: MIT */
/* What fifo.c (listening, removing) and fifo-connect.c share. */
#ifndef NARU_CHANNEL_FIFO_H
#define NARU_CHANNEL_FIFO_H

#include "channel/channel.h"

/* Of fifo_ops: see channel_ops. */
int fifo_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt, int64_t deadline);

/* Of who listens; who connects takes them, too, as one URL is to serve both, and only checks them. */
struct fifo_options {
    bool many;   /* several may read, raw */
    bool keep;   /* channels hold a write end, so that they never see the last writer go */
    bool unlink; /* remove the FIFO when the listener closes */
};

/* 0 or -EINVAL with what was expected. */
int fifo_parse_options(struct url *url, const struct naru_options *opt, struct fifo_options *ret_options);

/* -EINVAL, explained, if the URL has no path; else 0. */
int fifo_check_path(const struct url *url);

/* What is said, each an explained -errno: of a path that leads to something else; of the wrong direction
 * ("listens", "receives"); of open(2), whose errno stands ("read from it"). */
int fifo_is_none(const char *url, const char *path);
int fifo_wrong_direction(const struct url *url, const char *call, const char *does);
int fifo_open_failed(const struct url *url, const char *what);

#endif
