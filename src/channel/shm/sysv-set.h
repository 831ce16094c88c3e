/* SPDX-License-Identifier: MIT */
/* The semaphores of shm+sysv:, which say who lives: of a key's listener, and of both sides of each
 * connection.
 */
#ifndef NARU_CHANNEL_SHM_SYSV_SET_H
#define NARU_CHANNEL_SHM_SYSV_SET_H

#include <stdbool.h>
#include <sys/types.h>

#include "channel/shm/named.h"

/* The set of that key, or -errno (no sentence). */
int sysv_set_find(key_t key);

/* Whether that is a set of ours, as far as its size tells, and has that place: before anything is done to it.
 * 0; -EAGAIN, without a sentence: it has been removed; or explained. */
int sysv_set_check(const char *what, int set, unsigned place);

/* The set may have been made for others than may connect now. */
void sysv_set_mode(int set, unsigned mode);

/* Whether a segment is being made, and may stand under the key with nothing in it. */
bool sysv_set_is_making(int set);
void sysv_set_say_making(int set, bool making);

/* Seats: of named_kind. Whoever leaves removes the set, if nobody needs it any more. */
bool sysv_set_sit(struct named_seat *seat);
bool sysv_set_is_taken(const struct named_seat *seat, int side);
bool sysv_set_adopt(struct named_seat *seat);
void sysv_set_leave(struct named_seat *seat);

/* A place of seat->set with both seats free, with us in its seat 0. 0 or explained. */
int sysv_set_take_place(const char *what, struct named_seat *seat);

/* Becomes the listener of the key. flags: IPC_CREAT and a mode, or 0: -ENOENT, without a sentence, if there
 * is no set. 0, -EADDRINUSE: another is, or explained. */
int sysv_set_take_key(struct named_place *place, int flags);
void sysv_set_give_key_back(struct named_place *place);

/* The explained -EBUSY: who is. */
int sysv_set_still_listening(const struct named_place *place);

#endif
