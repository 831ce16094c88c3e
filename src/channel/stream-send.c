/* SPDX-License-Identifier: MIT */
/*
 * Sending messages into a byte stream. A frame is one write. `sent` counts what of the current frame went
 * out; when the caller gives up there, stream_pause_send() copies the rest into `rest`, which goes out before
 * anything else.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "channel/frame.h"
#include "channel/pipe-io.h"
#include "channel/stream-plain.h"

/* PIPE_PIECE: of one write into a pipe, which has room for 64 KiB: who fills it whole sleeps while its reader
 * copies, who sleeps while it is filled again. With a quarter of it a batch of 64 messages of 1 KiB takes
 * some half of the time; sockets, which have more room, take longer by pieces. */
enum { BATCH_SIZE = 64 * 1024, PIPE_PIECE = 16 * 1024 };

bool stream_has_rest(const struct stream *s)
{
    return s->rest_length > 0;
}

int stream_write_rest(struct naru_channel *ch, bool block)
{
    struct stream *s = ch->stream;

    while (s->rest_length > 0) {
        struct iovec piece = {s->rest + s->rest_offset, s->rest_length};
        ssize_t r = ch->ops->write(ch, &piece, 1, NULL, block);

        if (r < 0)
            return (int)r;
        s->rest_offset += (size_t)r;
        s->rest_length -= (size_t)r;
    }
    s->rest_offset = 0;
    return 0;
}

/* Appends bytes to the rest. 0 or -ENOMEM. */
static int keep_rest(struct stream *s, const void *data, size_t length)
{
    size_t needed = s->rest_offset + s->rest_length + length;

    if (needed > s->rest_capacity) {
        uint8_t *larger = realloc(s->rest, needed);

        if (!larger)
            return -ENOMEM;
        s->rest = larger;
        s->rest_capacity = needed;
    }
    if (length)
        memcpy(s->rest + s->rest_offset + s->rest_length, data, length);
    s->rest_length += length;
    return 0;
}

/* The frame of m from byte `skip` on as pieces. */
static int frame_slice(const struct naru_message *m, const struct frame_mark *mark, size_t length,
                       size_t skip, struct iovec *iov, int capacity)
{
    int count = 0;
    size_t behind = mark->header_length + length;

    if (skip < mark->header_length)
        iov[count++] = (struct iovec){(void *)(uintptr_t)(mark->header + skip), mark->header_length - skip};
    if (skip < behind) {
        size_t offset = skip > mark->header_length ? skip - mark->header_length : 0;

        count += stream_slice(m, offset, length - offset, iov + count, capacity - count - 1);
    }
    if (skip <= behind && mark->trailer_length && count < capacity) {
        size_t reached = 0;

        for (int i = 0; i < count; i++)
            reached += iov[i].iov_len;
        if (skip + reached == behind) /* all pieces of the payload found place */
            iov[count++] = (struct iovec){(void *)(uintptr_t)mark->trailer, mark->trailer_length};
    }
    return count;
}

static int make_mark(struct naru_channel *ch, const struct naru_message *m, size_t length,
                     struct frame_mark *ret_mark)
{
    enum naru_frame frame = ch->stream->frame;
    size_t offset;

    if (frame == NARU_FRAME_RAW && length == 0)
        return error_set(EINVAL, "%s: a raw stream cannot carry an empty message; use ?frame=len32", ch->url);
    if (frame_make_mark(frame, m, length, ret_mark, &offset) == 0)
        return 0;
    return error_set(EINVAL,
                     "%s: the message has a %s at byte %zu, which would end it with ?frame=%s; use "
                     "?frame=len32, or `naru cat` for bytes as they are",
                     ch->url, frame == NARU_FRAME_LINE ? "newline" : "NUL", offset, frame_name(frame));
}

/* A frame that is small, whole and without descriptors goes as one piece. Returns its length, or 0 if it is
 * not. */
static size_t copy_small(const struct naru_message *m, const struct frame_mark *mark, size_t length,
                         uint8_t small[static STREAM_COPY_MAX])
{
    size_t total = mark->header_length + length + mark->trailer_length;

    if (total > STREAM_COPY_MAX)
        return 0;
    memcpy(small, mark->header, mark->header_length);
    message_gather(m, small + mark->header_length, length);
    memcpy(small + mark->header_length + length, mark->trailer, mark->trailer_length);
    return total;
}

/* Before a frame: what was kept of the one before it goes first, and nothing follows half of one. */
static int begin(struct naru_channel *ch, bool block)
{
    struct stream *s = ch->stream;

    if (__builtin_expect(s->cut, 0))
        return error_set(
            EPROTO, "%s: an earlier error cut a message off half-way; close the channel and open another",
            ch->url);
    return s->rest_length ? stream_write_rest(ch, block) : 0;
}

void stream_abandon_send(struct stream *s, bool receiver_gone)
{
    s->cut = s->cut || (!receiver_gone && (s->sent > 0 || s->rest_length > 0));
    s->sent = s->rest_length = s->rest_offset = 0;
}

/* As channel_sent() takes it. */
static int send_plain(struct naru_channel *ch, const void *payload, size_t length, bool block)
{
    uint8_t frame[STREAM_COPY_MAX];
    struct iovec piece = {frame, plain_frame(frame, payload, length)};
    ssize_t written = ch->ops->write(ch, &piece, 1, NULL, block);

    return written < 0 ? (int)written : plain_sent(ch->stream, length, (size_t)written);
}

