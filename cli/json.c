/* SPDX-License-Identifier: MIT */
#include "cli/json.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

struct json json_begin(FILE *out, enum json_layout layout)
{
    return (struct json){.out = out, .layout = layout};
}

size_t utf8_length(const unsigned char *p, size_t left)
{
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

static void put(struct json *j, const char *text)
{
    (void)fputs(text, j->out);
}

enum { UTF8_MAX = 4 }; /* bytes of a character */

/* The next character, or a byte that begins none (then 0), as far as there is one. A message that is shown
 * where it lies is its sender's memory, who may change it meanwhile: what was judged has to be what is
 * written, so each byte is fetched once for that. */
static size_t fetch(const volatile unsigned char *p, size_t left, unsigned char ret_character[UTF8_MAX])
{
    size_t n = left < UTF8_MAX ? left : UTF8_MAX;

    for (size_t i = 0; i < n; i++)
        ret_character[i] = p[i];
    return utf8_length(ret_character, n);
}

static void put_string(struct json *j, const void *data, size_t length)
{
    const unsigned char *p = data, *end = p + length;

    (void)fputc('"', j->out);
    while (p < end) {
        unsigned char c[UTF8_MAX];
        size_t n = fetch(p, (size_t)(end - p), c);

        if (n == 0)
            put(j, "\\ufffd");
        else if (*c == '"' || *c == '\\')
            (void)fprintf(j->out, "\\%c", *c);
        else if (*c == '\n')
            put(j, "\\n");
        else if (*c == '\t')
            put(j, "\\t");
        else if (*c < 0x20 || *c == 0x7f)
            (void)fprintf(j->out, "\\u%04x", *c);
        else
            (void)fwrite(c, 1, n, j->out);
        p += n ? n : 1;
    }
    (void)fputc('"', j->out);
}

static void put_indent(struct json *j)
{
    if (j->layout == JSON_ONE_LINE)
        return;
    (void)fputc('\n', j->out);
    for (int i = 0; i < j->depth; i++)
        put(j, "  ");
}

/* What stands before each value. */
static void lead(struct json *j, const char *key)
{
    assert((key != NULL) == (j->depth > 0 && j->levels[j->depth].object));
    if (j->depth > 0) {
        if (j->levels[j->depth].filled)
            put(j, j->layout == JSON_ONE_LINE ? ", " : ",");
        j->levels[j->depth].filled = true;
        put_indent(j);
    }
    if (key) {
        put_string(j, key, strlen(key));
        put(j, ": ");
    }
}

static void trail(struct json *j)
{
    if (j->depth == 0)
        (void)fputc('\n', j->out);
}

static void open_level(struct json *j, const char *key, bool object)
{
    lead(j, key);
    assert(j->depth < JSON_DEPTH_MAX);
    j->depth++;
    j->levels[j->depth].object = object;
    j->levels[j->depth].filled = false;
    put(j, object ? "{" : "[");
}

void json_object(struct json *j, const char *key)
{
    open_level(j, key, true);
}

void json_array(struct json *j, const char *key)
{
    open_level(j, key, false);
}

void json_end(struct json *j)
{
    bool object = j->levels[j->depth].object, filled = j->levels[j->depth].filled;

    assert(j->depth > 0);
    j->depth--;
    if (filled)
        put_indent(j);
    put(j, object ? "}" : "]");
    trail(j);
}

void json_text(struct json *j, const char *key, const char *text)
{
    if (!text) {
        json_null(j, key);
        return;
    }
    lead(j, key);
    put_string(j, text, strlen(text));
    trail(j);
}

void json_int(struct json *j, const char *key, int64_t value)
{
    lead(j, key);
    (void)fprintf(j->out, "%" PRId64, value);
    trail(j);
}

void json_uint(struct json *j, const char *key, uint64_t value)
{
    lead(j, key);
    (void)fprintf(j->out, "%" PRIu64, value);
    trail(j);
}

void json_real(struct json *j, const char *key, double value)
{
    if (!isfinite(value)) {
        json_null(j, key);
        return;
    }
    lead(j, key);
    (void)fprintf(j->out, "%.10g", value);
    trail(j);
}

void json_bool(struct json *j, const char *key, bool value)
{
    lead(j, key);
    put(j, value ? "true" : "false");
    trail(j);
}

void json_null(struct json *j, const char *key)
{
    lead(j, key);
    put(j, "null");
    trail(j);
}

static bool is_utf8(const unsigned char *p, size_t length)
{
    for (size_t i = 0; i < length;) {
        size_t n = utf8_length(p + i, length - i);

        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

static void put_base64(struct json *j, const unsigned char *p, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < length; i += 3) {
        size_t n = length - i < 3 ? length - i : 3;
        uint32_t word = (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (n > 2 ? p[i + 2] : 0);
        const char quad[4] = {digits[word >> 18], digits[word >> 12 & 63],
                              n > 1 ? digits[word >> 6 & 63] : '=', n > 2 ? digits[word & 63] : '='};

        (void)fwrite(quad, 1, sizeof quad, j->out);
    }
}

void json_bytes(struct json *j, const char *key, const void *data, size_t length)
{
    char name[64];

    if (is_utf8(data, length)) {
        lead(j, key);
        put_string(j, data, length);
        return;
    }
    (void)snprintf(name, sizeof name, "%s_base64", key);
    lead(j, name);
    (void)fputc('"', j->out);
    put_base64(j, data, length);
    (void)fputc('"', j->out);
}
