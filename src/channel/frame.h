/* SPDX-License-Identifier: MIT */
/*
 * Framing: where a message begins and ends in a byte stream. Pure functions over bytes, no I/O: what a peer
 * sends is judged here, so this is what the fuzzers feed.
 */
#ifndef NARU_CHANNEL_FRAME_H
#define NARU_CHANNEL_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "naru/channel.h"

enum {
    FRAME_WHOLE = 1, /* a whole frame lies there */
    FRAME_MORE = 2,  /* so far so good; more bytes are needed */

    FRAME_MARK_MAX = 48 /* bytes of the longest header we write: "Content-Length: <20 digits>\r\n\r\n" */
};

/* Offsets from the first byte looked at. */
struct frame_span {
    size_t start;          /* of the payload */
    size_t length;         /* of the payload */
    size_t end;            /* of the frame: where the next one starts */
    bool known;            /* with FRAME_MORE: the three above are known, only payload is missing */
    const char *complaint; /* with -EPROTO: what is wrong, for a sentence: "announces 5 bytes ..." */
};

/* The bytes around a payload. */
struct frame_mark {
    size_t header_length, trailer_length;
    uint8_t header[FRAME_MARK_MAX];
    uint8_t trailer[1];
};

/* The word of ?frame=, "len32". */
const char *frame_name(enum naru_frame frame);

/* NULL-terminated, indexed by enum naru_frame minus one. */
extern const char *const frame_names[];

/*
 * Looks for one frame at data. *scanned: how many bytes an earlier call has already searched for a delimiter;
 * 0 for a new frame, updated. limit: the largest payload accepted. Not for NARU_FRAME_RAW. FRAME_WHOLE,
 * FRAME_MORE, or -EPROTO.
 */
int frame_parse(enum naru_frame frame, const uint8_t *data, size_t available, size_t *scanned, size_t limit,
                struct frame_span *ret_span);

/* How many bytes can be read without taking any of the next frame, after FRAME_MORE with known false. At
 * least 1. */
size_t frame_sure_of(enum naru_frame frame, size_t available);

/*
 * The bytes to write around a payload of length bytes. 0, or -EINVAL (not explained) where the payload cannot
 * be carried: *ret_offset is then where the offending byte stands.
 */
int frame_make_mark(enum naru_frame frame, const struct naru_message *m, size_t length,
                    struct frame_mark *ret_mark, size_t *ret_offset);

/* Whether bytes left over at the end of the stream are a last message (a line without its newline). */
bool frame_end_completes(enum naru_frame frame);

#endif
