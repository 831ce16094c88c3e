/* SPDX-License-Identifier: MIT */
/* naru rm URL...: removes what carries a name and outlives processes. */
#include <errno.h>

#include "cli/exit.h"
#include "cli/report.h"
#include "cli/verb.h"
#include "naru/channel.h"

struct rm_options {
    bool force;
};

/* All of them are tried; the first failure decides the exit code, as rm(1) does. */
static int run(const struct invocation *in)
{
    const struct rm_options *o = in->options;
    int code = NARU_EXIT_OK;

    for (int i = 0; i < in->operand_count; i++) {
        int r = naru_remove(in->operands[i]);

        if (r < 0 && !(r == -ENOENT && o->force)) {
            int failed = report_failure(r);

            code = code == NARU_EXIT_OK ? failed : code;
        }
    }
    return code;
}

static const struct verb_option options[] = {{OPTION_FLAG, 'f', "force", NULL,
                                              "what does not exist is no failure",
                                              offsetof(struct rm_options, force), NULL, 0, 0},
                                             {0}};

const struct verb verb_rm = {
    .name = "rm",
    .group = GROUP_LOOK,
    .summary = "remove a queue, FIFO, socket file or file",
    .operands = "URL...",
    .details =
        "What is still in a queue goes with it. An endpoint that somebody listens on is left alone.\n\n"
        "  naru rm sysvmq:0x4d2 posixmq:/jobs\n"
        "  naru rm -f fifo:///tmp/landing",
    .options = options,
    .options_size = sizeof(struct rm_options),
    .operands_min = 1,
    .operands_max = -1,
    .operand = OPERAND_URL,
    .run = run,
};
