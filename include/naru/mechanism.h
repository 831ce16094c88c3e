/* SPDX-License-Identifier: MIT */
/*
 * The mechanisms naru speaks, one row each: what a textbook's comparison table says, and what programs and
 * tests need to know before they choose (capabilities). The rows are constant data: any thread, any time,
 * after fork() and in signal handlers.
 */
#ifndef NARU_MECHANISM_H
#define NARU_MECHANISM_H

#include <stddef.h>
#include <stdint.h>

#include "naru/export.h"

NARU_BEGIN

/* What a mechanism can do. Conformance tests demand each set bit and demand a refusal for each clear one. */
enum naru_capability {
    NARU_CAN_DUPLEX = 1 << 0,         /* both ends send and receive */
    NARU_CAN_PAIR = 1 << 1,           /* naru_channel_pair() */
    NARU_CAN_CONNECT = 1 << 2,        /* naru_connect() */
    NARU_CAN_LISTEN = 1 << 3,         /* naru_listen() and naru_accept() */
    NARU_CAN_ACCEPT_MANY = 1 << 4,    /* each naru_accept() is a connection of its own */
    NARU_CAN_PRIORITY = 1 << 5,       /* message.priority overtakes; shm: with ?lanes= */
    NARU_CAN_TYPE = 1 << 6,           /* message.type, and receiving by type */
    NARU_CAN_FDS = 1 << 7,            /* message.fds */
    NARU_CAN_CREDENTIALS = 1 << 8,    /* naru_channel_info() knows the peer's pid, uid and gid; without
                                         connections each message's sender says them */
    NARU_CAN_SURVIVE_SENDER = 1 << 9, /* what naru_send() accepted is delivered though the sender is killed */
    NARU_CAN_KNOW_DEATH = 1 << 10,    /* tells a killed peer (-EOWNERDEAD) from a closed one (-EPIPE); not
                                         between the ends of a pair: nobody knows who took the other */
    NARU_CAN_SEE_CLOSE = 1 << 11,     /* the receiver learns that the last sender is gone */
    NARU_CAN_SEE_RECEIVER = 1 << 12,  /* the sender learns that the receiver is gone */
    NARU_CAN_BE_RELIABLE = 1 << 13,   /* nothing accepted is dropped by the mechanism */
    NARU_CAN_POLL = 1 << 14,          /* naru_channel_fd(); without it, timed waits are a capped back-off */
    NARU_CAN_PERSIST = 1 << 15,       /* messages outlive every process (until removed or reboot) */
    NARU_CAN_FRAME = 1 << 16,         /* a byte stream: boundaries come from ?frame= */
    NARU_CAN_SEND_EMPTY = 1 << 17,    /* a message of 0 bytes is a message */
    NARU_CAN_REACH_NETWORK = 1 << 18, /* between machines */
    NARU_CAN_SHARE_RECEIVE = 1 << 19, /* several receivers: each message goes to one of them */
    NARU_CAN_BROADCAST = 1 << 20,     /* several receivers: each message goes to all of them */
    NARU_CAN_PUSH_BACK = 1 << 21,     /* a full queue makes the sender wait */
    NARU_CAN_TELL_TAKEN = 1 << 22,    /* naru_flush(NARU_TAKEN) */
    NARU_CAN_TELL_DONE = 1 << 23      /* naru_flush(NARU_DONE) */
};

struct naru_mechanism {
    size_t size;             /* sizeof(struct naru_mechanism) of the library */
    const char *name;        /* unique: "pipe", "unix-stream", ... */
    const char *scheme;      /* of the URL: "pipe", "unix", ... */
    const char *example;     /* a URL that works as printed */
    const char *also;        /* other forms of it: "shm:///path/of/socket"; NULL: there are none */
    const char *title;       /* the textbook's name: "anonymous pipe" */
    const char *use_when;    /* one line of advice */
    const char *medium;      /* where the bytes wait: "kernel pipe buffer" */
    const char *direction;   /* "one way", "both ways", ... */
    const char *unit;        /* "byte stream", "message", "4-byte int" */
    const char *scope;       /* who can reach it: "related processes", "one machine", "network" */
    const char *persistence; /* how long it and its contents live */
    const char *limit;       /* the limit one meets first, and its name in /proc or setsockopt */
    const char *wait;        /* how a waiter sleeps */
    const char *options; /* of its URL: lines of "key=VALUE\t what it does"; NULL: none but ?max-message= and
                            ?reconnect=, as every URL has them (of exec: all is the command's) */
    uint32_t capabilities; /* NARU_CAN_... */
    size_t max_message;    /* bytes of one message by default; 0: as much as ?max-message= allows */
};

/*
 * Iterates over the rows: NULL gives the first, the last gives NULL.
 * Never fails, never blocks; the rows live as long as the library.
 */
NARU_API const struct naru_mechanism *naru_mechanism_next(const struct naru_mechanism *previous);

/* The row with that name ("unix-seqpacket") or NULL. */
NARU_API const struct naru_mechanism *naru_mechanism_find(const char *name);

NARU_END

#endif
