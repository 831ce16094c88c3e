/* SPDX-License-Identifier: MIT */
/*
 * options.reconnect_ns: a channel that connects again. What a connection consists of (descriptors, state,
 * stream: the guts) is exchanged inside the struct naru_channel, so that the handle, its descriptor for event
 * loops, its counters and its views stay what they are.
 *
 *     UP ---- a call finds the end, and returns it ---> LOST --- a later call connects ---> UP
 *
 * While it is LOST, ch has no guts and ch->direction is 0: no short way is open, and every call comes by
 * channel_begin_sending() or channel_begin_receiving(), which end up here. The old guts go on in a channel of
 * their own as long as they hold something: messages that were not received when a send found the end (they
 * come before those of the next connection), or the place of a loan that is out.
 *
 * One thread at a time uses such a channel, in both directions.
 */
#ifndef NARU_CHANNEL_REOPEN_H
#define NARU_CHANNEL_REOPEN_H

#include "channel/channel.h"

/* ?reconnect=no|yes|DURATION into opt. 0 or -EINVAL with what was expected. */
int reopen_parse(struct url *url, struct naru_options *opt);

/* Whether that mechanism has somebody to connect to again. 0 or the explained -ENOTSUP. */
int reopen_check(const struct url *url, const struct channel_ops *ops);

/* Makes ch, which is connected, or meets, one that connects again. 0 or -ENOMEM. */
int reopen_attach(struct naru_channel *ch, const char *url, const struct naru_options *opt);
void reopen_free(struct naru_channel *ch);

/* naru_channel_adopt(): this process becomes the owner of what belongs to ch, too. */
void reopen_take_over(struct naru_channel *ch);

/* ch, which was made one while it met (meeting.h), is connected; or is not, as r says. Returns r. */
void reopen_met(struct naru_channel *ch);
int reopen_refused(struct naru_channel *ch, int r);

/* A call on ch is about to tell of the peer's end, r. Returns what it tells. */
int reopen_lost(struct naru_channel *ch, int direction, int r);

/* For a call that finds ch->direction without its own. 0: go on; or what the call returns. *timeout_ns: what
 * is left of it then. */
int reopen_for_sending(struct naru_channel *ch, int64_t *timeout_ns);
int reopen_for_receiving(struct naru_channel *ch, int64_t *timeout_ns);

/* The last connection, while it holds messages that come first; NULL: there is none. After each attempt to
 * receive from it, which said r: what the call returns; or -EAGAIN: it holds no more, and it is the turn of
 * the connection that there is. */
struct naru_channel *reopen_undrained(const struct naru_channel *ch);
int reopen_received(struct naru_channel *ch, int r, size_t length);

/* A loan of ch ends. true: it was of a connection that is lost, and there is nothing to cancel. */
bool reopen_end_loan(struct naru_channel *ch);

/* Another descriptor in the epoll of naru_channel_fd(). 0 or -errno. */
int reopen_watch(struct naru_channel *ch);

/* naru_channel_finish(), of one that is lost: it connects to nobody any more. */
void reopen_finish(struct naru_channel *ch);

bool reopen_is_lost(const struct naru_channel *ch);
uint64_t reopen_count(const struct naru_channel *ch);

#endif
