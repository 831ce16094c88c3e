/* SPDX-License-Identifier: MIT */
/* One receiver of many senders. Run `gather shm://votes 3` in one terminal: it waits for three voters, tells
 * each of them to begin, and counts what they say. In three others: `gather shm://votes vote tea`. */
#include <naru/naru.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int count(const char *url, size_t voters)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    struct naru_gather *g;
    char vote[64];
    ssize_t n;
    int votes = 0;

    if (naru_gather_new(&g) < 0 || naru_gather_listen(g, url, NULL, NULL) < 0 ||
        naru_gather_wait_peers(g, voters, NARU_FOREVER) < 0)
        return fprintf(stderr, "gather: %s\n", naru_explain()), 1;
    while (naru_gather_next(g, &from))
        if (naru_send(from.channel, "begin", 5, NARU_NOWAIT) < 0)
            fprintf(stderr, "gather: %s\n", naru_explain()); /* it has gone: we are told below */
    while (naru_gather_peers(g) > 0) {
        n = naru_gather_recv(g, vote, sizeof vote, NARU_FOREVER, &from);
        if (n >= 0)
            printf("voter %d: %.*s (%d)\n", (int)from.number, (int)n, vote, ++votes);
        else if (from.left)
            printf("voter %d has gone: %s\n", (int)from.number, naru_explain());
        else
            return fprintf(stderr, "gather: %s\n", naru_explain()), 1;
    }
    naru_gather_close(g);
    return 0;
}

static int vote(const char *url, const char *text)
{
    struct naru_channel *channel;
    char word[8];
    ssize_t r = naru_connect(url, NULL, NARU_S(10), &channel);

    if (r == 0)
        r = naru_recv(channel, word, sizeof word, NARU_FOREVER); /* until all are there */
    if (r > 0)
        r = naru_send(channel, text, strlen(text), NARU_FOREVER);
    if (r < 0)
        return fprintf(stderr, "gather: %s\n", naru_explain()), 1;
    naru_channel_close(channel);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[2], "vote") == 0)
        return vote(argv[1], argv[3]);
    if (argc == 3 && atoi(argv[2]) > 0)
        return count(argv[1], (size_t)atoi(argv[2]));
    return fprintf(stderr, "usage: gather URL VOTERS | gather URL vote TEXT\n"), 2;
}
