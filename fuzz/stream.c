/* SPDX-License-Identifier: MIT */
/*
 * A byte-stream channel over a mechanism made up here, whose reads and writes are as short, as interrupted
 * and as unready as the input says. Messages are sent through it, the bytes are damaged or cut (or not), and
 * then received. What must hold besides not crashing:
 *
 *   - the bytes written are the frames of the messages that counted as sent, whole and in order, however the
 *     writes were cut: 0 and -EINPROGRESS mean sent, -EAGAIN means that nothing of it was;
 *   - what is received is what frame_parse() finds in the bytes at once, whatever the pieces they come in, in
 *     however many pieces of memory, into a new buffer each time the caller gave up inside a message;
 *   - a message that was too large for the caller is kept;
 *   - the end is told as it is: -EPIPE between messages, -EPROTO inside one or where the framing is broken.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/uio.h>

#include "channel/channel.h"
#include "channel/frame.h"
#include "channel/stream.h"
#include "check.h"

enum {
    MESSAGES = 12,
    LENGTH_MAX = 20000, /* beyond what is received through the buffer */
    LIMIT = 30000,
    PIECES = 3
};

static const uint8_t *script;
static size_t script_left;

/* The next byte of the input; 255 when it is used up, which means "go on" everywhere below. */
static unsigned next(void)
{
    if (script_left == 0)
        return 255;
    script_left--;
    return *script++;
}

/* The wire: what was written, and how much of it was read. */
static struct {
    uint8_t *bytes;
    size_t length, read, capacity;
} wire;

/* How many of `most` bytes a call moves, or -EAGAIN, or -EINTR. */
static ssize_t amount(size_t most)
{
    unsigned choice = next();

    if (choice == 0)
        return -EAGAIN;
    if (choice == 1)
        return -EINTR;
    if (choice < 64 && choice < most)
        return choice;
    if (choice < 240)
        return (ssize_t)(1 + (most - 1) * choice / 240);
    return (ssize_t)most;
}

static size_t total(const struct iovec *iov, int count)
{
    size_t sum = 0;

    for (int i = 0; i < count; i++)
        sum += iov[i].iov_len;
    return sum;
}

static ssize_t wire_write(struct naru_channel *ch, const struct iovec *iov, int count,
                          const struct stream_fds *fds, bool block)
{
    ssize_t r = amount(total(iov, count));
    size_t left;

    (void)ch;
    CHECK(!fds && !block);
    if (r < 0)
        return r;
    left = (size_t)r;
    CHECK(wire.length + left <= wire.capacity);
    for (int i = 0; i < count && left; i++) {
        size_t n = iov[i].iov_len < left ? iov[i].iov_len : left;

        if (n)
            memcpy(wire.bytes + wire.length, iov[i].iov_base, n);
        wire.length += n;
        left -= n;
    }
    return r;
}

static ssize_t wire_read(struct naru_channel *ch, const struct iovec *iov, int count, struct stream_fds *fds,
                         bool block)
{
    size_t left = wire.length - wire.read, room = total(iov, count);
    ssize_t r;

    (void)ch;
    CHECK(!fds && !block && room > 0);
    if (left == 0)
        return 0;
    r = amount(room < left ? room : left);
    if (r < 0)
        return r;
    left = (size_t)r;
    for (int i = 0; i < count && left; i++) {
        size_t n = iov[i].iov_len < left ? iov[i].iov_len : left;

        if (n)
            memcpy(iov[i].iov_base, wire.bytes + wire.read, n);
        wire.read += n;
        left -= n;
    }
    return r;
}

static const struct channel_ops ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "made-up",
            .scheme = "made-up",
            .capabilities = NARU_CAN_DUPLEX | NARU_CAN_FRAME | NARU_CAN_SEND_EMPTY | NARU_CAN_PUSH_BACK},
    .send = stream_send,
    .send_batch = stream_send_batch,
    .recv = stream_recv,
    .write = wire_write,
    .read = wire_read,
};

static struct naru_channel *open_channel(enum naru_frame frame, bool read_ahead)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch;

    options.frame = frame;
    options.max_message = LIMIT;
    options.read_ahead = read_ahead ? NARU_CHOICE_YES : NARU_CHOICE_NO;
    CHECK(channel_new_owned(&ops, "made-up:", &options, &ch) == 0);
    ch->direction = NARU_DIRECTION_BOTH;
    CHECK(channel_make_stream(ch, &options, NARU_FRAME_LEN32, false) == 0);
    return ch;
}

/* Memory for a message in pieces as the input says. */
struct pieces {
    struct iovec iov[PIECES];
    uint8_t *bytes; /* one block of exactly the length, so that ASan sees a byte too many */
};

static struct naru_message cut_in_pieces(struct pieces *p, size_t length)
{
    struct naru_message m = NARU_INIT(struct naru_message);
    size_t first = length ? next() * length / 255 : 0, second = (length - first) / 2;

    p->bytes = malloc(length);
    CHECK(p->bytes || length == 0);
    p->iov[0] = (struct iovec){p->bytes, first};
    p->iov[1] = (struct iovec){p->bytes ? p->bytes + first : NULL, second};
    p->iov[2] = (struct iovec){p->bytes ? p->bytes + first + second : NULL, length - first - second};
    m.iov = p->iov;
    m.iov_count = PIECES;
    return m;
}

static size_t choose_length(void)
{
    unsigned choice = script_left ? next() : 0;

    return choice < 200 ? choice : (choice - 200) * (size_t)LENGTH_MAX / 55;
}

