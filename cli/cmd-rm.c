/* SPDX-License-Identifier: MIT */
/* naru rm URL...: removes what carries a name and outlives processes. */
#include <errno.h>
#include <string.h>

#include "cli/exit.h"
#include "cli/report.h"
#include "cli/verb.h"
#include "naru/channel.h"
#include "naru/segment.h"
#include "naru/semaphore.h"

struct rm_options {
    bool force;
};

static bool has_scheme(const char *url, const char *scheme)
{
    return strncmp(url, scheme, strlen(scheme)) == 0;
}

static int remove_one(const char *url)
{
    if (has_scheme(url, "shm+posix:") || has_scheme(url, "shm+sysv:") || has_scheme(url, "mmap:"))
        return naru_segment_remove(url);
    if (has_scheme(url, "sem+posix:") || has_scheme(url, "sem+sysv:"))
        return naru_raw_semaphore_remove(url);
    return naru_remove(url);
}

/* All of them are tried; the first failure decides the exit code, as rm(1) does. */
static int run(const struct invocation *in)
{
    const struct rm_options *o = in->options;
    int code = NARU_EXIT_OK;

    for (int i = 0; i < in->operand_count; i++) {
        int r = remove_one(in->operands[i]);

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
    .summary = "remove a queue, FIFO, socket file, shared memory, semaphore or file",
    .operands = "URL...",
    .details =
        "What is still in a queue goes with it. An endpoint that somebody listens on is left alone.\n\n"
        "  naru rm sysvmq:0x4d2 posixmq:/jobs shm+sysv:0x4d2\n"
        "  naru rm -f fifo:///tmp/landing",
    .options = options,
    .options_size = sizeof(struct rm_options),
    .operands_min = 1,
    .operands_max = -1,
    .operand = OPERAND_URL,
    .run = run,
};
