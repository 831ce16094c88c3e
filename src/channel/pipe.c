/* SPDX-License-Identifier: MIT */
/* pipe: anonymous pipes, a pair of them so that both ends send and receive (pipe(7): a pipe goes one way). */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "channel/pipe-io.h"
#include "channel/stream.h"
#include "channel/table.h"

static int make_pipe(struct naru_channel *from, struct naru_channel *to, const struct naru_options *opt)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return error_set(errno, "%s: pipe: %s", from->url, error_text(errno));
    to->rfd = fds[0];
    from->wfd = fds[1];
    return pipe_io_set_buffer(from->url, from->wfd, opt);
}

static int pipe_pair(struct naru_channel *ch[2], struct url *url, const struct naru_options *opt)
{
    bool both = opt->direction == NARU_DIRECTION_DEFAULT || opt->direction == NARU_DIRECTION_BOTH;
    int r;

    if (*url->target)
        return error_set(EINVAL,
                         "%s: an anonymous pipe has no name; expected pipe: (a named one is fifo:///path)",
                         url->text);
    r = make_pipe(ch[0], ch[1], opt);
    if (r == 0 && both)
        r = make_pipe(ch[1], ch[0], opt);
    for (int i = 0; i < 2 && r == 0; i++)
        r = channel_make_stream(ch[i], opt, NARU_FRAME_LEN32, false);
    ch[0]->direction = both ? NARU_DIRECTION_BOTH : NARU_DIRECTION_SEND;
    ch[1]->direction = both ? NARU_DIRECTION_BOTH : NARU_DIRECTION_RECEIVE;
    return r;
}

const struct channel_ops pipe_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "pipe",
            .scheme = "pipe",
            .example = "pipe:",
            .title = "anonymous pipe",
            .use_when = "a parent talks with its child",
            .medium = "kernel pipe buffer",
            .direction = "one way a pipe; naru makes two",
            .unit = "byte stream",
            .scope = "related processes",
            .persistence = "until the last end is closed",
            .limit = "64 KiB buffered; F_SETPIPE_SZ up to /proc/sys/fs/pipe-max-size",
            .wait = "blocking read or write, poll",
            .options = CHANNEL_OPTIONS_STREAM("len32") CHANNEL_OPTION_BUFFER,
            .capabilities = NARU_CAN_DUPLEX | NARU_CAN_PAIR | NARU_CAN_SURVIVE_SENDER | NARU_CAN_SEE_CLOSE |
                            NARU_CAN_SEE_RECEIVER | NARU_CAN_BE_RELIABLE | NARU_CAN_POLL | NARU_CAN_FRAME |
                            NARU_CAN_SEND_EMPTY | NARU_CAN_PUSH_BACK | NARU_CAN_TELL_TAKEN},
    .pair = pipe_pair,
    STREAM_MESSAGES,
    PIPE_IO,
    .untaken = pipe_io_untaken,
};
