/* SPDX-License-Identifier: MIT */
/* Framing: each kind against bytes written out by hand from its specification, and against every way of
 * cutting them. */
#include <errno.h>
#include <string.h>

#include "channel/frame.h"
#include "runner.h"

enum { LIMIT = 100000 };

static int parse(enum naru_frame frame, const char *bytes, size_t length, struct frame_span *span)
{
    size_t scanned = 0;

    return frame_parse(frame, (const uint8_t *)bytes, length, &scanned, LIMIT, span);
}

/* The frame must be whole with all of its bytes and wanting with any fewer. */
static void check_frame(enum naru_frame frame, const char *bytes, size_t length, size_t start, size_t payload)
{
    struct frame_span span;

    for (size_t n = 0; n < length; n++) {
        CHECK_INT(parse(frame, bytes, n, &span), FRAME_MORE);
        if (span.known)
            CHECK_INT(span.end, length);
        CHECK(n + frame_sure_of(frame, n) <= length);
    }
    CHECK_INT(parse(frame, bytes, length, &span), FRAME_WHOLE);
    CHECK_INT(span.start, start);
    CHECK_INT(span.length, payload);
    CHECK_INT(span.end, length);
}

static void check_refused(enum naru_frame frame, const char *bytes, size_t length, const char *complaint)
{
    struct frame_span span;

    CHECK_INT(parse(frame, bytes, length, &span), -EPROTO);
    CHECK_CONTAINS(span.complaint, complaint);
}

TEST(len32_is_big_endian)
{
    check_frame(NARU_FRAME_LEN32, "\0\0\0\3abc", 7, 4, 3);
    check_frame(NARU_FRAME_LEN32, "\0\0\0\0", 4, 4, 0);
    check_refused(NARU_FRAME_LEN32, "\xff\xff\xff\xff", 4, "larger than ?max-message=");
}

TEST(line_and_nul_end_at_their_delimiter)
{
    check_frame(NARU_FRAME_LINE, "abc\n", 4, 0, 3);
    check_frame(NARU_FRAME_LINE, "\n", 1, 0, 0);
    check_frame(NARU_FRAME_LINE, "a\0b\r\n", 5, 0, 4);
    check_frame(NARU_FRAME_NUL, "a\nb\0", 4, 0, 3);
}

TEST(varint_is_base_128_least_significant_first)
{
    char large[2 + 300] = {(char)0xac, 0x02}; /* 300, the example of the encoding's documentation */

    check_frame(NARU_FRAME_VARINT, "\3abc", 4, 1, 3);
    check_frame(NARU_FRAME_VARINT, "\0", 1, 1, 0);
    check_frame(NARU_FRAME_VARINT, large, sizeof large, 2, 300);
    check_refused(NARU_FRAME_VARINT, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10, "64 bits");
    check_refused(NARU_FRAME_VARINT, "\xff\xff\xff\xff\x0f", 5, "larger than ?max-message=");
}

TEST(header_is_what_language_servers_speak)
{
    static const char plain[] = "Content-Length: 3\r\n\r\nabc";
    static const char with_type[] =
        "Content-Type: application/vscode-jsonrpc; charset=utf-8\r\ncontent-length:3\r\n\r\nabc";

    check_frame(NARU_FRAME_HEADER, plain, sizeof plain - 1, sizeof plain - 4, 3);
    check_frame(NARU_FRAME_HEADER, with_type, sizeof with_type - 1, sizeof with_type - 4, 3);
}

static void check_header_refused(const char *text, const char *complaint)
{
    check_refused(NARU_FRAME_HEADER, text, strlen(text), complaint);
}

TEST(header_refuses_what_it_cannot_be_sure_of)
{
    char endless[5000];

    check_header_refused("\r\n", "no Content-Length");
    check_header_refused("Content-Length: 3\n\nabc", "CR LF");
    check_header_refused("Content-Length: -3\r\n\r\n", "not one decimal number");
    check_header_refused("Content-Length: 3 4\r\n\r\n", "not one decimal number");
    check_header_refused("Content-Length: 99999999999999999999999\r\n\r\n", "not one decimal number");
    check_header_refused("Content-Length: 3\r\nContent-Length: 3\r\n\r\n", "not one decimal number");
    check_header_refused("Content-Length: 200000\r\n\r\n", "larger than ?max-message=");
    memset(endless, 'a', sizeof endless);
    check_refused(NARU_FRAME_HEADER, endless, sizeof endless, "4096");
}

TEST(delimiters_are_searched_for_once)
{
    static const char bytes[] = "aaaa\n";
    struct frame_span span;
    size_t scanned = 0;

    CHECK_INT(frame_parse(NARU_FRAME_LINE, (const uint8_t *)bytes, 3, &scanned, LIMIT, &span), FRAME_MORE);
    CHECK_INT(scanned, 3);
    CHECK_INT(frame_parse(NARU_FRAME_LINE, (const uint8_t *)bytes, 5, &scanned, LIMIT, &span), FRAME_WHOLE);
    CHECK_INT(span.length, 4);
}

TEST(a_line_longer_than_the_limit_is_refused_before_its_end_comes)
{
    static char bytes[LIMIT + 1];
    struct frame_span span;

    memset(bytes, 'x', sizeof bytes);
    CHECK_INT(parse(NARU_FRAME_LINE, bytes, LIMIT, &span), FRAME_MORE);
    CHECK_INT(parse(NARU_FRAME_LINE, bytes, LIMIT + 1, &span), -EPROTO);
}

/* Builds the frame of a payload in `out`; returns its length. */
static size_t build(enum naru_frame frame, const char *payload, size_t length, char *out)
{
    struct iovec piece = {(void *)(uintptr_t)payload, length};
    struct naru_message m = {.size = sizeof m, .iov = &piece, .iov_count = 1};
    struct frame_mark mark;
    size_t offset;

    CHECK_INT(frame_make_mark(frame, &m, length, &mark, &offset), 0);
    memcpy(out, mark.header, mark.header_length);
    memcpy(out + mark.header_length, payload, length);
    memcpy(out + mark.header_length + length, mark.trailer, mark.trailer_length);
    return mark.header_length + length + mark.trailer_length;
}

TEST(what_is_marked_is_parsed_back)
{
    static const size_t lengths[] = {0, 1, 127, 128, 16383, 16384, 70000};
    static char payload[70000], bytes[70000 + FRAME_MARK_MAX];

    memset(payload, 'p', sizeof payload);
    for (int frame = NARU_FRAME_LEN32; frame <= NARU_FRAME_HEADER; frame++) {
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths && frame != NARU_FRAME_RAW; i++) {
            size_t length = build((enum naru_frame)frame, payload, lengths[i], bytes);
            struct frame_span span;

            CHECK_INT(parse((enum naru_frame)frame, bytes, length, &span), FRAME_WHOLE);
            CHECK_INT(span.length, lengths[i]);
            CHECK_INT(span.end, length);
        }
    }
}

TEST(a_payload_with_the_delimiter_inside_is_refused_with_its_place)
{
    struct iovec pieces[2] = {{(void *)(uintptr_t) "ab", 2}, {(void *)(uintptr_t) "c\nd", 3}};
    struct naru_message m = {.size = sizeof m, .iov = pieces, .iov_count = 2};
    struct frame_mark mark;
    size_t offset = 0;

    CHECK_INT(frame_make_mark(NARU_FRAME_LINE, &m, 5, &mark, &offset), -EINVAL);
    CHECK_INT(offset, 3);
    CHECK_INT(frame_make_mark(NARU_FRAME_NUL, &m, 5, &mark, &offset), 0);
}