int stream_send(struct naru_channel *ch, const struct naru_message *m, bool block)
{
    struct stream *s = ch->stream;
    size_t length = message_length(m), total;
    struct frame_mark mark;
    uint8_t small[STREAM_COPY_MAX];
    int r;

    if (m->iov_count == 1 && !m->fd_count && plain_can_send(s, length)) {
        r = send_plain(ch, m->iov->iov_base, length, block);
        if (r != 0)
            return r == 1 ? 0 : r;
    }
    r = begin(ch, block);
    if (r == 0)
        r = make_mark(ch, m, length, &mark);
    if (r < 0)
        return r;
    total = mark.header_length + length + mark.trailer_length;
    while (s->sent < total) {
        struct stream_fds fds = {m->fds, m->fd_count, m->fd_count};
        struct iovec iov[STREAM_PIECES];
        ssize_t written;
        int count = 1;

        iov[0].iov_base = small;
        iov[0].iov_len = s->sent ? 0 : copy_small(m, &mark, length, small);
        if (iov[0].iov_len == 0)
            count = frame_slice(m, &mark, length, s->sent, iov, STREAM_PIECES);
        written = ch->ops->write(ch, iov, count, m->fd_count && !s->sent ? &fds : NULL, block);
        if (written < 0)
            return (int)written;
        s->sent += (size_t)written;
    }
    s->sent = 0;
    return 0;
}

int stream_pause_send(struct naru_channel *ch, const struct naru_message *m)
{
    struct stream *s = ch->stream;
    size_t length = message_length(m), total;
    struct frame_mark mark;

    if (s->sent == 0)
        return 0;
    (void)make_mark(ch, m, length, &mark); /* succeeded when the first bytes were sent */
    total = mark.header_length + length + mark.trailer_length;
    while (s->sent < total) {
        struct iovec iov[STREAM_PIECES];
        int count = frame_slice(m, &mark, length, s->sent, iov, STREAM_PIECES);

        for (int i = 0; i < count; i++) {
            if (keep_rest(s, iov[i].iov_base, iov[i].iov_len) < 0) {
                stream_abandon_send(s, false);
                return error_set(ENOMEM,
                                 "%s: out of memory to keep the rest of a message; the stream is cut off "
                                 "inside it: close the channel",
                                 ch->url);
            }
            s->sent += iov[i].iov_len;
        }
    }
    s->sent = 0;
    return error_set(EINPROGRESS, "%s: part of the message is sent; the rest goes out first at the next call",
                     ch->url);
}

/* Puts whole frames behind each other. Returns how many fit; *ret_ends[i] is where frame i ends. */
static ssize_t pack(struct naru_channel *ch, const struct naru_message *m, size_t n, size_t *ends,
                    size_t capacity)
{
    struct stream *s = ch->stream;
    size_t used = 0, count = 0;

    for (; count < n && count < capacity; count++) {
        const struct naru_message *one = message_at(m, count);
        size_t length = message_length(one);
        struct frame_mark mark;
        int r;

        if (one->fd_count || length > ch->max_message || length > BATCH_SIZE / 4)
            break;
        r = make_mark(ch, one, length, &mark);
        if (r < 0)
            return count ? (ssize_t)count : r;
        if (used + mark.header_length + length + mark.trailer_length > BATCH_SIZE)
            break;
        memcpy(s->batch + used, mark.header, mark.header_length);
        used += mark.header_length;
        used += message_gather(one, s->batch + used, length);
        memcpy(s->batch + used, mark.trailer, mark.trailer_length);
        used += mark.trailer_length;
        ends[count] = used;
    }
    return (ssize_t)count;
}

ssize_t stream_send_batch(struct naru_channel *ch, const struct naru_message *m, size_t n, bool block)
{
    enum { FRAMES = 1024 };
    struct stream *s = ch->stream;
    size_t most = ch->ops->write == pipe_io_write ? PIPE_PIECE : BATCH_SIZE;
    size_t ends[FRAMES], written = 0;
    bool whole;
    ssize_t packed, count = 0;
    int r = begin(ch, block);

    if (r < 0)
        return r;
    if (!s->batch && !(s->batch = malloc(BATCH_SIZE)))
        return error_set(ENOMEM, "%s: out of memory for a batch", ch->url);
    packed = s->sent ? 0 : pack(ch, m, n, ends, FRAMES);
    if (packed < 0)
        return packed;
    if (packed == 0) { /* large, with descriptors, or begun: on its own */
        r = stream_send(ch, m, block);
        return r < 0 ? r : 1;
    }
    do {
        size_t left = ends[packed - 1] - written;
        struct iovec piece = {s->batch + written, left < most ? left : most};
        ssize_t w = ch->ops->write(ch, &piece, 1, NULL, block);

        if (w < 0 && written == 0)
            return w;
        if (w < 0)
            break; /* said again by the next call, if it is not -EAGAIN */
        written += (size_t)w;
        whole = (size_t)w == piece.iov_len;
    } while ((block || whole) && written < ends[packed - 1]);
    while (count < packed && ends[count] <= written)
        count++;
    /* Cut inside frame `count`: its rest is kept, and it counts as sent (see naru_send_batch()). */
    if (count < packed && written > (count ? ends[count - 1] : 0)) {
        if (keep_rest(s, s->batch + written, ends[count] - written) == 0) {
            count++;
        } else {
            s->cut = true; /* the next call says so; those before it went out whole */
            if (count == 0)
                return error_set(ENOMEM,
                                 "%s: out of memory to keep the rest of a message; the stream is cut off "
                                 "inside it: close the channel",
                                 ch->url);
        }
    }
    return count;
}
