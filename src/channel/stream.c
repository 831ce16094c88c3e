/* SPDX-License-Identifier: MIT */
/*
 * A byte stream made into messages.
 *
 * Receiving. buffer[head, tail) holds bytes that were read and not yet delivered. With read-ahead one read
 * fills as much of it as there is, so that many small messages cost one system call; without, nothing is read
 * beyond the frame that is wanted, so that another process can go on reading where we stopped. The payload of
 * a large frame is not buffered: it is read straight into the caller's memory (`direct` bytes so far). When
 * the caller gives up in the middle of one (a time-out), stream_pause_recv() copies those bytes back into the
 * buffer, and that frame is then completed in the buffer, so that a caller who polls with short time-outs
 * copies each byte once, not once a call.
 *
 * Sending. A frame is one writev. `sent` counts what of the current frame went out; when the caller gives up
 * there, stream_pause_send() copies the rest into `rest`, which goes out before anything else.
 *
 * Descriptors (unix sockets). The kernel attaches a set to the first byte of one sendmsg, and a read ends
 * with the bytes of the send that carried a set (unix_stream_read_generic() in net/unix/af_unix.c). As we
 * never put more frames behind descriptors into one send, a set that came with a read belongs to the last
 * frame that starts in what was read: the frame [s, e) with s < end of the read <= e.
 *
 * Invariants
 * I1  head <= tail <= capacity; `consumed` is the stream offset of buffer[head].
 * I2  direct > 0 only between an attempt that said -EAGAIN (or -EINTR) and the next call of stream_recv() or
 *     stream_pause_recv() with the same message; the buffer then holds the frame's header and the payload's
 *     first bytes, and nothing behind.
 * I3  sent > 0 only likewise for sending; rest_length > 0 only while sent == 0.
 * I4  After `broken` is set no byte is interpreted any more: framing is lost for good.
 */
#include "channel/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "channel/frame.h"

enum {
    BUFFER_SIZE = 128 * 1024,  /* read-ahead; 64 KiB (a pipe's default) and the tail of a message before it */
    BUFFER_KEPT = 1024 * 1024, /* a buffer that had to grow beyond this is shrunk when it is empty again */
    DIRECT_MIN = 8 * 1024,     /* a missing payload this large is read into the caller's memory */
    COPY_MAX =
        4096, /* a frame this small is copied together: cheaper than two pieces in the kernel (measured) */
    BATCH_SIZE = 64 * 1024,
    PIECES = 64, /* of an iovec that is built on the stack */
    PARCELS = 2  /* sets of descriptors waiting for their frame; reading stops while both are used */
};

struct parcel {
    uint64_t chunk_end; /* stream offset of the end of the read they came with */
    size_t count;
    int fds[CHANNEL_FDS_MAX];
};

struct stream {
    enum naru_frame frame;
    bool read_ahead;
    bool ended;         /* read returned 0 */
    const char *broken; /* why framing is lost */
    bool in_buffer;     /* the current frame was paused: complete it in the buffer */
    bool large;         /* the last payload was read straight into the caller's memory; the next may be too */
    uint8_t *buffer;
    size_t capacity, head, tail, scanned, direct;
    uint64_t consumed;
    struct parcel *parcels; /* NULL where the mechanism passes none */
    size_t parcel_count;

    size_t sent;
    uint8_t *rest;
    size_t rest_offset, rest_length, rest_capacity;
    uint8_t *batch;
};

struct stream *stream_new(enum naru_frame frame, bool read_ahead, bool with_fds)
{
    struct stream *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->frame = frame;
    s->read_ahead = read_ahead;
    s->capacity = BUFFER_SIZE;
    s->buffer = malloc(s->capacity);
    if (with_fds)
        s->parcels = calloc(PARCELS, sizeof *s->parcels);
    if (!s->buffer || (with_fds && !s->parcels))
        return stream_free(s);
    return s;
}

