/* SPDX-License-Identifier: MIT */
/* A pipe goes one way, and its reader sees the end only when every copy of the writing end is closed, those
 * that fork(2) made included (pipe(7), "I/O on pipes and FIFOs"). What was written before comes first, also
 * when the writer was killed. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "claim.h"

int main(void)
{
    char text[8];
    int ends[2], child, status;
    bool one_way, waits, ended;
    ssize_t n;

    MUST(pipe2(ends, O_NONBLOCK));
    one_way = FAILS(read(ends[1], text, 1), EBADF) && FAILS(write(ends[0], text, 1), EBADF);
    child = MUST(fork());
    if (child == 0) {
        MUST(write(ends[1], "last", 4));
        raise(SIGKILL);
    }
    MUST(waitpid(child, &status, 0));
    n = read(ends[0], text, sizeof text);
    waits = FAILS(read(ends[0], text, 1), EAGAIN); /* our own copy of the writing end */
    MUST(close(ends[1]));
    ended = read(ends[0], text, 1) == 0;
    return seen(one_way && WIFSIGNALED(status) && n == 4 && waits && ended,
                "the killed writer's %zd bytes came; no end until our own copy of the writing end was closed",
                n);
}
