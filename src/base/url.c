/* SPDX-License-Identifier: MIT */
/* The URL parser; the grammar stands in url.h. */
#include "base/url.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "naru/time.h"

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decodes %XX in place. */
static int decode(char *text, const char *whole)
{
    char *out = text;

    for (const char *in = text; *in; in++, out++) {
        int high, low;

        *out = *in;
        if (*in != '%')
            continue;
        high = hex_value(in[1]);
        low = high < 0 ? -1 : hex_value(in[2]);
        if (low < 0)
            return error_set(EINVAL,
                             "%s: expected two hexadecimal digits after '%%'; write %%25 for a percent sign",
                             whole);
        if (high == 0 && low == 0)
            return error_set(EINVAL, "%s: %%00 cannot be part of a name", whole);
        *out = (char)(high * 16 + low);
        in += 2;
    }
    *out = '\0';
    return 0;
}

static size_t scheme_length(const char *text)
{
    size_t n = 0;

    if (!isalpha((unsigned char)text[0]))
        return 0;
    while (isalnum((unsigned char)text[n]) || text[n] == '+' || text[n] == '-') /* none of ours has a '-' */
        n++;
    return text[n] == ':' ? n : 0;
}

static int parse_options(struct url *url, char *query)
{
    for (char *next = query; next; query = next) {
        struct url_option *option = &url->options[url->option_count];
        char *equals;
        int r;

        next = strchr(query, '&');
        if (next)
            *next++ = '\0';
        if (url->option_count == URL_OPTIONS_MAX)
            return error_set(EINVAL, "%s: more than %d options", url->text, URL_OPTIONS_MAX);
        equals = strchr(query, '=');
        if (equals)
            *equals++ = '\0';
        if (!*query)
            return error_set(EINVAL, "%s: expected ?key=value&key=value after the name", url->text);
        r = decode(query, url->text);
        if (r == 0 && equals)
            r = decode(equals, url->text);
        if (r < 0)
            return r;
        for (size_t i = 0; i < url->option_count; i++)
            if (strcmp(url->options[i].key, query) == 0)
                return error_set(EINVAL, "%s: option '%s' is given twice", url->text, query);
        *option = (struct url_option){query, equals ? equals : "yes", false};
        url->option_count++;
    }
    return 0;
}

static int parse(struct url *url)
{
    size_t scheme = scheme_length(url->text);
    char *target, *query;

    if (strcmp(url->text, "-") == 0) {
        url->scheme = url->storage;
        url->target = url->storage + 1;
        return 0;
    }
    /* "-?frame=line" is the standard streams with options. */
    if (strncmp(url->text, "-?", 2) == 0) {
        url->storage[1] = '\0';
        url->scheme = url->storage;
        url->target = url->storage + 1;
        return parse_options(url, url->storage + 2);
    }
    if (scheme == 0)
        return error_set(
            EINVAL, "'%s' is not a URL; expected scheme:target as in unix:///run/my.sock or tcp://host:port",
            url->text);
    url->storage[scheme] = '\0';
    url->scheme = url->storage;
    target = url->storage + scheme + 1;
    if (strcmp(url->scheme, "exec") == 0) {
        url->target = target; /* a shell command: nothing in it is ours */
        return 0;
    }
    if (strncmp(target, "//", 2) == 0)
        target += 2;
    query = strchr(target, '?');
    if (query)
        *query++ = '\0';
    url->target = target;
    if (decode(target, url->text) < 0)
        return -EINVAL;
    return query ? parse_options(url, query) : 0;
}

int url_parse(const char *text, struct url *ret_url)
{
    struct url url = {0};
    int r;

    if (!text || !*text)
        return error_set(EINVAL, "expected a URL such as unix:///run/my.sock, got an empty string");
    if (strnlen(text, URL_LENGTH_MAX + 1) > URL_LENGTH_MAX)
        return error_set(EINVAL, "%.60s...: a URL may have %d bytes at most", text, URL_LENGTH_MAX);
    url.text = strdup(text);
    url.storage = strdup(text);
    if (!url.text || !url.storage)
        r = error_set(ENOMEM, "%s: out of memory", text);
    else
        r = parse(&url);
    if (r < 0) {
        url_deinit(&url);
        return r;
    }
    *ret_url = url;
    return 0;
}

