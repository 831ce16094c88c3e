/* SPDX-License-Identifier: MIT */
/* Internet addresses from URLs. */
#include "channel/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "channel/channel.h"

static int resolve_failed(const struct url *url, const char *host, int code)
{
    switch (code) {
    case EAI_MEMORY:
        return error_set(ENOMEM, "%s: out of memory to look up '%s'", url->text, host);
    case EAI_AGAIN:
        return error_set(EAGAIN,
                         "%s: the name server does not answer for '%s'; try again, or write an address",
                         url->text, host);
    case EAI_SYSTEM:
        return error_set(errno, "%s: cannot look up '%s': %s", url->text, host, error_text(errno));
    default:
        return error_set(ENOENT, "%s: no such host '%s' (%s)", url->text, host, gai_strerror(code));
    }
}

int addresses_resolve(const struct url *url, int socket_type, bool passive, struct addresses *ret)
{
    struct addrinfo hints = {.ai_socktype = socket_type, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char buffer[256];
    const char *host, *port;
    int r = url_target_host_port(url, buffer, sizeof buffer, &host, &port);

    if (r < 0)
        return r;
    if (strcmp(host, "*") == 0 && !passive)
        return error_set(
            EINVAL,
            "%s: '*' stands for every address of this machine and can only be listened on; expected "
            "a host to connect to",
            url->text);
    if (strcmp(port, "0") == 0 && !passive)
        return error_set(EINVAL, "%s: port 0 lets the kernel choose and can only be listened on", url->text);
    if (!*host && passive)
        host = "127.0.0.1"; /* one socket listens on one address; both families would take two */
    if (strcmp(host, "*") == 0)
        hints.ai_flags |= AI_PASSIVE;
    r = getaddrinfo(!*host || strcmp(host, "*") == 0 ? NULL : host, port, &hints, &found);
    if (r)
        return resolve_failed(url, host, r);
    ret->count = 0;
    /* With "*", the IPv6 wildcard takes IPv4 too (ipv6(7), IPV6_V6ONLY is off by default), so prefer it. */
    for (int pass = 0; pass < 2; pass++) {
        for (struct addrinfo *one = found; one && ret->count < ADDRESSES_MAX; one = one->ai_next) {
            struct address *address = &ret->list[ret->count];
            bool first = !(hints.ai_flags & AI_PASSIVE) || one->ai_family == AF_INET6;

            if (first != (pass == 0) || one->ai_addrlen > sizeof address->v6)
                continue;
            address->family = one->ai_family;
            address->length = one->ai_addrlen;
            memcpy(&address->any, one->ai_addr, one->ai_addrlen);
            ret->count++;
        }
    }
    freeaddrinfo(found);
    return ret->count ? 0 : resolve_failed(url, host, EAI_NONAME);
}

int address_bind_failed(const struct url *url, int code)
{
    switch (code) {
    case EADDRINUSE:
        return error_set(
            code, "%s: the port is in use; `ss -lnp` shows by whom; port 0 lets the kernel choose a free one",
            url->text);
    case EACCES:
        return error_set(code, "%s: permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE",
                         url->text);
    case EADDRNOTAVAIL:
        return error_set(code, "%s: this machine has no such address; `ip address` lists those it has",
                         url->text);
    default:
        return error_set(code, "%s: cannot listen: %s", url->text, error_text(code));
    }
}

int address_bind(const struct url *url, int fd, const struct address *address)
{
    return bind(fd, &address->any, address->length) < 0 ? address_bind_failed(url, errno) : 0;
}

int address_listener_url(struct naru_listener *l, const struct url *url, int fd)
{
    struct address address = {.length = sizeof address.v6};
    const char *options = strchr(url->text, '?');
    char host[INET6_ADDRSTRLEN] = "", *text;
    bool v6;

    if (getsockname(fd, &address.any, &address.length) < 0)
        return error_set(errno, "%s: getsockname: %s", url->text, error_text(errno));
    v6 = address.any.sa_family == AF_INET6;
    (void)inet_ntop(address.any.sa_family, v6 ? (void *)&address.v6.sin6_addr : (void *)&address.v4.sin_addr,
                    host, sizeof host);
    if (asprintf(&text, "%s://%s%s%s:%u%s", url->scheme, v6 ? "[" : "", host, v6 ? "]" : "",
                 ntohs(v6 ? address.v6.sin6_port : address.v4.sin_port), options ? options : "") < 0)
        return error_set(ENOMEM, "%s: out of memory", url->text);
    free(l->url);
    l->url = text;
    return 0;
}
