/* SPDX-License-Identifier: MIT */
/*
 * The listener's side of the handshake of shm: (handshake.h), and what stands at its end: a connection
 * that has been answered, with both memories and both bells, and is no channel yet. The other side may have
 * sent already, or be gone.
 */
#ifndef NARU_CHANNEL_SHM_ARRIVAL_H
#define NARU_CHANNEL_SHM_ARRIVAL_H

#include "channel/shm/shm.h"

struct shm_arrival {
    struct list node;         /* the listener's */
    uint64_t pool_max;        /* of shm_open_channel() */
    uint32_t cpu;             /* of shm_note_cpu() */
    int rfd, wfd;             /* bells: where this side sleeps */
    int their_rfd, their_wfd; /* where the other does, if not at the other ends of those; or -1 */
    int loop_bell, their_loop_bell;
    int side_fd; /* the socket over which they met; then for descriptors */
    struct naru_peer peer;
    int peer_pidfd;
    struct sealed own, theirs;
    int memory; /* own's, until it is passed */
    struct fork_guard guard;
};

enum shm_answer {
    SHM_ANSWERED = 0,
    SHM_SILENT = 1, /* it has said nothing yet */
    SHM_REFUSED = 2 /* it was refused, or has gone */
};

/* Makes one ahead, with our memory, for whoever speaks next. Forks are held off. 0 or what this process is
 * short of, explained. */
int shm_arrival_prepare(const char *what, const struct shm_options *options,
                        struct shm_arrival **ret_arrival);

/* Answers who connected over fd, if it has said its HELLO; does not wait. Forks are held off. SHM_ANSWERED:
 * *ret_arrival is the caller's. Or what this process is short of, explained: -EMFILE, -ENFILE, -ENOMEM,
 * -ENOSPC, or what a sandbox keeps it from: -EPERM, -ENOSYS; and then it was told to try again. SHM_ANSWERED
 * takes *fd; but for SHM_SILENT, it is done with otherwise. *prepared: one made ahead, or NULL; NULL
 * afterwards if it was used. what: the URL. */
int shm_answer(const char *what, const struct shm_options *options, int *fd, struct shm_arrival **prepared,
               struct shm_arrival **ret_arrival);

/* Makes ch, which is new, a channel of it, and frees it: *arrival is NULL then. Forks are held off. 0 or the
 * explained -ENOMEM: it is as it was, to be opened later; or, with ?huge, may have come to nothing, and is
 * NULL as well. */
int shm_arrival_open(struct shm_arrival **arrival, const struct shm_options *options,
                     struct naru_channel *ch);

/* Frees one that nobody accepted. owner: and tells the other side that this one has closed. Forks are held
 * off.
 */
void shm_arrival_drop(struct shm_arrival *arrival, bool owner);

#endif
