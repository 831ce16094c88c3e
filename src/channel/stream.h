/* SPDX-License-Identifier: MIT */
/*
 * A byte stream made into messages: framing (frame.h) over the mechanism's read and write attempts, with
 * read-ahead and batches. See stream.c for how a large message avoids a copy and how a time-out inside one
 * loses nothing.
 */
#ifndef NARU_CHANNEL_STREAM_H
#define NARU_CHANNEL_STREAM_H

#include "channel/channel.h"

struct stream *stream_new(enum naru_frame frame, bool read_ahead, bool with_fds);
struct stream *stream_free(struct stream *s);

enum naru_frame stream_frame(const struct stream *s);

/* Bytes that were read ahead and not delivered. */
size_t stream_held(const struct stream *s);

/* For ops->read, when it has nothing more: drops what was read of the message that is still incomplete.
 * Returns how many bytes that were. */
size_t stream_forget(struct stream *s);

/* The send, send_batch and recv of every byte-stream mechanism's channel_ops. */
int stream_send(struct naru_channel *ch, const struct naru_message *m, bool block);
ssize_t stream_send_batch(struct naru_channel *ch, const struct naru_message *m, size_t n, bool block);
int stream_recv(struct naru_channel *ch, struct naru_message *m, bool block);

/* In a row of channel_ops. */
#define STREAM_MESSAGES .send = stream_send, .send_batch = stream_send_batch, .recv = stream_recv

/* The caller gives up on the attempt that last said -EAGAIN. What was received of the message so far is kept
 * for the next. 0 or -ENOMEM (then the stream is broken, and says so from now on). */
int stream_pause_recv(struct naru_channel *ch, const struct naru_message *m);

/* Likewise for sending: 0 if nothing of m was written, -EINPROGRESS if the rest is now kept here, -ENOMEM
 * (then nothing can be sent any more, and each send says so). */
int stream_pause_send(struct naru_channel *ch, const struct naru_message *m);

/* The attempt ended in an error: if that was in the middle of a message, nothing can follow it, unless there
 * is nobody left to see it. */
void stream_abandon_send(struct stream *s, bool receiver_gone);

/* Writes what stream_pause_send() kept: 0 when none is left, or what ops->write says. */
int stream_write_rest(struct naru_channel *ch, bool block);
bool stream_has_rest(const struct stream *s);

/* Whether stream_recv() would return at once without reading: for the level-triggered fd. */
bool stream_holds_message(const struct naru_channel *ch);

#endif
