/* SPDX-License-Identifier: MIT */
/* A program of somebody who installed naru: a child sends one message, the parent prints it. */
#include <naru/naru.h>

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, naru_explain());
    return 1;
}

int main(void)
{
    struct naru_channel *ends[2];
    char text[64];
    ssize_t length;
    int status;
    pid_t child;

    if (naru_channel_pair("pipe:", NULL, ends) < 0)
        return fail("pair");
    child = fork();
    if (child < 0)
        return 1;
    if (child == 0)
        _exit(naru_send(ends[0], "it works", 8, NARU_FOREVER) < 0 ? fail("send") : 0);
    length = naru_recv(ends[1], text, sizeof text, NARU_FOREVER);
    if (length < 0)
        return fail("recv");
    printf("%.*s\n", (int)length, text);
    naru_channel_close(ends[0]);
    naru_channel_close(ends[1]);
    return waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}
