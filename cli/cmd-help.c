/* SPDX-License-Identifier: MIT */
/* naru help [VERB|urls|MECHANISM] */
#include <stdio.h>
#include <string.h>

#include "cli/exit.h"
#include "cli/help.h"
#include "cli/manual.h"
#include "cli/report.h"
#include "cli/verb.h"

struct help_options {
    bool manual;
};

static int run(const struct invocation *in)
{
    const struct help_options *o = in->options;
    const struct verb *verb;

    if (o->manual && in->operand_count == 0)
        return report_usage("--man needs a VERB");

    if (in->operand_count == 0) {
        help_print_all(stdout);
        return NARU_EXIT_OK;
    }
    if (strcmp(in->operands[0], "urls") == 0)
        return help_print_urls(stdout, in->operands[1]);
    if (in->operand_count > 1)
        return report_usage("unexpected '%s'", in->operands[1]);
    verb = verb_find(in->operands[0]);
    if (!verb && !o->manual && help_is_mechanism(in->operands[0]))
        return help_print_urls(stdout, in->operands[0]);
    if (!verb)
        return o->manual ? help_unknown_verb(in->operands[0]) : help_unknown_topic(in->operands[0]);
    if (o->manual)
        manual_print(stdout, verb);
    else
        help_print_verb(stdout, verb);
    return NARU_EXIT_OK;
}

static const struct verb_option options[] = {{OPTION_FLAG, 0, "man", NULL,
                                              "print the manual page's source, for scdoc(1)",
                                              offsetof(struct help_options, manual), NULL, 0, 0},
                                             {0}};

const struct verb verb_help = {
    .name = "help",
    .group = GROUP_HELP,
    .summary = "describe a verb, a mechanism, or the URLs",
    .operands = "[VERB|MECHANISM|urls]",
    .options = options,
    .options_size = sizeof(struct help_options),
    .operands_max = 2,
    .operand = OPERAND_VERB,
    .run = run,
};
