/* SPDX-License-Identifier: MIT */
#include "cli/sync-options.h"

#include <stdlib.h>
#include <string.h>

#include "cli/exit.h"
#include "cli/report.h"

int sync_parse_mode(const char *text, unsigned *ret)
{
    if (!text)
        return NARU_EXIT_OK;
    if (!*text || strspn(text, "01234567") != strlen(text) || strlen(text) > 4 ||
        strtoul(text, NULL, 8) > 0777)
        return report_usage("--mode %s: expected octal permission bits such as 0660", text);
    *ret = (unsigned)strtoul(text, NULL, 8);
    return NARU_EXIT_OK;
}
