/* SPDX-License-Identifier: MIT */
/* A FIFO is not persistent: the name stays, the bytes are gone when the last end is closed (fifo(7)). */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "claim.h"

int main(void)
{
    char directory[] = "/tmp/claim-XXXXXX", byte;
    struct stat status;
    bool without_reader;
    ssize_t before, after;
    int out, in;

    if (!mkdtemp(directory) || chdir(directory) < 0)
        return perror(directory), 2;
    MUST(mkfifo("fifo", 0600));
    without_reader = FAILS(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO); /* a writer needs a reader */
    in = MUST(open("fifo", O_RDONLY | O_NONBLOCK));
    out = MUST(open("fifo", O_WRONLY));
    MUST(write(out, "ab", 2));
    before = read(in, &byte, 1);
    MUST(close(out)); /* "b" is still in the pipe ... */
    MUST(close(in));  /* ... and in no file */
    MUST(stat("fifo", &status));
    in = MUST(open("fifo", O_RDONLY | O_NONBLOCK));
    after = read(in, &byte, 1);
    unlink("fifo");
    rmdir(directory);
    return seen(
        without_reader && before == 1 && S_ISFIFO(status.st_mode) && status.st_size == 0 && after == 0,
        "wrote 2 bytes, read %zd, closed both ends: the name is there, its size is %lld, %zd bytes left",
        before, (long long)status.st_size, after);
}