struct stream *stream_free(struct stream *s)
{
    if (!s)
        return NULL;
    for (size_t i = 0; i < s->parcel_count; i++)
        for (size_t j = 0; j < s->parcels[i].count; j++)
            (void)fd_close(s->parcels[i].fds[j]);
    free(s->parcels);
    free(s->buffer);
    free(s->rest);
    free(s->batch);
    free(s);
    return NULL;
}

enum naru_frame stream_frame(const struct stream *s)
{
    return s->frame;
}

static size_t held(const struct stream *s)
{
    return s->tail - s->head;
}

size_t stream_held(const struct stream *s)
{
    return held(s);
}

size_t stream_forget(struct stream *s)
{
    size_t forgotten = held(s) + s->direct;

    s->head = s->tail = 0;
    s->scanned = s->direct = 0;
    s->in_buffer = false;
    return forgotten;
}

static int say_broken(struct naru_channel *ch)
{
    return error_set(EPROTO, "%s: the stream is not framed as ?frame=%s says: %s", ch->url,
                     frame_name(ch->stream->frame), ch->stream->broken);
}

static int break_off(struct naru_channel *ch, const char *why)
{
    ch->stream->broken = why;
    return say_broken(ch);
}

static int parse(const struct naru_channel *ch, size_t *scanned, struct frame_span *ret_span)
{
    const struct stream *s = ch->stream;

    return frame_parse(s->frame, s->buffer + s->head, held(s), scanned, ch->max_message, ret_span);
}

bool stream_holds_message(const struct naru_channel *ch)
{
    const struct stream *s = ch->stream;
    size_t scanned = s->scanned;
    struct frame_span span;

    if (s->broken)
        return true;
    if (s->frame == NARU_FRAME_RAW)
        return false;
    if (s->ended)
        return true;
    return parse(ch, &scanned, &span) != FRAME_MORE;
}

/* Makes room for size bytes from head on. 0 or -ENOMEM. */
static int reserve(struct stream *s, size_t size)
{
    uint8_t *larger;

    if (s->capacity - s->head >= size)
        return 0;
    if (s->capacity >= size) {
        memmove(s->buffer, s->buffer + s->head, held(s));
    } else {
        larger = malloc(size);
        if (!larger)
            return -ENOMEM;
        memcpy(larger, s->buffer + s->head, held(s));
        free(s->buffer);
        s->buffer = larger;
        s->capacity = size;
    }
    s->tail -= s->head;
    s->head = 0;
    return 0;
}

/* The frame at head has been delivered. */
static void consume(struct stream *s, size_t length)
{
    s->head += length < held(s) ? length : held(s);
    s->consumed += length;
    s->scanned = 0;
    s->direct = 0;
    s->large = s->in_buffer; /* was large, but its caller gave up inside it */
    s->in_buffer = false;
    if (s->head != s->tail)
        return;
    s->head = s->tail = 0;
    if (s->capacity > BUFFER_KEPT) {
        uint8_t *smaller = realloc(s->buffer, BUFFER_SIZE);

        if (smaller) {
            s->buffer = smaller;
            s->capacity = BUFFER_SIZE;
        }
    }
}

/* Hands the descriptors that belong to the frame [start, start + length) to the message. */
static void deliver_fds(struct naru_channel *ch, struct naru_message *m, uint64_t start, size_t length)
{
    struct stream *s = ch->stream;
    struct parcel *first = s->parcels;

    m->fd_count = 0;
    if (s->parcel_count == 0 || first->chunk_end <= start || first->chunk_end > start + length)
        return;
    channel_give_fds(ch, m, first->fds, first->count);
    s->parcel_count--;
    memmove(first, first + 1, s->parcel_count * sizeof *first);
}

