/* SPDX-License-Identifier: MIT */
/* Framing: the five ways of marking messages in a stream (raw has no marks). */
#include "channel/frame.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    LEN32_HEADER = 4,
    VARINT_MAX = 10,        /* bytes of a 64-bit varint (Protocol Buffers, "Base 128 Varints") */
    HEADER_BLOCK_MAX = 4096 /* more header lines than any language server sends */
};

const char *const frame_names[] = {"len32", "line", "nul", "raw", "varint", "header", NULL};

static const char length_word[] = "Content-Length:";

const char *frame_name(enum naru_frame frame)
{
    return frame_names[frame - 1];
}

static int complain(struct frame_span *span, const char *complaint)
{
    span->complaint = complaint;
    return -EPROTO;
}

/* A frame whose header of `start` bytes announced `length` bytes of payload. */
static int announced(size_t start, uint64_t length, size_t available, size_t limit, struct frame_span *span)
{
    if (length > limit)
        return complain(
            span,
            "a message larger than ?max-message= is announced (raise that, if its sender frames alike)");
    span->start = start;
    span->length = (size_t)length;
    span->end = start + span->length;
    span->known = true;
    return available >= span->end ? FRAME_WHOLE : FRAME_MORE;
}

static int parse_len32(const uint8_t *data, size_t available, size_t limit, struct frame_span *span)
{
    uint32_t length;

    if (available < LEN32_HEADER)
        return FRAME_MORE;
    memcpy(&length, data, sizeof length);
    return announced(LEN32_HEADER, __builtin_bswap32(length), available, limit, span);
}

static int parse_varint(const uint8_t *data, size_t available, size_t limit, struct frame_span *span)
{
    uint64_t length = 0;

    for (size_t i = 0; i < available; i++) {
        if (i == VARINT_MAX - 1 && data[i] > 1)
            return complain(span, "a length varint has more than 64 bits");
        length |= (uint64_t)(data[i] & 0x7f) << (7 * i);
        if (!(data[i] & 0x80))
            return announced(i + 1, length, available, limit, span);
    }
    return FRAME_MORE;
}

static int parse_delimited(uint8_t delimiter, const uint8_t *data, size_t available, size_t *scanned,
                           size_t limit, struct frame_span *span)
{
    size_t from = *scanned < available ? *scanned : available;
    const uint8_t *found = available > from ? memchr(data + from, delimiter, available - from) : NULL;
    size_t length = found ? (size_t)(found - data) : available;

    if (length > limit)
        return complain(span, "a message is larger than ?max-message=");
    *scanned = length;
    if (!found)
        return FRAME_MORE;
    span->start = 0;
    span->length = length;
    span->end = length + 1;
    return FRAME_WHOLE;
}

/* Decimal digits with spaces around them, up to the end of the line. */
static bool parse_decimal(const uint8_t *text, size_t length, uint64_t *ret)
{
    uint64_t value = 0;
    size_t i = 0, digits = 0;

    while (i < length && (text[i] == ' ' || text[i] == '\t'))
        i++;
    for (; i < length && text[i] >= '0' && text[i] <= '9'; i++, digits++)
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, text[i] - '0', &value))
            return false;
    while (i < length && (text[i] == ' ' || text[i] == '\t'))
        i++;
    *ret = value;
    return digits > 0 && i == length;
}

/* Header lines as the Language Server Protocol has them ("Base Protocol", Header Part): Content-Length is
 * required, others are passed over. */
