/* SPDX-License-Identifier: MIT */
/*
 * Receiving messages from a byte stream.
 *
 * buffer[head, tail) holds bytes that were read and not yet delivered. With read-ahead one read fills as much
 * of it as there is, so that many small messages cost one system call; without, nothing is read beyond the
 * frame that is wanted, so that another process can go on reading where we stopped. The payload of a large
 * frame is not buffered: it is read straight into the caller's memory (`direct` bytes so far). When the
 * caller gives up in the middle of one (a time-out), stream_pause_recv() copies those bytes back into the
 * buffer, and that frame is then completed in the buffer, so that a caller who polls with short time-outs
 * copies each byte once, not once a call.
 *
 * Descriptors (unix sockets). The kernel attaches a set to the first byte of one sendmsg, and a read ends
 * with the bytes of the send that carried a set (unix_stream_read_generic() in net/unix/af_unix.c). As we
 * never put more frames behind descriptors into one send, a set that came with a read belongs to the last
 * frame that starts in what was read: the frame [s, e) with s < end of the read <= e.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "channel/frame.h"
#include "channel/stream-plain.h"

enum { DIRECT_MIN = 8 * 1024 }; /* a missing payload this large is read into the caller's memory */

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
    enum naru_frame frame = ch->stream->frame;

    return error_set(EPROTO, "%s: the stream is not framed as ?frame=%s says: %s%s", ch->url,
                     frame_name(frame), ch->stream->broken,
                     frame == NARU_FRAME_LEN32 ? "; ?frame=line receives lines of text, ?frame=raw any bytes"
                                               : "");
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

void stream_shrink(struct stream *s)
{
    uint8_t *smaller = realloc(s->buffer, STREAM_BUFFER);

    if (smaller) {
        s->buffer = smaller;
        s->capacity = STREAM_BUFFER;
    }
}

/* Hands the descriptors that belong to the frame [start, start + length) to the message. Only a peer that is
 * not naru attaches more than one set to a frame, or a set to none: these are closed and counted. */
static void deliver_parcels(struct naru_channel *ch, struct naru_message *m, uint64_t start, size_t length)
{
    struct stream *s = ch->stream;
    struct naru_message nobody = {.size = sizeof nobody};

    while (s->parcel_count > 0 && s->parcels[0].chunk_end <= start + length) {
        struct stream_parcel *first = &s->parcels[0];
        bool mine = first->chunk_end > start && m->fd_count == 0;

        channel_give_fds(ch, mine ? m : &nobody, first->fds, first->count);
        s->parcel_count--;
        memmove(first, first + 1, s->parcel_count * sizeof *first);
    }
}

static void deliver_fds(struct naru_channel *ch, struct naru_message *m, uint64_t start, size_t length)
{
    m->fd_count = 0;
    if (ch->stream->parcel_count > 0)
        deliver_parcels(ch, m, start, length);
}