/* Reads into the pieces, minding descriptors. As ops->read. */
static ssize_t read_pieces(struct naru_channel *ch, const struct iovec *iov, int count, bool block)
{
    struct stream *s = ch->stream;
    struct stream_fds fds = {0};
    struct parcel *free_parcel = NULL;
    ssize_t r;

    if (s->parcels && s->parcel_count < PARCELS) {
        free_parcel = &s->parcels[s->parcel_count];
        fds = (struct stream_fds){free_parcel->fds, 0, CHANNEL_FDS_MAX};
    }
    r = ch->ops->read(ch, iov, count, free_parcel ? &fds : NULL, block);
    if (r > 0 && fds.count) {
        free_parcel->count = fds.count;
        free_parcel->chunk_end = s->consumed + held(s) + s->direct + (uint64_t)r;
        s->parcel_count++;
    }
    if (r == 0)
        s->ended = true;
    return r;
}

/*
 * Whether to read no more than the header that is due: always without read-ahead, and with it after a large
 * message, for whatever of the next one came along into the buffer would have to be copied out again.
 */
static bool reads_header_only(const struct stream *s, size_t wanted)
{
    return !s->read_ahead || (s->large && !wanted && s->frame == NARU_FRAME_LEN32);
}

/* Reads more into the buffer: all there is with read-ahead, else no more than surely belongs to this frame.
 * `wanted` is the frame's whole length if that is known, else 0. 0, or a negative as ops->read. */
static int fill(struct naru_channel *ch, size_t wanted, bool block)
{
    struct stream *s = ch->stream;
    size_t missing = wanted ? wanted - held(s) : frame_sure_of(s->frame, held(s));
    size_t size = held(s) + (s->read_ahead && missing < DIRECT_MIN ? DIRECT_MIN : missing);
    struct iovec room;
    ssize_t r;

    /* A delimiter may be as far away as max_message allows: double, or each step would copy all of it. */
    if (!wanted && size > s->capacity)
        size = s->capacity * 2;
    if (reserve(s, size) < 0)
        return error_set(ENOMEM, "%s: out of memory for a message of %zu bytes or more", ch->url,
                         held(s) + missing);
    room.iov_base = s->buffer + s->tail;
    room.iov_len = reads_header_only(s, wanted) ? missing : s->capacity - s->tail;
    r = read_pieces(ch, &room, 1, block);
    if (r > 0)
        s->tail += (size_t)r;
    return r < 0 ? (int)r : 0;
}

/* The pieces of m from offset on, up to offset + length, into iov; returns how many pieces. */
static int slice(const struct naru_message *m, size_t offset, size_t length, struct iovec *iov, int capacity)
{
    int count = 0;

    for (size_t i = 0; i < m->iov_count && length > 0 && count < capacity; i++) {
        struct iovec piece = m->iov[i];

        if (offset >= piece.iov_len) {
            offset -= piece.iov_len;
            continue;
        }
        piece.iov_base = (uint8_t *)piece.iov_base + offset;
        piece.iov_len -= offset;
        offset = 0;
        if (piece.iov_len > length)
            piece.iov_len = length;
        length -= piece.iov_len;
        iov[count++] = piece;
    }
    return count;
}

static void deliver(struct naru_channel *ch, struct naru_message *m, const struct frame_span *span)
{
    struct stream *s = ch->stream;

    m->length = span->length;
    deliver_fds(ch, m, s->consumed, span->end);
    consume(s, span->end);
}

/* Reads the missing payload of a known frame into the caller's memory, and what follows into the buffer's
 * free end if reading ahead. 1 when the frame was delivered, 0 after progress, or a negative as ops->read. */
