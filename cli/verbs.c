/* SPDX-License-Identifier: MIT */
/* The verb table: one line a verb, in the order of `naru --help`. */
#include "cli/verb.h"

#include <string.h>

/* clang-format off */
#define VERBS(VERB)  \
    VERB(send)       \
    VERB(recv)       \
    VERB(cat)        \
    VERB(listen)     \
    VERB(lock)       \
    VERB(sem)        \
    VERB(event)      \
    VERB(segment)    \
    VERB(signal)     \
    VERB(ls)         \
    VERB(create)     \
    VERB(rm)         \
    VERB(demo)       \
    VERB(tour)       \
    VERB(bench)      \
    VERB(completion) \
    VERB(help)
/* clang-format on */

#define DECLARE(name) extern const struct verb verb_##name;
VERBS(DECLARE)

#define ENTRY(name) &verb_##name,
const struct verb *const verbs[] = {VERBS(ENTRY) NULL};

const struct verb *verb_find(const char *name)
{
    for (size_t i = 0; verbs[i]; i++)
        if (strcmp(verbs[i]->name, name) == 0)
            return verbs[i];
    return NULL;
}
