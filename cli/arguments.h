/* SPDX-License-Identifier: MIT */
/*
 * Takes a command line apart by a verb's table. As getopt_long(3) does: -n5, -n 5, -jv, --count=5, --count 5,
 * options before, between and behind operands, "--" ends them. "-" and what begins with "-?" are URLs
 * (standard input and output). What is wrong is reported, with the nearest right word.
 */
#ifndef CLI_ARGUMENTS_H
#define CLI_ARGUMENTS_H

#include <stdbool.h>

#include "cli/verb.h"

/* argv: what stands behind the verb's name, NULL-terminated. NARU_EXIT_OK, or the exit code of what has been
 * reported. *ret_help: --help was asked for, nothing else of *ret_in counts then. *ret_in is to be ended with
 * arguments_free(), whatever was returned. */
int arguments_parse(const struct verb *verb, char **argv, struct invocation *ret_in, bool *ret_help);
void arguments_free(struct invocation *in);

/* The word nearest to what was typed, or NULL if none is near. Call for each candidate, starting with
 * *distance = INT_MAX and *nearest = NULL. */
void suggest(const char *typed, const char *candidate, int *distance, const char **nearest);

#endif
