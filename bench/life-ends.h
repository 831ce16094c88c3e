/* SPDX-License-Identifier: MIT */
/* Two ends that meet at a name, by naru's shared memory and by a bare unix socket, driven by the same code.
 */
#ifndef BENCH_LIFE_ENDS_H
#define BENCH_LIFE_ENDS_H

#include <limits.h>
#include <stdbool.h>

struct naru_channel;
struct naru_listener;

enum { LIFE_MESSAGE = 64 };

struct life_end {
    char name[PATH_MAX]; /* naru's URL; the bare one's abstract name, without its leading NUL */
    const char *options; /* naru's connector's, "?wait=spin" */
    struct naru_listener *listener;
    struct naru_channel *channel;
    int listening, fd; /* the bare one's */
};

enum life_sent { LIFE_SENT, LIFE_FULL, LIFE_GONE };

/* Each returns 0 or -errno after duo_fail(), and takes what it needs from *end. */
struct life_way {
    const char *name; /* "naru" */
    void (*prepare)(struct life_end *end, const char *directory);
    int (*listen)(struct life_end *end);
    int (*accept)(struct life_end *end);
    int (*connect)(struct life_end *end);
    /* Sends a message of LIFE_MESSAGE bytes: an enum life_sent, or -errno after duo_fail(). FULL comes only
     * where it is not to wait. */
    int (*send)(struct life_end *end, bool wait);
    int (*recv)(struct life_end *end); /* blocks */
    /* In the supervisor, once the children are gone: what a killed one has left of the name. */
    void (*remove)(const struct life_end *end);
};

extern const struct life_way life_ways[]; /* [LIFE_WAYS] */

#endif
