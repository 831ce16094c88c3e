/* SPDX-License-Identifier: MIT */
/* Half-close: one direction ends, the other goes on. */
#include <errno.h>

#include "naru/channel.h"
#include "naru/error.h"
#include "runner.h"

static void finish_one_direction(const char *url)
{
    struct naru_channel *ends[2];
    char buffer[16];

    CHECK_INT(naru_channel_pair(url, NULL, ends), 0);
    CHECK_INT(naru_send(ends[0], "last", 4, NARU_FOREVER), 0);
    CHECK_INT(naru_channel_finish(ends[0]), 0);
    CHECK_INT(naru_channel_finish(ends[0]), 0);
    CHECK_INT(naru_send(ends[0], "more", 4, NARU_FOREVER), -EPIPE);
    CHECK_CONTAINS(naru_explain(), "naru_channel_finish");
    CHECK_INT(naru_recv(ends[1], buffer, sizeof buffer, NARU_FOREVER), 4);
    CHECK_INT(naru_recv(ends[1], buffer, sizeof buffer, NARU_FOREVER), -EPIPE);
    CHECK_INT(naru_send(ends[1], "answer", 6, NARU_FOREVER), 0);
    CHECK_INT(naru_recv(ends[0], buffer, sizeof buffer, NARU_FOREVER), 6);
    naru_channel_close(ends[0]);
    naru_channel_close(ends[1]);
}

TEST(finish_lets_the_peer_answer_over_pipes)
{
    finish_one_direction("pipe:");
}

TEST(finish_lets_the_peer_answer_over_unix_stream)
{
    finish_one_direction("unix:");
}

TEST(finish_lets_the_peer_answer_over_unix_seqpacket)
{
    finish_one_direction("unix:?type=seqpacket");
}

TEST(finish_is_refused_by_datagrams)
{
    struct naru_channel *ends[2];

    CHECK_INT(naru_channel_pair("unix:?type=dgram", NULL, ends), 0);
    CHECK_INT(naru_channel_finish(ends[0]), -ENOTSUP);
    CHECK_INT(naru_send(ends[0], "on", 2, NARU_FOREVER), 0);
    naru_channel_close(ends[0]);
    naru_channel_close(ends[1]);
}
