/* SPDX-License-Identifier: MIT */
/* naru create URL...: makes a queue, FIFO or file that is there before anybody uses it. */
#include <errno.h>
#include <string.h>

#include "cli/endpoint.h"
#include "cli/exit.h"
#include "cli/report.h"
#include "cli/verb.h"

/* What stays when its listener ends: queues and files keep messages, a FIFO keeps its name. */
static bool stays(const struct naru_mechanism *row)
{
    return (row->capabilities & NARU_CAN_PERSIST) || strcmp(row->scheme, "fifo") == 0;
}

static int create(const char *url)
{
    const struct naru_mechanism *row = endpoint_mechanism(url);
    struct naru_listener *listener = NULL;
    int r;

    if (row && !stays(row))
        return report(NARU_EXIT_USAGE, "%s: %s exists only while somebody uses it; see `naru listen --help`",
                      url, row->name);
    r = naru_listen(url, NULL, &listener);
    if (r < 0)
        return report_failure_of(url, r, "");
    (void)naru_listener_close(listener);
    return NARU_EXIT_OK;
}

static int run(const struct invocation *in)
{
    int code = NARU_EXIT_OK;

    for (int i = 0; i < in->operand_count && code == NARU_EXIT_OK; i++)
        code = create(in->operands[i]);
    return code;
}

const struct verb verb_create = {
    .name = "create",
    .group = GROUP_LOOK,
    .summary = "make a queue or FIFO before anybody uses it",
    .operands = "URL...",
    .details = "What exists already is left as it is. Receivers make what they need themselves; this is for "
               "setting\n"
               "permissions and sizes beforehand.\n\n"
               "  naru create 'posixmq:/jobs?maxmsg=5&msgsize=1024&mode=0660'\n"
               "  naru create 'fifo:///run/landing?mode=0622'",
    .operands_min = 1,
    .operands_max = -1,
    .operand = OPERAND_URL,
    .run = run,
};
