/* SPDX-License-Identifier: MIT */
/* What System V and POSIX message queues share. */
#include "channel/queue.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"

int queue_parse(struct url *url, const struct naru_options *opt, bool listens,
                struct queue_request *ret_request)
{
    struct queue_request request = {.create = listens, .direction = opt->direction};
    int r = url_option_flag(url, "create", &request.create);

    if (r == 0)
        r = url_option_flag(url, "unlink", &request.unlink);
    if (r < 0)
        return r;
    if (request.direction == NARU_DIRECTION_DEFAULT)
        request.direction = listens ? NARU_DIRECTION_RECEIVE : NARU_DIRECTION_SEND;
    *ret_request = request;
    return 0;
}

/* Whether the option that begins at text, and ends with it or at "&", has one of the keys. */
static bool has_key(const char *text, const char *const *keys)
{
    size_t length = strcspn(text, "=&");

    for (; *keys; keys++)
        if (strlen(*keys) == length && strncmp(text, *keys, length) == 0)
            return true;
    return false;
}

/* Adds length bytes of an option behind what stands at the end; returns the new end. */
static char *append(char *end, bool first, const char *option, size_t length)
{
    *end++ = first ? '?' : '&';
    memcpy(end, option, length);
    return end + length;
}

int queue_listener_url(struct naru_listener *l, const struct url *url, const char *const *without,
                       const char *more)
{
    const char *query = strchr(url->text, '?');
    size_t head = query ? (size_t)(query - url->text) : strlen(url->text);
    char *text = malloc(strlen(url->text) + strlen(more) + sizeof "?");
    char *end;

    if (!text)
        return error_set(ENOMEM, "%s: out of memory for a listener", url->text);
    memcpy(text, url->text, head);
    end = text + head;
    for (; query; query = strchr(query + 1, '&'))
        if (!has_key(query + 1, without))
            end = append(end, end == text + head, query + 1, strcspn(query + 1, "&"));
    if (*more)
        end = append(end, end == text + head, more, strlen(more));
    *end = '\0';
    free(l->url);
    l->url = text;
    return 0;
}

int64_t queue_limit(const char *path, int64_t usual)
{
    FD_CLEANUP int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[32];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (n <= 0)
        return usual;
    text[n] = '\0';
    return strtoll(text, NULL, 10);
}
