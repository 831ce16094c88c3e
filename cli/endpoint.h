/* SPDX-License-Identifier: MIT */
/* One end that a verb uses: a channel, and the listener it came from if we are the side that binds. */
#ifndef CLI_ENDPOINT_H
#define CLI_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "naru/naru.h"

struct endpoint {
    struct naru_listener *listener; /* NULL: we connected */
    struct naru_channel *channel;
};

/* Each returns 0 or -errno, explained by naru_explain(). A signal gives -ECANCELED once the command is
 * graceful (interrupt.h), which endpoint_listen() sees to: a socket file must not be left behind. */
int endpoint_connect(struct endpoint *e, const char *url, const struct naru_options *opt, int64_t timeout_ns);
int endpoint_listen(struct endpoint *e, const char *url, const struct naru_options *opt);

/* Whether the URL leaves the port to the kernel. endpoint_listen() then says which it is. */
bool endpoint_is_port_chosen(const char *url);

/* Waits for the next peer; the channel it had before is closed. */
int endpoint_accept(struct endpoint *e, int64_t timeout_ns);
void endpoint_close(struct endpoint *e);

/* The row that a URL will use, by its scheme and ?type=; NULL if there is none. */
const struct naru_mechanism *endpoint_mechanism(const char *url);

/* Whether to bind: as asked, unless the mechanism has one role only (- and exec: connect). */
bool endpoint_should_listen(const char *url, bool asked);

/* NARU_EXIT_OK, or the exit code after reporting that the mechanism has no ends to open, or cannot listen. */
int endpoint_check(const char *url, bool listens);

/* "unix:///x?a=b" with another option: "unix:///x?a=b&key=value". The caller frees it; NULL: no memory. */
char *endpoint_add_option(const char *url, const char *key, const char *value);

#endif
