/* SPDX-License-Identifier: MIT */
/* What docs/mechanisms.md claims about the kernel: each program of tests/claims/ is run, and is cited there.
 */
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner.h"

/* By CMake: the names of the programs, and where the sources are. */
static const char *const claims[] = {NARU_CLAIMS};

static const char *claim_name(size_t index)
{
    return index < sizeof claims / sizeof *claims ? claims[index] : NULL;
}

/* The program stands in the folder claims/ beside this one. */
static const char *program(const char *name)
{
    static char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);

    CHECK(length > 0);
    self[length] = 0;
    return test_format("%s/claims/%s", dirname(self), name);
}

TEST_EACH(the_kernel_does_as_the_manual_says, claim_name)
{
    const char *path = program(claims[index]);
    char out[1024] = "";
    size_t length = 0;
    int ends[2], status, pid;

    CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        execl(path, claims[index], (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    for (ssize_t n; (n = read(ends[0], out + length, sizeof out - 1 - length)) > 0;)
        length += (size_t)n;
    close(ends[0]);
    CHECK_INT(waitpid(pid, &status, 0), pid);
    if (status != 0)
        test_fail(__FILE__, __LINE__, "%s ended with status %#x: %s", path, (unsigned)status, out);
    CHECK_INT(strcspn(out, "\n") + 1, length); /* one line, and not an empty one */
    CHECK(length > 1);
}
