/* SPDX-License-Identifier: MIT */
/* What the tests of file: have in common: one file, its writers and readers. */
#ifndef NARU_CHANNEL_TEST_FILE_H
#define NARU_CHANNEL_TEST_FILE_H

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

static const int64_t patience = NARU_S(60);

static inline const char *path(void)
{
    return test_format("%s/log", test_directory());
}

static inline const char *url(const char *query)
{
    return test_format("file://%s%s", path(), query);
}

static inline struct naru_channel *connect_as(const char *to, enum naru_direction direction)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch = NULL;

    options.direction = direction;
    CHECK_INT(naru_connect(to, &options, patience, &ch), 0);
    return ch;
}

static inline struct naru_channel *writer(const char *query)
{
    return connect_as(url(query), NARU_DIRECTION_DEFAULT);
}

static inline struct naru_channel *reader(const char *query)
{
    return connect_as(url(query), NARU_DIRECTION_RECEIVE);
}

static inline void put(struct naru_channel *ch, const char *text)
{
    CHECK_INT(naru_send(ch, text, strlen(text), NARU_NOWAIT), 0);
}

static inline void check_recv(struct naru_channel *ch, const char *expected)
{
    char buffer[256];
    ssize_t n = naru_recv(ch, buffer, sizeof buffer - 1, patience);

    CHECK_INT(n, strlen(expected));
    buffer[n] = '\0';
    CHECK_STR(buffer, expected);
}

static inline void check_none(struct naru_channel *ch, int code)
{
    char buffer[256];

    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT), code);
}

/* Appends with plain system calls. */
static inline void append(const char *text, size_t length)
{
    int fd = open(path(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    CHECK(fd >= 0);
    CHECK_INT(write(fd, text, length), length);
    (void)close(fd);
}

static inline void check_file(const char *expected)
{
    char buffer[4096] = "";
    int fd = open(path(), O_RDONLY | O_CLOEXEC);

    CHECK_INT(read(fd, buffer, sizeof buffer - 1), strlen(expected));
    CHECK_STR(buffer, expected);
    (void)close(fd);
}

#endif
