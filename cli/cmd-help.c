/* SPDX-License-Identifier: MIT */
/* naru help [VERB|urls] */
#include <stdio.h>
#include <string.h>

#include "cli/exit.h"
#include "cli/help.h"
#include "cli/verb.h"

static int run(const struct invocation *in)
{
    const struct verb *verb;

    if (in->operand_count == 0) {
        help_print_all(stdout);
        return NARU_EXIT_OK;
    }
    if (strcmp(in->operands[0], "urls") == 0) {
        help_print_urls(stdout);
        return NARU_EXIT_OK;
    }
    verb = verb_find(in->operands[0]);
    if (!verb)
        return help_unknown_verb(in->operands[0]);
    help_print_verb(stdout, verb);
    return NARU_EXIT_OK;
}

const struct verb verb_help = {
    .name = "help",
    .group = GROUP_HELP,
    .summary = "describe a verb, or the URLs",
    .operands = "[VERB|urls]",
    .operands_max = 1,
    .operand = OPERAND_VERB,
    .run = run,
};
