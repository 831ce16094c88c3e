/* SPDX-License-Identifier: MIT */
/* A pipe or FIFO is not unlimited: 64 KiB unless asked otherwise, at most /proc/sys/fs/pipe-max-size without
 * privilege (pipe(7), "Pipe capacity"); a writer of a full one waits. */
#include <fcntl.h>
#include <unistd.h>

#include "claim.h"

/* Fills the pipe; how many bytes it took. */
static int fill(int out)
{
    static const char page[4096];
    int bytes = 0;

    for (ssize_t n; (n = write(out, page, sizeof page)) > 0;)
        bytes += (int)n;
    return errno == EAGAIN ? bytes : -1;
}

int main(void)
{
    int ends[2], usual, took, smaller[2], asked, took_smaller;

    MUST(pipe2(ends, O_NONBLOCK));
    MUST(pipe2(smaller, O_NONBLOCK));
    usual = MUST(fcntl(ends[1], F_GETPIPE_SZ));
    took = fill(ends[1]);
    asked = MUST(fcntl(smaller[1], F_SETPIPE_SZ, 4096)); /* rounded up to a page */
    took_smaller = fill(smaller[1]);
    return seen(took == usual && took_smaller == asked && asked < usual + 1,
                "a pipe took %d bytes and then said EAGAIN; one with F_SETPIPE_SZ 4096 took %d", took,
                took_smaller);
}
