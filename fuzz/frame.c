/* SPDX-License-Identifier: MIT */
/*
 * One framing (FUZZ_FRAME), fed what a hostile peer may send. The first three bytes of the input choose the
 * limit and how the stream arrives; the rest is the stream. What must hold besides not crashing:
 *
 *   - a frame that is found lies within the bytes, within the limit, and goes forward;
 *   - it does not matter in which pieces the bytes arrive: the same frames, the same verdict;
 *   - what is announced early (FRAME_MORE with known) comes true;
 *   - frame_sure_of() never takes a byte of the next frame;
 *   - a payload that was received can be sent, and is received again as it was.
 */
#include "channel/frame.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "check.h"

enum { CONTROL = 3 };

static void check_whole(const struct frame_span *span, size_t available, size_t limit)
{
    CHECK(span->length <= limit);
    CHECK(span->start <= span->end && span->length <= span->end - span->start);
    CHECK(span->end > 0 && span->end <= available);
}

/* Writes the payload out and reads it back, with the bytes in a block of exactly their number. */
static void check_round_trip(const uint8_t *payload, size_t length, size_t limit)
{
    struct iovec iov[2] = {{(void *)(uintptr_t)payload, length / 2},
                           {(void *)(uintptr_t)(payload + length / 2), length - length / 2}};
    struct naru_message m = {.size = sizeof m, .iov = iov, .iov_count = 2};
    struct frame_mark mark;
    struct frame_span span;
    size_t offset = SIZE_MAX, scanned = 0, total;
    uint8_t *bytes;

    CHECK(frame_make_mark(FUZZ_FRAME, &m, length, &mark, &offset) == 0);
    CHECK(mark.header_length <= sizeof mark.header && mark.trailer_length <= sizeof mark.trailer);
    total = mark.header_length + length + mark.trailer_length;
    bytes = malloc(total);
    CHECK(bytes);
    memcpy(bytes, mark.header, mark.header_length);
    memcpy(bytes + mark.header_length, payload, length);
    memcpy(bytes + mark.header_length + length, mark.trailer, mark.trailer_length);
    CHECK(frame_parse(FUZZ_FRAME, bytes, total, &scanned, limit, &span) == FRAME_WHOLE);
    CHECK(span.start == mark.header_length && span.length == length && span.end == total);
    free(bytes);
}

/* Any bytes as a payload to send: refused exactly where the delimiter stands first. */
static void check_sending(const uint8_t *data, size_t size)
{
    struct iovec iov[2] = {{(void *)(uintptr_t)data, size / 3},
                           {(void *)(uintptr_t)(data + size / 3), size - size / 3}};
    struct naru_message m = {.size = sizeof m, .iov = iov, .iov_count = 2};
    struct frame_mark mark;
    size_t offset = SIZE_MAX;
    int r = frame_make_mark(FUZZ_FRAME, &m, size, &mark, &offset);

    if (r == 0)
        return;
    CHECK(r == -EINVAL && offset < size);
    CHECK(data[offset] == mark.trailer[0]);
    CHECK(!memchr(data, mark.trailer[0], offset));
}

/* The same frame out of a stream that arrives in steps: the verdict must be that of `at_once`. */
static void check_in_steps(const uint8_t *data, size_t size, size_t step, size_t limit, int at_once,
                           const struct frame_span *expected)
{
    struct frame_span span, early = {0};
    size_t available = 0, scanned = 0;
    int r = FRAME_MORE;

    while (r == FRAME_MORE && available < size) {
        size_t sure = early.known ? early.end - available : frame_sure_of(FUZZ_FRAME, available);
        size_t take = step ? step : sure; /* a careful reader takes only what is sure */

        CHECK(sure >= 1);
        if (at_once == FRAME_WHOLE)
            CHECK(available + sure <= expected->end);
        available = take < size - available ? available + take : size;
        r = frame_parse(FUZZ_FRAME, data, available, &scanned, limit, &span);
        if (r == FRAME_MORE && span.known) {
            CHECK(span.end > available && span.length <= limit);
            early = span;
        }
        if (r == FRAME_WHOLE && early.known)
            CHECK(early.start == span.start && early.length == span.length && early.end == span.end);
    }
    CHECK(r == at_once);
    if (r == FRAME_WHOLE)
        CHECK(span.start == expected->start && span.length == expected->length && span.end == expected->end);
    if (r == -EPROTO)
        CHECK(span.complaint && *span.complaint);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t limit, step;

    if (size < CONTROL)
        return 0;
    limit = (size_t)data[0] << (data[1] % 24);
    step = data[2];
    data += CONTROL;
    size -= CONTROL;
    check_sending(data, size);
    for (int frames = 0; size > 0 && frames < 64; frames++) {
        struct frame_span span = {0};
        size_t scanned = 0;
        int r = frame_parse(FUZZ_FRAME, data, size, &scanned, limit, &span);

        CHECK(r == FRAME_WHOLE || r == FRAME_MORE || r == -EPROTO);
        check_in_steps(data, size, step, limit, r, &span);
        if (r != FRAME_WHOLE)
            return 0;
        check_whole(&span, size, limit);
        check_round_trip(data + span.start, span.length, limit);
        data += span.end;
        size -= span.end;
    }
    return 0;
}