/* Appends to `expected` what a message must be on the wire. */
static size_t expect_frame(enum naru_frame frame, const struct naru_message *m, size_t length,
                           uint8_t *expected)
{
    struct frame_mark mark;
    size_t offset;

    CHECK(frame_make_mark(frame, m, length, &mark, &offset) == 0);
    memcpy(expected, mark.header, mark.header_length);
    (void)message_gather(m, expected + mark.header_length, length);
    memcpy(expected + mark.header_length + length, mark.trailer, mark.trailer_length);
    return mark.header_length + length + mark.trailer_length;
}

/* Sends a few messages, one by one or in a batch, and checks the wire. */
static void send_all(enum naru_frame frame)
{
    struct naru_channel *ch = open_channel(frame, false);
    struct pieces pieces[MESSAGES];
    struct naru_message messages[MESSAGES];
    size_t lengths[MESSAGES], count = next() % (MESSAGES + 1), sent = 0, expected_length = 0;
    uint8_t *expected = malloc(wire.capacity);
    int r;

    CHECK(expected);
    for (size_t i = 0; i < count; i++) {
        lengths[i] = choose_length();
        messages[i] = cut_in_pieces(&pieces[i], lengths[i]);
        memset(pieces[i].bytes, 'a' + (int)i, lengths[i]);
    }
    while (sent < count) {
        size_t attempt = next() % 2 ? 1 : 1 + next() % (count - sent);
        ssize_t n;

        if (attempt == 1) {
            r = naru_send_message(ch, &messages[sent], NARU_NOWAIT);
            n = r == 0 || r == -EINPROGRESS ? 1 : r;
        } else {
            n = naru_send_batch(ch, &messages[sent], attempt, NARU_NOWAIT);
        }
        CHECK(n > 0 ? (size_t)n <= attempt : n == -EAGAIN || n == -EINPROGRESS);
        for (ssize_t i = 0; i < n; i++, sent++)
            expected_length +=
                expect_frame(frame, &messages[sent], lengths[sent], expected + expected_length);
        if (n < 0 && script_left == 0)
            continue; /* a refusal that was scripted before the end */
    }
    do
        r = naru_flush(ch, NARU_SENT, NARU_NOWAIT);
    while (r == -EAGAIN);
    CHECK(r == 0);
    CHECK(wire.length == expected_length && memcmp(wire.bytes, expected, expected_length) == 0);
    for (size_t i = 0; i < count; i++)
        free(pieces[i].bytes);
    free(expected);
    (void)naru_channel_close(ch);
}

static void damage(void)
{
    unsigned how = next() % 4;

    if (wire.length == 0 || how == 0)
        return;
    if (how == 1) {
        wire.length = next() * wire.length / 255;
        return;
    }
    for (unsigned i = 0; i < how; i++) {
        size_t offset = (next() * 256 + next()) % wire.length;

        wire.bytes[offset] = (uint8_t)next();
    }
}

/* The next message as it must be; false: `ret_end` is how the stream ends here. */
static bool find_expected(enum naru_frame frame, const uint8_t *data, size_t left,
                          struct frame_span *ret_span, int *ret_end)
{
    size_t scanned = 0;
    int r = frame_parse(frame, data, left, &scanned, LIMIT, ret_span);

    if (r == FRAME_WHOLE)
        return true;
    *ret_end = left == 0 ? -EPIPE : -EPROTO;
    if (r != FRAME_MORE || !ret_span->known)
        ret_span->length = 0; /* else: announced, and never came; the room for it is asked for first */
    if (r == FRAME_MORE && left && frame_end_completes(frame)) {
        *ret_span = (struct frame_span){.length = left, .end = left};
        return true;
    }
    return false;
}

/* Receives one message or the end, trying again as a program does. */
static int receive(struct naru_channel *ch, size_t length, const uint8_t *expected)
{
    for (;;) {
        struct pieces pieces;
        size_t room = next() % 4 ? length + next() % 8 : next();
        struct naru_message m = cut_in_pieces(&pieces, room);
        int r = naru_recv_message(ch, &m, NARU_NOWAIT);

        if (r == 0) {
            CHECK(m.length == length && length <= room);
            CHECK(length == 0 || memcmp(pieces.bytes, expected, length) == 0);
        }
        free(pieces.bytes);
        if (r == -EMSGSIZE)
            CHECK(room < length);
        else if (r != -EAGAIN)
            return r;
    }
}

static void receive_all(enum naru_frame frame, bool read_ahead)
{
    struct naru_channel *ch = open_channel(frame, read_ahead);
    const uint8_t *data = wire.bytes;
    size_t left = wire.length;
    struct frame_span span;
    int end = 0;

    while (find_expected(frame, data, left, &span, &end)) {
        CHECK(receive(ch, span.length, data + span.start) == 0);
        data += span.end;
        left -= span.end;
    }
    for (int i = 0; i < 2; i++) /* the end stays the end */
        CHECK(receive(ch, span.length, NULL) == end);
    (void)naru_channel_close(ch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum naru_frame frames[] = {NARU_FRAME_LEN32, NARU_FRAME_LINE, NARU_FRAME_NUL,
                                             NARU_FRAME_VARINT, NARU_FRAME_HEADER};
    enum naru_frame frame;
    bool read_ahead;

    script = data;
    script_left = size;
    frame = frames[next() % (sizeof frames / sizeof *frames)];
    read_ahead = next() % 2;
    wire.length = wire.read = 0;
    if (!wire.bytes) {
        wire.capacity = MESSAGES * (size_t)(LENGTH_MAX + FRAME_MARK_MAX);
        wire.bytes = malloc(wire.capacity);
        CHECK(wire.bytes);
    }
    send_all(frame);
    damage();
    receive_all(frame, read_ahead);
    return 0;
}
