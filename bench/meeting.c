/* SPDX-License-Identifier: MIT */
/* Two pipes. */
#include "bench/meeting.h"

#include <errno.h>
#include <unistd.h>

static enum duo_side other(enum duo_side side)
{
    return side == DUO_NEAR ? DUO_FAR : DUO_NEAR;
}

static int close_fd(int fd)
{
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

int meeting_open(struct meeting *m)
{
    int r = 0;

    for (int i = 0; i < 4; i++)
        m->told[i / 2][i % 2] = -1;
    if (pipe(m->told[DUO_NEAR]) < 0 || pipe(m->told[DUO_FAR]) < 0) {
        r = duo_fail_errno("pipe");
        meeting_close(m);
    }
    return r;
}

void meeting_close(struct meeting *m)
{
    for (int i = 0; i < 4; i++)
        m->told[i / 2][i % 2] = close_fd(m->told[i / 2][i % 2]);
}

void meeting_attend(struct meeting *m, enum duo_side side)
{
    m->told[other(side)][1] = close_fd(m->told[other(side)][1]);
}

int meeting_tell(struct meeting *m, enum duo_side side)
{
    return write(m->told[side][1], "", 1) == 1 ? 0 : duo_fail_errno("write");
}

int meeting_await(struct meeting *m, enum duo_side side)
{
    char byte;
    ssize_t n = read(m->told[other(side)][0], &byte, 1);

    return n == 1 ? 0 : n == 0 ? duo_fail(-EPIPE, "the other side has ended") : duo_fail_errno("read");
}

int meeting_both(struct meeting *m, enum duo_side side)
{
    int r = meeting_tell(m, side);

    return r < 0 ? r : meeting_await(m, side);
}
