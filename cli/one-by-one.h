/* SPDX-License-Identifier: MIT */
/* Senders that are received from one by one, at an endpoint where many can connect and no gather can be. */
#ifndef CLI_ONE_BY_ONE_H
#define CLI_ONE_BY_ONE_H

#include "cli/endpoint.h"

struct one_by_one {
    struct endpoint end;
    const char *url;    /* as it was given, for sentences */
    const char *actual; /* with what options add; where it listens */
    bool keep;          /* others are wanted after the last who is there */
    int code;           /* of what was reported on the way; NARU_EXIT_OK: nothing was */
    int shut_by;        /* why nobody new could come any more, which was said; 0: they can */
};

/* Each returns 0 or -errno, explained. deadline: on now(), or NARU_FOREVER. */
int one_by_one_listen(struct one_by_one *o);

/* The first. Whoever has come is received from also where there is no room for another, which is reported
 * only if others are to come. */
int one_by_one_accept(struct one_by_one *o, int64_t deadline);

/* The next, after the end that ended said of the one before. -EPIPE: there is none, or nothing else to say.
 */
int one_by_one_next(struct one_by_one *o, int ended, int64_t deadline);

/* Reports what does not end the command, but makes it fail: the first decides o->code. */
void one_by_one_note(struct one_by_one *o, int result, const char *sentence);

#endif
