/* SPDX-License-Identifier: MIT */
/* The rows of table.c, each defined in the file of its mechanism. */
#ifndef NARU_CHANNEL_TABLE_H
#define NARU_CHANNEL_TABLE_H

#include "channel/channel.h"

extern const struct channel_ops pipe_ops;
extern const struct channel_ops fifo_ops;
extern const struct channel_ops file_ops;
extern const struct channel_ops exec_ops;
extern const struct channel_ops fd_ops, stdio_ops;
extern const struct channel_ops unix_stream_ops, unix_seqpacket_ops, unix_dgram_ops;
extern const struct channel_ops tcp_ops;
extern const struct channel_ops udp_ops;
extern const struct channel_ops sysvmq_ops;
extern const struct channel_ops posixmq_ops;
extern const struct channel_ops shm_ops, shm_posix_ops, shm_sysv_ops;
extern const struct channel_ops signal_ops;

#endif
