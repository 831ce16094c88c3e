/* SPDX-License-Identifier: MIT */
/*
 * The URL grammar, in one place. What is rejected is rejected with a sentence saying what was expected.
 *
 *   url     = "-" / scheme ":" [ "//" ] target [ "?" option *( "&" option ) ]
 *   scheme  = ALPHA *( ALPHA / DIGIT / "+" )
 *   target  = *( any character but "?", or %XX )         ; exec: takes the whole rest, "?" included
 *   option  = key [ "=" value ]                          ; value may hold %XX; no value means "yes"
 *
 * The percent-encoding is RFC 3986 section 2.1. A NUL (%00) is refused. Each option must be asked for by a
 * mechanism: url_check_unused() refuses those that none asked for, so that a misspelt option is never
 * ignored.
 */
#ifndef NARU_BASE_URL_H
#define NARU_BASE_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { URL_OPTIONS_MAX = 16, URL_LENGTH_MAX = 8192 };

struct url_option {
    const char *key, *value;
    bool used;
};

struct url {
    char *text;         /* as given */
    char *storage;      /* the parts below point in here, decoded and terminated */
    const char *scheme; /* "-" for the URL "-" */
    const char *target;
    struct url_option options[URL_OPTIONS_MAX];
    size_t option_count;
};

/* 0, -EINVAL (explained) or -ENOMEM. On success *ret_url is the caller's to url_deinit(). */
int url_parse(const char *text, struct url *ret_url);
void url_deinit(struct url *url);

/* Whether there is a ?key=. Does not mark it used. */
bool url_has(const struct url *url, const char *key);

/* The value of ?key=, or NULL. Marks it used. */
const char *url_option(struct url *url, const char *key);

/* Typed options: when ?key= is absent *ret stays untouched. 0, or -EINVAL with what was expected.
 * Numbers: decimal or 0x hex, with an optional binary suffix k, M, G (sizes only), within [low, high]. */
int url_option_number(struct url *url, const char *key, int64_t low, int64_t high, int64_t *ret);
int url_option_size(struct url *url, const char *key, size_t low, size_t high, size_t *ret);
int url_option_count(struct url *url, const char *key, size_t low, size_t high, size_t *ret); /* of things */
int url_option_flag(struct url *url, const char *key,
                    bool *ret); /* yes/no/on/off/true/false/1/0, or no value */
int url_option_duration(struct url *url, const char *key,
                        int64_t *ret_ns); /* no: 0, yes: NARU_FOREVER, or a number of ms, s, m or h */
int url_option_mode(struct url *url, const char *key, unsigned *ret); /* octal permission bits */

/* One of the words in the NULL-terminated list; *ret is its index. */
int url_option_word(struct url *url, const char *key, const char *const *words, int *ret);

/* -EINVAL naming the first option that nobody asked for. */
int url_check_unused(const struct url *url);

/* The target as a number (decimal, 0x hex), for keys and descriptors. what: "a System V key". */
int url_target_number(const struct url *url, const char *what, int64_t low, int64_t high, int64_t *ret);

/* The target as host and port: "host:port", ":port", "[v6]:port". Both point into buffer (at least
 * strlen(target) + 1 bytes). -EINVAL with an example. */
int url_target_host_port(const struct url *url, char *buffer, size_t capacity, const char **ret_host,
                         const char **ret_port);

#endif