void url_deinit(struct url *url)
{
    free(url->text);
    free(url->storage);
    *url = (struct url){0};
}

bool url_has(const struct url *url, const char *key)
{
    for (size_t i = 0; i < url->option_count; i++)
        if (strcmp(url->options[i].key, key) == 0)
            return true;
    return false;
}

const char *url_option(struct url *url, const char *key)
{
    for (size_t i = 0; i < url->option_count; i++) {
        if (strcmp(url->options[i].key, key) == 0) {
            url->options[i].used = true;
            return url->options[i].value;
        }
    }
    return NULL;
}

/* Reads a whole number that fills the text up to an optional suffix. */
static bool parse_number(const char *text, bool suffixes, int64_t *ret)
{
    const char *digits = text + (*text == '-');
    bool hex = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
    char *end;
    long long value;
    int shift = 0;

    if (!isdigit((unsigned char)digits[0]) || (hex && !isxdigit((unsigned char)digits[2])))
        return false;
    errno = 0;
    value = strtoll(text, &end, hex ? 16 : 10);
    if (errno)
        return false;
    if (suffixes && *end) {
        shift = *end == 'k' || *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
        end += shift != 0;
    }
    if (*end || __builtin_mul_overflow(value, 1LL << shift, &value))
        return false;
    *ret = value;
    return true;
}

int url_option_number(struct url *url, const char *key, int64_t low, int64_t high, int64_t *ret)
{
    const char *value = url_option(url, key);
    int64_t number;

    if (!value)
        return 0;
    if (!parse_number(value, false, &number) || number < low || number > high)
        return error_set(EINVAL, "%s: expected ?%s= a number from %" PRId64 " to %" PRId64 ", got '%s'",
                         url->text, key, low, high, value);
    *ret = number;
    return 0;
}

int url_option_size(struct url *url, const char *key, size_t low, size_t high, size_t *ret)
{
    const char *value = url_option(url, key);
    int64_t number;

    if (!value)
        return 0;
    if (!parse_number(value, true, &number) || number < 0 || (size_t)number < low || (size_t)number > high)
        return error_set(EINVAL,
                         "%s: expected ?%s= a size from %zu to %zu bytes (k, M and G may follow), got '%s'",
                         url->text, key, low, high, value);
    *ret = (size_t)number;
    return 0;
}

int url_option_count(struct url *url, const char *key, size_t low, size_t high, size_t *ret)
{
    int64_t number = (int64_t)*ret;
    int r = url_option_number(url, key, (int64_t)low, (int64_t)high, &number);

    if (r == 0)
        *ret = (size_t)number;
    return r;
}

int url_option_word(struct url *url, const char *key, const char *const *words, int *ret)
{
    const char *value = url_option(url, key);
    char list[256] = "";

    if (!value)
        return 0;
    for (int i = 0; words[i]; i++) {
        size_t used = strlen(list);

        if (strcmp(words[i], value) == 0) {
            *ret = i;
            return 0;
        }
        (void)snprintf(list + used, sizeof list - used, "%s%s", i ? "|" : "", words[i]);
    }
    return error_set(EINVAL, "%s: expected ?%s=%s, got '%s'", url->text, key, list, value);
}

int url_option_flag(struct url *url, const char *key, bool *ret)
{
    static const char *const words[] = {"no", "yes", "off", "on", "false", "true", "0", "1", NULL};
    int word = -1;
    int r = url_option_word(url, key, words, &word);

    if (r == 0 && word >= 0)
        *ret = word % 2 == 1;
    return r;
}

