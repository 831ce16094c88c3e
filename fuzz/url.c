/* SPDX-License-Identifier: MIT */
/*
 * The URL parser, fed any text. What must hold besides not crashing:
 *
 *   - a refusal explains itself and leaves the output alone;
 *   - the parts lie within the URL's own storage, and every option of the text is there, in its order;
 *   - written out again and parsed again, a URL has the same parts (so nothing is lost in decoding);
 *   - typed readers set their output exactly when they return 0 and the key is there;
 *   - url_check_unused() is content exactly when every option has been asked for.
 */
#include "base/url.h"

#include <errno.h>
#include <string.h>

#include "check.h"
#include "naru/error.h"

/* Every character escaped that means something anywhere in a URL. */
static char *escape(char *out, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";

    for (; *text; text++) {
        if (strchr("%?&=/", *text)) {
            *out++ = '%';
            *out++ = digits[(unsigned char)*text >> 4];
            *out++ = digits[(unsigned char)*text & 15];
        } else {
            *out++ = *text;
        }
    }
    *out = '\0';
    return out;
}

/* The URL as text; to be freed. Escaping makes three characters of one at most. */
static char *format(const struct url *url)
{
    char *text = malloc(3 * strlen(url->text) + 64 + 4 * URL_OPTIONS_MAX);
    char *out = text;

    CHECK(text);
    out = stpcpy(out, url->scheme);
    if (strcmp(url->scheme, "exec") == 0) {
        *out++ = ':';
        (void)strcpy(out, url->target);
        return text;
    }
    if (strcmp(url->scheme, "-") != 0)
        out = escape(stpcpy(out, "://"), url->target);
    for (size_t i = 0; i < url->option_count; i++) {
        *out++ = i ? '&' : '?';
        out = escape(out, url->options[i].key);
        *out++ = '=';
        out = escape(out, url->options[i].value);
    }
    return text;
}

static void check_same_parts(const struct url *one, const struct url *other)
{
    CHECK(strcmp(one->scheme, other->scheme) == 0);
    CHECK(strcmp(one->target, other->target) == 0);
    CHECK(one->option_count == other->option_count);
    for (size_t i = 0; i < one->option_count; i++) {
        CHECK(strcmp(one->options[i].key, other->options[i].key) == 0);
        CHECK(strcmp(one->options[i].value, other->options[i].value) == 0);
    }
}

static void check_round_trip(const struct url *url)
{
    char *text = format(url);
    struct url again;

    if (strlen(text) <= URL_LENGTH_MAX) {
        CHECK(url_parse(text, &again) == 0);
        check_same_parts(url, &again);
        url_deinit(&again);
    }
    free(text);
}

static bool is_within(const struct url *url, const char *part)
{
    return part >= url->storage && part + strlen(part) <= url->storage + strlen(url->text);
}

/* How long a raw piece of the text is once decoded: each %XX is one character. */
static size_t decoded_length(const char *raw, size_t length)
{
    size_t decoded = length;

    for (size_t i = 0; i < length; i++)
        decoded -= raw[i] == '%' ? 2 : 0;
    return decoded;
}

/* Finds the pieces by another way than the parser does, and compares their lengths. */
static void check_lengths(const struct url *url, const char *text)
{
    const char *rest = text + strlen(url->scheme);
    size_t length;

    if (strcmp(url->scheme, "-") != 0) {
        rest++;
        if (strcmp(url->scheme, "exec") == 0) {
            CHECK(strcmp(rest, url->target) == 0 && url->option_count == 0);
            return;
        }
        rest += strncmp(rest, "//", 2) == 0 ? 2 : 0;
        length = strcspn(rest, "?");
        CHECK(strlen(url->target) == decoded_length(rest, length));
        rest += length;
    }
    for (size_t i = 0; i < url->option_count; i++) {
        CHECK(*rest++ == (i ? '&' : '?'));
        length = strcspn(rest, "=&");
        CHECK(strlen(url->options[i].key) == decoded_length(rest, length));
        rest += length;
        if (*rest == '=') {
            rest++;
            length = strcspn(rest, "&");
            CHECK(strlen(url->options[i].value) == decoded_length(rest, length));
            rest += length;
        }
    }
    CHECK(!*rest); /* no option is lost */
}