static int receive_direct(struct naru_channel *ch, struct naru_message *m, const struct frame_span *span,
                          bool block)
{
    struct stream *s = ch->stream;
    size_t buffered = held(s) - span->start;
    size_t missing = span->length - buffered - s->direct;
    struct iovec iov[PIECES + 1];
    int count = slice(m, buffered + s->direct, missing, iov, PIECES);
    bool ahead = s->read_ahead && count < PIECES;
    ssize_t r;

    if (ahead) { /* the next header, so that a run of large messages takes one call each; or all there is */
        size_t room = s->capacity - s->tail, header = frame_sure_of(s->frame, 0);

        iov[count].iov_base = s->buffer + s->tail;
        iov[count++].iov_len = s->frame == NARU_FRAME_LEN32 && header < room ? header : room;
    }
    r = read_pieces(ch, iov, count, block);
    if (r <= 0)
        return (int)r;
    if ((size_t)r < missing) {
        s->direct += (size_t)r;
        return 0;
    }
    message_scatter(m, 0, s->buffer + s->head + span->start, buffered);
    s->direct += missing;
    m->length = span->length;
    deliver_fds(ch, m, s->consumed, span->end);
    /* What was read ahead stands at tail, behind the frame's buffered start: drop that start, keep the rest.
     */
    s->head = s->tail;
    s->tail += (size_t)r - missing;
    s->consumed += span->end;
    s->scanned = s->direct = 0;
    s->large = true;
    if (s->head == s->tail)
        s->head = s->tail = 0;
    return 1;
}

/* The stream has ended. Delivers an unterminated last line (1), or says how it ended. */
static int at_end(struct naru_channel *ch, struct naru_message *m, size_t room)
{
    struct stream *s = ch->stream;
    struct frame_span last = {.length = held(s), .end = held(s)};

    if (held(s) + s->direct == 0)
        return channel_peer_gone(ch);
    if (!frame_end_completes(s->frame))
        return break_off(ch, "it ended inside a message");
    if (last.length > room)
        return channel_no_room(ch, last.length, room);
    message_scatter(m, 0, s->buffer + s->head, last.length);
    deliver(ch, m, &last);
    return 1;
}

static int receive_raw(struct naru_channel *ch, struct naru_message *m, size_t room, bool block)
{
    struct stream *s = ch->stream;
    struct iovec iov[PIECES];
    ssize_t r;

    if (s->ended)
        return channel_peer_gone(ch);
    if (room == 0)
        return error_set(EINVAL, "%s: a raw stream needs room for at least one byte", ch->url);
    r = read_pieces(ch, iov, slice(m, 0, room, iov, PIECES), block);
    if (r < 0)
        return (int)r;
    if (r == 0)
        return channel_peer_gone(ch);
    m->length = (size_t)r;
    deliver_fds(ch, m, s->consumed, (size_t)r);
    s->consumed += (uint64_t)r;
    return 0;
}

int stream_recv(struct naru_channel *ch, struct naru_message *m, bool block)
{
    struct stream *s = ch->stream;
    size_t room = message_length(m);

    if (s->broken)
        return say_broken(ch);
    if (s->frame == NARU_FRAME_RAW)
        return receive_raw(ch, m, room, block);
    for (;;) {
        struct frame_span span;
        int r = parse(ch, &s->scanned, &span);

        if (r < 0)
            return break_off(ch, span.complaint);
        if ((r == FRAME_WHOLE || span.known) && span.length > room)
            return channel_no_room(ch, span.length, room);
        if (r == FRAME_WHOLE) {
            message_scatter(m, 0, s->buffer + s->head + span.start, span.length);
            deliver(ch, m, &span);
            return 0;
        }
        if (s->ended) {
            r = at_end(ch, m, room);
            return r == 1 ? 0 : r;
        }
        if (span.known && !s->in_buffer && (!s->read_ahead || s->direct || span.end - held(s) >= DIRECT_MIN))
            r = receive_direct(ch, m, &span, block);
        else
            r = fill(ch, span.known ? span.end : 0, block);
        if (r != 0)
            return r == 1 ? 0 : r;
    }
}

