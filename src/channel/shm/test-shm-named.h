/* SPDX-License-Identifier: MIT */
/* What the tests of shm+posix: and shm+sysv: have in common: two ends, and whether they carry. */
#ifndef NARU_CHANNEL_TEST_SHM_NAMED_H
#define NARU_CHANNEL_TEST_SHM_NAMED_H

#include "naru/naru.h"
#include "runner.h"

static const int64_t patience = NARU_S(60);

static inline struct naru_listener *listen_at(const char *url)
{
    struct naru_listener *l = NULL;

    if (naru_listen(url, NULL, &l) < 0)
        test_fail(__FILE__, __LINE__, "naru_listen: %s", naru_explain());
    return l;
}

static inline struct naru_channel *connect_to(const char *url)
{
    struct naru_channel *ch = NULL;

    if (naru_connect(url, NULL, patience, &ch) < 0)
        test_fail(__FILE__, __LINE__, "naru_connect: %s", naru_explain());
    return ch;
}

static inline struct naru_channel *accept_from(struct naru_listener *l)
{
    struct naru_channel *ch = NULL;

    if (naru_accept(l, patience, &ch) < 0)
        test_fail(__FILE__, __LINE__, "naru_accept: %s", naru_explain());
    return ch;
}

static inline void check_carries(struct naru_channel *from, struct naru_channel *to)
{
    char text[8];

    CHECK_INT(naru_send(from, "there", 6, patience), 0);
    CHECK_INT(naru_recv(to, text, sizeof text, patience), 6);
    CHECK_STR(text, "there");
}

/* Whatever was there before: a listener has the name, and serves. */
static inline void check_serves(const char *url)
{
    struct naru_listener *l = listen_at(url);
    struct naru_channel *far = connect_to(url), *near = accept_from(l);

    check_carries(far, near);
    check_carries(near, far);
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}

#endif