static void check_parts(const struct url *url, const char *text)
{
    CHECK(strcmp(url->text, text) == 0);
    CHECK(*url->scheme);
    CHECK(is_within(url, url->scheme) && is_within(url, url->target));
    CHECK(url->option_count <= URL_OPTIONS_MAX);
    check_lengths(url, text);
    for (size_t i = 0; i < url->option_count; i++) {
        CHECK(*url->options[i].key && is_within(url, url->options[i].key));
        CHECK(is_within(url, url->options[i].value) || strcmp(url->options[i].value, "yes") == 0);
        CHECK(!url->options[i].used);
    }
}

/* A typed reader must be all or nothing; each is tried on every option. */
static void check_typed(struct url *url, const char *key)
{
    static const char *const words[] = {"len32", "line", "nul", "", NULL};
    int64_t number = INT64_MIN;
    size_t size = SIZE_MAX;
    unsigned mode = ~0u;
    int word = -1;
    bool flag;
    int r;

    r = url_option_number(url, key, -1000, 1000000, &number);
    CHECK(r == 0 ? number >= -1000 && number <= 1000000 : r == -EINVAL && number == INT64_MIN);
    r = url_option_size(url, key, 1, SIZE_MAX - 1, &size);
    CHECK(r == 0 ? size >= 1 && size <= INT64_MAX : r == -EINVAL && size == SIZE_MAX);
    r = url_option_mode(url, key, &mode);
    CHECK(r == 0 ? mode <= 0777 : r == -EINVAL && mode == ~0u);
    r = url_option_word(url, key, words, &word);
    CHECK(r == 0 ? word >= 0 && strcmp(words[word], url_option(url, key)) == 0 : r == -EINVAL && word == -1);
    r = url_option_flag(url, key, &flag);
    CHECK(r == 0 || (r == -EINVAL && *naru_explain()));
}

static void check_options(struct url *url)
{
    for (size_t i = 0; i < url->option_count; i++) {
        const char *key = url->options[i].key;

        CHECK(url_check_unused(url) == -EINVAL);
        CHECK(url_option(url, key) == url->options[i].value); /* no earlier one hides it */
        check_typed(url, key);
    }
    CHECK(url_check_unused(url) == 0);
}

static void check_target(const struct url *url)
{
    const char *host = NULL, *port = NULL;
    size_t capacity = strlen(url->target) + 1;
    char *buffer = malloc(capacity); /* exactly as large as promised, so that ASan sees one byte more */
    int64_t number = INT64_MIN;
    int r;

    CHECK(buffer);
    r = url_target_host_port(url, buffer, capacity, &host, &port);
    CHECK(r == 0 || (r == -EINVAL && !host && !port));
    if (r == 0) {
        CHECK(host >= buffer && host + strlen(host) < port && port + strlen(port) < buffer + capacity);
        CHECK(*port && strspn(port, "0123456789") == strlen(port) && atoi(port) <= 65535);
    }
    free(buffer);
    r = url_target_number(url, "a number", 0, 0xffffffff, &number);
    CHECK(r == 0 ? number >= 0 && number <= 0xffffffff : r == -EINVAL && number == INT64_MIN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    struct url url, untouched;
    int r;

    CHECK(text);
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    memset(&url, 0x5a, sizeof url);
    untouched = url;
    r = url_parse(text, &url);
    if (r < 0) {
        CHECK(r == -EINVAL && *naru_explain());
        CHECK(memcmp(&url, &untouched, sizeof url) == 0);
    } else {
        check_parts(&url, text);
        check_round_trip(&url);
        check_options(&url);
        check_target(&url);
        url_deinit(&url);
    }
    free(text);
    return 0;
}
