/* SPDX-License-Identifier: MIT */
/*
 * Attempts on descriptors that are written with write(2): pipes, FIFOs, terminals, whatever was inherited.
 * The read and write of these mechanisms' channel_ops; see pipe-io.c for how they keep from sleeping and from
 * SIGPIPE.
 */
#ifndef NARU_CHANNEL_PIPE_IO_H
#define NARU_CHANNEL_PIPE_IO_H

#include "channel/channel.h"

ssize_t pipe_io_write(struct naru_channel *ch, const struct iovec *iov, int count,
                      const struct stream_fds *fds, bool block);
ssize_t pipe_io_read(struct naru_channel *ch, const struct iovec *iov, int count, struct stream_fds *fds,
                     bool block);

/* Their short ways: see channel_ops. */
int pipe_io_send_bytes(struct naru_channel *ch, const void *data, size_t length);
ssize_t pipe_io_recv_bytes(struct naru_channel *ch, void *buf, size_t capacity, int64_t timeout_ns);

/* In a row of channel_ops. */
#define PIPE_IO                                                                                              \
    .write = pipe_io_write, .read = pipe_io_read, .send_bytes = pipe_io_send_bytes,                          \
    .recv_bytes = pipe_io_recv_bytes

/* Bytes in the pipe that nobody has read, or -EPIPE where nobody is left to read them: the untaken of these
 * mechanisms. */
int64_t pipe_io_untaken(struct naru_channel *ch);

/* Asks for a pipe buffer of opt->buffer bytes, if that is set. 0 or an explained -errno. */
int pipe_io_set_buffer(const char *url, int fd, const struct naru_options *opt);

#endif
