/* SPDX-License-Identifier: MIT */
/* The reading side of file: (file.c has the row and the appending side). */
#ifndef NARU_CHANNEL_FILE_FOLLOW_H
#define NARU_CHANNEL_FILE_FOLLOW_H

#include "channel/channel.h"
#include "channel/file-open.h"

/* Waits for the file. */
int file_follow(struct naru_channel *ch, struct url *url, const struct file_options *options,
                const struct naru_options *opt, int64_t deadline);

/* These are file_ops', for a reader. */
int file_listen(struct naru_listener *l, struct url *url, const struct naru_options *opt);
int file_accept(struct naru_listener *l, struct naru_channel *ch);
void file_unlisten(struct naru_listener *l, bool owner);
ssize_t file_read(struct naru_channel *ch, const struct iovec *iov, int count, struct stream_fds *fds,
                  bool block);
int file_wait(struct naru_channel *ch, int event, int64_t deadline);
bool file_holds(struct naru_channel *ch);
void file_unfollow(struct naru_channel *ch);

#endif