static int parse_header(const uint8_t *data, size_t available, size_t limit, struct frame_span *span)
{
    size_t line = 0, word = sizeof length_word - 1;
    uint64_t length = 0;
    bool found = false;

    for (;;) {
        const uint8_t *newline = memchr(data + line, '\n', available - line);
        size_t end;

        if (!newline)
            return available > HEADER_BLOCK_MAX ? complain(span, "a header block exceeds 4096 bytes")
                                                : FRAME_MORE;
        end = (size_t)(newline - data);
        if (end > HEADER_BLOCK_MAX)
            return complain(span, "a header block exceeds 4096 bytes");
        if (end == line || data[end - 1] != '\r')
            return complain(span, "a header line does not end in CR LF");
        end--;
        if (end == line) {
            if (!found)
                return complain(span, "a header block has no Content-Length");
            return announced(end + 2, length, available, limit, span);
        }
        if (end - line > word && strncasecmp((const char *)data + line, length_word, word) == 0) {
            if (found || !parse_decimal(data + line + word, end - line - word, &length))
                return complain(span, "a Content-Length is not one decimal number");
            found = true;
        }
        line = end + 2;
        if (line == available)
            return FRAME_MORE;
    }
}

int frame_parse(enum naru_frame frame, const uint8_t *data, size_t available, size_t *scanned, size_t limit,
                struct frame_span *ret_span)
{
    ret_span->known = false;
    if (available == 0)
        return FRAME_MORE;
    switch (frame) {
    case NARU_FRAME_LEN32:
        return parse_len32(data, available, limit, ret_span);
    case NARU_FRAME_VARINT:
        return parse_varint(data, available, limit, ret_span);
    case NARU_FRAME_HEADER:
        return parse_header(data, available, limit, ret_span);
    case NARU_FRAME_NUL:
        return parse_delimited('\0', data, available, scanned, limit, ret_span);
    case NARU_FRAME_LINE:
    default:
        return parse_delimited('\n', data, available, scanned, limit, ret_span);
    }
}

size_t frame_sure_of(enum naru_frame frame, size_t available)
{
    return frame == NARU_FRAME_LEN32 && available < LEN32_HEADER ? LEN32_HEADER - available : 1;
}

static int find_delimiter(uint8_t delimiter, const struct naru_message *m, size_t *ret_offset)
{
    size_t before = 0;

    for (size_t i = 0; i < m->iov_count; i++) {
        const uint8_t *piece = m->iov[i].iov_base;
        const uint8_t *found = m->iov[i].iov_len ? memchr(piece, delimiter, m->iov[i].iov_len) : NULL;

        if (found) {
            *ret_offset = before + (size_t)(found - piece);
            return -EINVAL;
        }
        before += m->iov[i].iov_len;
    }
    return 0;
}

int frame_make_mark(enum naru_frame frame, const struct naru_message *m, size_t length,
                    struct frame_mark *ret_mark, size_t *ret_offset)
{
    uint32_t big_endian;
    size_t n = 0;

    ret_mark->header_length = ret_mark->trailer_length = 0;
    switch (frame) {
    case NARU_FRAME_LEN32:
        big_endian =
            __builtin_bswap32((uint32_t)length); /* channel_send() has checked it against max_message */
        memcpy(ret_mark->header, &big_endian, sizeof big_endian);
        ret_mark->header_length = sizeof big_endian;
        return 0;
    case NARU_FRAME_VARINT:
        for (; length >= 0x80; length >>= 7)
            ret_mark->header[n++] = (uint8_t)(length | 0x80);
        ret_mark->header[n++] = (uint8_t)length;
        ret_mark->header_length = n;
        return 0;
    case NARU_FRAME_HEADER:
        ret_mark->header_length = (size_t)snprintf((char *)ret_mark->header, sizeof ret_mark->header,
                                                   "%s %zu\r\n\r\n", length_word, length);
        return 0;
    case NARU_FRAME_LINE:
    case NARU_FRAME_NUL:
        ret_mark->trailer[0] = frame == NARU_FRAME_LINE ? '\n' : '\0';
        ret_mark->trailer_length = 1;
        return find_delimiter(ret_mark->trailer[0], m, ret_offset);
    default:
        return 0;
    }
}

bool frame_end_completes(enum naru_frame frame)
{
    return frame == NARU_FRAME_LINE || frame == NARU_FRAME_NUL;
}