/* "500ms", "2s", "1m" */
static bool parse_duration(const char *text, int64_t *ret_ns)
{
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {{"ms", NARU_MS(1)}, {"s", NARU_S(1)}, {"m", NARU_S(60)}, {"h", NARU_S(3600)}};
    char *end;
    long long number;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    number = strtoll(text, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (errno == 0 && strcmp(end, units[i].name) == 0 && number > 0 &&
            number <= INT64_MAX / units[i].ns) {
            *ret_ns = number * units[i].ns;
            return true;
        }
    return false;
}

int url_option_duration(struct url *url, const char *key, int64_t *ret_ns)
{
    const char *value = url_option(url, key);

    if (value && strcmp(value, "no") == 0)
        *ret_ns = 0;
    else if (value && strcmp(value, "yes") == 0)
        *ret_ns = NARU_FOREVER;
    else if (value && !parse_duration(value, ret_ns))
        return error_set(EINVAL, "%s: expected ?%s= no, yes or how long, as 500ms, 2s or 1m, got '%s'",
                         url->text, key, value);
    return 0;
}

int url_option_mode(struct url *url, const char *key, unsigned *ret)
{
    const char *value = url_option(url, key);
    unsigned long mode;
    char *end;

    if (!value)
        return 0;
    errno = 0;
    mode = strtoul(value, &end, 8);
    if (errno || *end || !isdigit((unsigned char)*value) || mode > 0777)
        return error_set(EINVAL, "%s: expected ?%s= octal permission bits such as 0660, got '%s'", url->text,
                         key, value);
    *ret = (unsigned)mode;
    return 0;
}

int url_check_unused(const struct url *url)
{
    for (size_t i = 0; i < url->option_count; i++)
        if (!url->options[i].used && strcmp(url->options[i].key, "reconnect") == 0)
            return error_set(EINVAL, "%s: ?reconnect= is for the end that connects; leave it out here",
                             url->text);
        else if (!url->options[i].used)
            return error_set(EINVAL, "%s: option '%s' means nothing to %s here; see `naru help %s`",
                             url->text, url->options[i].key, url->scheme, url->scheme);
    return 0;
}

int url_target_number(const struct url *url, const char *what, int64_t low, int64_t high, int64_t *ret)
{
    int64_t number;

    if (!parse_number(url->target, false, &number) || number < low || number > high)
        return error_set(EINVAL, "%s: expected %s, a number from %" PRId64 " to %" PRId64 ", got '%s'",
                         url->text, what, low, high, url->target);
    *ret = number;
    return 0;
}

static int bad_host_port(const struct url *url)
{
    return error_set(EINVAL,
                     "%s: expected host:port, as in %s://127.0.0.1:5000, %s://[::1]:5000 or %s://:5000",
                     url->text, url->scheme, url->scheme, url->scheme);
}

int url_target_host_port(const struct url *url, char *buffer, size_t capacity, const char **ret_host,
                         const char **ret_port)
{
    char *host = buffer, *colon, *port;

    if (strlen(url->target) >= capacity)
        return bad_host_port(url);
    strcpy(buffer, url->target); /* fits: checked above */
    colon = strrchr(buffer, ':');
    if (!colon)
        return bad_host_port(url);
    port = colon + 1;
    *colon = '\0';
    if (host[0] == '[') {
        if (colon - buffer < 3 || colon[-1] != ']') /* "[]" is no address */
            return bad_host_port(url);
        colon[-1] = '\0';
        host++;
    } else if (strchr(host, ':')) {
        return bad_host_port(url); /* a bare IPv6 address: which colon is the port's? */
    }
    if (!*port || strspn(port, "0123456789") != strlen(port) || strlen(port) > 5 || atoi(port) > 65535)
        return error_set(EINVAL, "%s: expected a port from 0 to 65535 behind the last ':', got '%s'",
                         url->text, port);
    *ret_host = host;
    *ret_port = port;
    return 0;
}