ssize_t stream_read(struct naru_channel *ch, const struct iovec *iov, int count, bool block)
{
    struct stream *s = ch->stream;
    struct stream_fds fds = {0};
    struct stream_parcel *free_parcel = NULL;
    ssize_t r;

    if (s->parcels && s->parcel_count < STREAM_PARCELS) {
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
    r = stream_read(ch, &room, 1, block);
    if (r > 0)
        s->tail += (size_t)r;
    return r < 0 ? (int)r : 0;
}

static void deliver(struct naru_channel *ch, struct naru_message *m, const struct frame_span *span)
{
    struct stream *s = ch->stream;

    m->length = span->length;
    deliver_fds(ch, m, s->consumed, span->end);
    stream_consume(s, span->end);
}

/* Reads the missing payload of a known frame into the caller's memory, and what follows into the buffer's
 * free end if reading ahead. 1 when the frame was delivered, 0 after progress, or a negative as ops->read. */
static int receive_direct(struct naru_channel *ch, struct naru_message *m, const struct frame_span *span,
                          bool block)
{
    struct stream *s = ch->stream;
    size_t buffered = held(s) - span->start;
    size_t missing = span->length - buffered - s->direct;
    struct iovec iov[STREAM_PIECES + 1];
    int count = stream_slice(m, buffered + s->direct, missing, iov, STREAM_PIECES);
    bool ahead = s->read_ahead && count < STREAM_PIECES;
    ssize_t r;

    if (ahead) { /* the next header, so that a run of large messages takes one call each; or all there is */
        size_t room = s->capacity - s->tail, header = frame_sure_of(s->frame, 0);

        iov[count].iov_base = s->buffer + s->tail;
        iov[count++].iov_len = s->frame == NARU_FRAME_LEN32 && header < room ? header : room;
    }
    r = stream_read(ch, iov, count, block);
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
    s->large = span->length >= STREAM_LARGE;
    if (s->head == s->tail)
        s->head = s->tail = 0;
    return 1;
}

/* The stream has ended. Delivers an unterminated last line (1) as text tools do, unless its sender is known
 * to have been killed in the middle of it; or says how it ended. */
static int at_end(struct naru_channel *ch, struct naru_message *m, size_t room)
{
    struct stream *s = ch->stream;
    struct frame_span last = {.length = held(s), .end = held(s)};

    if (held(s) + s->direct == 0)
        return channel_peer_gone(ch);
    if (!frame_end_completes(s->frame) || channel_peer_gone(ch) == -EOWNERDEAD)
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
    struct iovec iov[STREAM_PIECES];
    ssize_t r;

    if (s->ended)
        return channel_peer_gone(ch);
    if (room == 0)
        return error_set(EINVAL, "%s: a raw stream needs room for at least one byte", ch->url);
    r = stream_read(ch, iov, stream_slice(m, 0, room, iov, STREAM_PIECES), block);
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
        int r;

        if (m->iov_count == 1 && plain_take(ch, m->iov->iov_base, room, &m->length)) {
            m->fd_count = 0;
            return 0;
        }
        r = parse(ch, &s->scanned, &span);

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

int stream_recv_large(struct naru_channel *ch, void *buf, size_t capacity, size_t *ret_length)
{
    enum { HEADER = sizeof(uint32_t) };
    struct stream *s = ch->stream;
    size_t room = capacity < s->capacity - HEADER ? capacity : s->capacity - HEADER;
    struct iovec iov[2] = {{s->buffer, HEADER}, {buf, room}};
    ssize_t n = stream_read(ch, iov, 2, true);
    size_t payload = n > HEADER ? (size_t)n - HEADER : 0, length;

    if (n <= 0)
        return (int)n;
    s->tail = (size_t)n - payload;
    length = plain_announced(ch, capacity);
    if (length == 0 || s->parcel_count) { /* the long way wants all of it where it looks for it */
        memcpy(s->buffer + s->tail, buf, payload);
        s->tail += payload;
        return 0;
    }
    if (payload < length) {
        s->direct = payload;
        return 0;
    }
    stream_consume(s, HEADER);
    s->consumed += length;
    s->large = length >= STREAM_LARGE;
    s->tail = payload - length; /* of what follows it */
    memcpy(s->buffer, (const uint8_t *)buf + length, s->tail);
    *ret_length = length;
    return 1;
}

int stream_pause_recv(struct naru_channel *ch, const struct naru_message *m)
{
    struct stream *s = ch->stream;
    struct frame_span span;
    struct iovec iov[STREAM_PIECES];
    size_t buffered, copied = 0;

    if (s->direct == 0)
        return 0;
    (void)parse(ch, &s->scanned, &span); /* known: I2 */
    buffered = held(s) - span.start;
    if (reserve(s, span.end) < 0) {
        s->broken = "memory ran out inside a message";
        s->direct = 0; /* lost with the caller's memory, which may be another next time (I2) */
        return -ENOMEM;
    }
    while (copied < s->direct) {
        int count = stream_slice(m, buffered + copied, s->direct - copied, iov, STREAM_PIECES);

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
