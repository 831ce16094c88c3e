/* SPDX-License-Identifier: MIT */
/* Objects on their way: serialised as JSON, XML or binary, sent in order, received, made objects again. Run
 * `objects fifo:///tmp/orders` in one terminal, and in another `objects fifo:///tmp/orders json` (or xml, or
 * binary). naru keeps the messages apart, so the consumer never asks where one ends. */
#include <naru/naru.h>
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct order {
    unsigned id, pieces;
    char item[16];
};

static const char json[] = "{\"id\":%u,\"pieces\":%u,\"item\":\"%15[^\"]\"}";
static const char xml[] = "<order id=\"%u\" pieces=\"%u\"><item>%15[^<]</item></order>";

/* Returns the length; as: "json", "xml" or "binary". */
static int serialise(const struct order *o, const char *as, char *out, size_t size)
{
    unsigned numbers[2] = {htonl(o->id), htonl(o->pieces)}; /* of one byte order, whoever reads it */

    if (*as == 'j')
        return snprintf(out, size, "{\"id\":%u,\"pieces\":%u,\"item\":\"%s\"}", o->id, o->pieces, o->item);
    if (*as == 'x')
        return snprintf(out, size, "<order id=\"%u\" pieces=\"%u\"><item>%s</item></order>", o->id, o->pieces,
                        o->item);
    memcpy(out, numbers, sizeof numbers);
    return (int)sizeof numbers + snprintf(out + sizeof numbers, size - sizeof numbers, "%s", o->item);
}

/* Whether it was an order; in ends with a 0. */
static int deserialise(const char *in, size_t length, struct order *o)
{
    unsigned numbers[2];

    if (*in == '{' || *in == '<')
        return sscanf(in, *in == '{' ? json : xml, &o->id, &o->pieces, o->item) == 3;
    if (length < sizeof numbers || length - sizeof numbers >= sizeof o->item)
        return 0;
    memcpy(numbers, in, sizeof numbers);
    o->id = ntohl(numbers[0]);
    o->pieces = ntohl(numbers[1]);
    memcpy(o->item, in + sizeof numbers, length - sizeof numbers + 1);
    return 1;
}

static int produce(const char *url, const char *as)
{
    const struct order orders[] = {{1, 3, "tea"}, {2, 1, "kettle"}, {3, 12, "cup"}};
    struct naru_channel *channel;
    char text[128];
    int r = naru_connect(url, NULL, NARU_S(10), &channel);

    if (r < 0)
        return r;
    for (size_t i = 0; i < 3 && r == 0; i++)
        r = naru_send(channel, text, (size_t)serialise(&orders[i], as, text, sizeof text), NARU_FOREVER);
    naru_channel_close(channel);
    return r;
}

/* Until the producer is done, and everything it sent was received: -EPIPE. */
static int print_orders(struct naru_channel *channel)
{
    struct order order;
    char text[129];
    ssize_t n;

    while ((n = naru_recv(channel, text, sizeof text - 1, NARU_FOREVER)) >= 0) {
        text[n] = 0;
        if (!deserialise(text, (size_t)n, &order))
            return fprintf(stderr, "objects: that is no order: %s\n", text), -EBADMSG;
        printf("order %u: %u x %s (%zd bytes)\n", order.id, order.pieces, order.item, n);
    }
    return (int)n;
}

static int consume(const char *url)
{
    struct naru_listener *listener;
    struct naru_channel *channel;
    int r = naru_listen(url, NULL, &listener);

    if (r < 0)
        return r;
    r = naru_accept(listener, NARU_FOREVER, &channel);
    if (r == 0) {
        r = print_orders(channel);
        naru_channel_close(channel);
    }
    naru_listener_close(listener);
    return r == -EPIPE ? 0 : r;
}

int main(int argc, char **argv)
{
    int r;

    if (argc < 2 || argc > 3)
        return fprintf(stderr, "usage: objects URL [json|xml|binary]\n"), 2;
    r = argc == 3 ? produce(argv[1], argv[2]) : consume(argv[1]);
    if (r < 0 && r != -EBADMSG)
        fprintf(stderr, "objects: %s\n", naru_explain());
    return r < 0;
}