int stream_pause_recv(struct naru_channel *ch, const struct naru_message *m)
{
    struct stream *s = ch->stream;
    struct frame_span span;
    struct iovec iov[PIECES];
    size_t buffered, copied = 0;

    if (s->direct == 0)
        return 0;
    (void)parse(ch, &s->scanned, &span); /* known: I2 */
    buffered = held(s) - span.start;
    if (reserve(s, span.end) < 0) {
        s->broken = "memory ran out inside a message";
        return -ENOMEM;
    }
    while (copied < s->direct) {
        int count = slice(m, buffered + copied, s->direct - copied, iov, PIECES);

        for (int i = 0; i < count; i++) {
            memcpy(s->buffer + s->tail, iov[i].iov_base, iov[i].iov_len);
            s->tail += iov[i].iov_len;
            copied += iov[i].iov_len;
        }
    }
    s->direct = 0;
    s->in_buffer = true;
    return 0;
}

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

        count += slice(m, offset, length - offset, iov + count, capacity - count - 1);
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
    return error_set(
        EINVAL, "%s: the message has a %s at byte %zu, which would end it with ?frame=%s; use ?frame=len32",
        ch->url, frame == NARU_FRAME_LINE ? "newline" : "NUL", offset, frame_name(frame));
}

/* A frame that is small, whole and without descriptors goes as one piece. Returns its length, or 0 if it is
 * not. */
static size_t copy_small(const struct naru_message *m, const struct frame_mark *mark, size_t length,
                         uint8_t small[static COPY_MAX])
{
    size_t total = mark->header_length + length + mark->trailer_length;

    if (total > COPY_MAX)
        return 0;
    memcpy(small, mark->header, mark->header_length);
    message_gather(m, small + mark->header_length, length);
    memcpy(small + mark->header_length + length, mark->trailer, mark->trailer_length);
    return total;
}

int stream_send(struct naru_channel *ch, const struct naru_message *m, bool block)
{
    struct stream *s = ch->stream;
    size_t length = message_length(m), total;
    struct frame_mark mark;
    uint8_t small[COPY_MAX];
    int r = s->rest_length ? stream_write_rest(ch, block) : 0;

    if (r == 0)
        r = make_mark(ch, m, length, &mark);
    if (r < 0)
        return r;
    total = mark.header_length + length + mark.trailer_length;
    while (s->sent < total) {
        struct stream_fds fds = {m->fds, m->fd_count, m->fd_count};
        struct iovec iov[PIECES];
        ssize_t written;
        int count = 1;

        iov[0].iov_base = small;
        iov[0].iov_len = s->sent ? 0 : copy_small(m, &mark, length, small);
        if (iov[0].iov_len == 0)
            count = frame_slice(m, &mark, length, s->sent, iov, PIECES);
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
        struct iovec iov[PIECES];
        int count = frame_slice(m, &mark, length, s->sent, iov, PIECES);

        for (int i = 0; i < count; i++) {
            if (keep_rest(s, iov[i].iov_base, iov[i].iov_len) < 0)
                return error_set(
                    ENOMEM,
                    "%s: out of memory to keep the rest of a message; the stream is cut off inside it",
                    ch->url);
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
    size_t ends[FRAMES], written = 0;
    ssize_t packed, count = 0;
    int r = s->rest_length ? stream_write_rest(ch, block) : 0;

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
        struct iovec piece = {s->batch + written, ends[packed - 1] - written};
        ssize_t w = ch->ops->write(ch, &piece, 1, NULL, block);

        if (w < 0 && written == 0)
            return w;
        if (w < 0)
            break;
        written += (size_t)w;
    } while (block && written < ends[packed - 1]);
    while (count < packed && ends[count] <= written)
        count++;
    /* Cut inside frame `count`: its rest is kept, and it counts as sent (see naru_send_batch()). */
    if (count < packed && written > (count ? ends[count - 1] : 0)) {
        if (keep_rest(s, s->batch + written, ends[count] - written) < 0)
            return error_set(ENOMEM,
                             "%s: out of memory to keep the rest of a batch; the stream is cut off inside it",
                             ch->url);
        count++;
    }
    return count;
}
