/* SPDX-License-Identifier: MIT */
/* A write of up to PIPE_BUF (4096) bytes goes in as one piece or not at all; a larger one does not: bytes of
 * others may come between, although it was one write(2) and did not fail (pipe(7), PIPE_BUF). */
#include <fcntl.h>
#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

#include "claim.h"

enum { LARGE = 16 << 20 };

/* A second description of the pipe, so that its O_NONBLOCK is its own. */
static int open_again(int fd)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return MUST(open(path, O_WRONLY | O_NONBLOCK));
}

/* How often A comes again after it was interrupted, going on from the byte before. */
static int interruptions(const char *data, ssize_t length, char *before)
{
    int count = 0;

    for (ssize_t i = 0; i < length; i++) {
        count += *before == 'B' && data[i] == 'A';
        *before = data[i];
    }
    return count;
}

int main(void)
{
    static char large[LARGE], piece[PIPE_BUF];
    char before = 'A';
    int ends[2], other, status, cuts = 0;
    bool small_refused;
    ssize_t part, total = 0;

    MUST(pipe(ends));
    other = open_again(ends[1]);
    while (write(other, piece, sizeof piece) > 0)
        ;
    MUST(read(ends[0], piece, sizeof piece));                     /* room for one page ... */
    MUST(write(other, "", 1));                                    /* ... of which one byte is taken */
    small_refused = FAILS(write(other, large, PIPE_BUF), EAGAIN); /* not in part, though there is room */
    part = MUST(write(other, large, PIPE_BUF + 100));             /* above PIPE_BUF: in part */

    memset(large, 'A', sizeof large);
    if (MUST(fork()) == 0) /* one write of 16 MiB, which waits for room again and again */
        _exit(MUST(write(ends[1], large, sizeof large)) != LARGE);
    MUST(close(ends[1]));
    while (cuts == 0 && total < LARGE) { /* so many bytes come, whoever wins */
        ssize_t n = MUST(read(ends[0], piece, sizeof piece));

        if (n > 0 && piece[n - 1] == 'A') /* of the 16 MiB; there is room, and at once we may be faster */
            (void)!write(other, "B", 1);
        total += n;
        cuts += interruptions(piece, n, &before);
    }
    MUST(close(other));
    for (ssize_t n; (n = MUST(read(ends[0], large, sizeof large))) > 0;)
        cuts += interruptions(large, n, &before);
    MUST(wait(&status));
    return seen(
        small_refused && part > 0 && part < PIPE_BUF + 100 && status == 0 && cuts > 0,
        "with little room a write of 4096 bytes was refused, of 4196 bytes %zd went in; one write of 16 MiB "
        "had bytes of another in its middle",
        part);
}
