/* SPDX-License-Identifier: MIT */
/*
 * A JSON writer (RFC 8259). Values go out as they are named, nothing is kept; commas, escapes and indentation
 * are its business:
 *
 *     struct json j = json_begin(stdout, JSON_INDENTED);
 *     json_object(&j, NULL);
 *     json_text(&j, "name", "pipe");
 *     json_array(&j, "sizes");
 *     json_int(&j, NULL, 64);
 *     json_end(&j);          // the array
 *     json_end(&j);          // the object; writes the final newline
 *
 * key: the member's name inside an object, NULL inside an array and at the top. Write errors stay in the
 * stream (ferror).
 */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { JSON_DEPTH_MAX = 16 };
enum json_layout { JSON_INDENTED, JSON_ONE_LINE };

struct json {
    FILE *out;
    enum json_layout layout;
    int depth;
    struct {
        bool object, filled;
    } levels[JSON_DEPTH_MAX + 1];
};

struct json json_begin(FILE *out, enum json_layout layout);
void json_object(struct json *j, const char *key);
void json_array(struct json *j, const char *key);
void json_end(struct json *j);

/* What is not UTF-8 in text is written as U+FFFD, one for each byte that does not fit. */
void json_text(struct json *j, const char *key, const char *text); /* NULL: null */
void json_int(struct json *j, const char *key, int64_t value);
void json_uint(struct json *j, const char *key, uint64_t value);
void json_real(struct json *j, const char *key, double value); /* null if it is not finite */
void json_bool(struct json *j, const char *key, bool value);
void json_null(struct json *j, const char *key);

/* Bytes that may be anything: a member `key` with the text if they are valid UTF-8, else `key_base64`
 * (RFC 4648 section 4). Inside objects only. They may change meanwhile, as a message in its sender's memory:
 * what is written is JSON all the same. */
void json_bytes(struct json *j, const char *key, const void *data, size_t length);

/* The length of the valid UTF-8 sequence (RFC 3629: no surrogates, nothing overlong) at the start of the
 * left bytes at p; 0: none. */
size_t utf8_length(const unsigned char *p, size_t left);

#endif
