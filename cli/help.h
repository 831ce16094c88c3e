/* SPDX-License-Identifier: MIT */
/* What `naru --help`, `naru help VERB` and `naru VERB --help` print, made from the verb table. */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include <stdbool.h>
#include <stdio.h>

struct verb;

void help_print_all(FILE *out);

/* The mechanisms and how their URLs are written, from the library's table; only: those of that scheme or
 * name, or NULL. NARU_EXIT_OK, or NARU_EXIT_USAGE, reported: there are none. */
int help_print_urls(FILE *out, const char *only);

/* Whether a mechanism or a scheme is called that. */
bool help_is_mechanism(const char *name);

void help_print_verb(FILE *out, const struct verb *verb);

/* Reports that there is no verb of that name and which is near. Returns NARU_EXIT_USAGE. */
int help_unknown_verb(const char *name);

/* Likewise that there is nothing of that name to describe: no verb, and no mechanism. */
int help_unknown_topic(const char *name);

#endif
