/* SPDX-License-Identifier: MIT */
/* A producer and a consumer. Run `jobs unix:///tmp/jobs.sock` in one terminal, and in another
 * `jobs unix:///tmp/jobs.sock first second third`. Other URLs (fifo:, tcp:, posixmq: ...) do as well. */
#include <naru/naru.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int consume(const char *url)
{
    struct naru_listener *listener;
    struct naru_channel *channel;
    char job[4096];
    ssize_t n;

    if (naru_listen(url, NULL, &listener) < 0 || naru_accept(listener, NARU_FOREVER, &channel) < 0)
        return fprintf(stderr, "jobs: %s\n", naru_explain()), 1;
    while ((n = naru_recv(channel, job, sizeof job, NARU_FOREVER)) >= 0)
        printf("job: %.*s\n", (int)n, job);
    if (n != -EPIPE) /* -EPIPE: the producer is done, and everything it sent has been received */
        fprintf(stderr, "jobs: %s\n", naru_explain());
    naru_channel_close(channel);
    naru_listener_close(listener);
    return n != -EPIPE;
}

static int produce(const char *url, char **jobs)
{
    struct naru_channel *channel;
    int r = naru_connect(url, NULL, NARU_S(10), &channel); /* waits for the consumer to appear */

    if (r < 0)
        return fprintf(stderr, "jobs: %s\n", naru_explain()), 1;
    for (; *jobs && r == 0; jobs++)
        r = naru_send(channel, *jobs, strlen(*jobs), NARU_FOREVER);
    if (r < 0)
        fprintf(stderr, "jobs: %s\n", naru_explain());
    naru_channel_close(channel);
    return r < 0;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return fprintf(stderr, "usage: jobs URL [JOB...]\n"), 2;
    return argc == 2 ? consume(argv[1]) : produce(argv[1], argv + 2);
}
