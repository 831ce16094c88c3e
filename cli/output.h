/* SPDX-License-Identifier: MIT */
/*
 * Messages on their way to a descriptor, mostly standard output: gathered into large writes, and never lost
 * silently. stdio would forget how far a failed write came, and cannot be told to flush just before a wait.
 */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

/* How messages are told apart in a byte stream of ours: standard input or output, or a command's. */
enum mark {
    MARK_LINE,  /* payload "\n" */
    MARK_NUL,   /* payload "\0" */
    MARK_LEN32, /* 32-bit big-endian length, payload */
    MARK_RAW,   /* nothing between; reading: what one read(2) gives is a message */
    MARK_WHOLE  /* reading: all of it is one message */
};
extern const char *const mark_words[];        /* for OPTION_WORD, in the order of enum mark */
extern const char *const mark_output_words[]; /* without "whole" */

struct output {
    int fd;
    char *data;
    size_t used;
    uint64_t held; /* messages that are, wholly or in part, still in data */
};

/* 0 or -ENOMEM. */
int output_init(struct output *out, int fd);
void output_deinit(struct output *out); /* what is held is dropped: flush first */

/* Each 0, or -errno of write(2). Waits while the reader is slow. */
int output_bytes(struct output *out, const void *data, size_t length);
int output_message(struct output *out, enum mark mark, const void *data, size_t length);
int output_flush(struct output *out);

/* After one of these failed on standard output: reports it and how many messages are lost by it, and returns
 * the exit code. A reader that went away (`naru recv ... | head`) is not worth a word. */
int output_report(const struct output *out, int error);

#endif
