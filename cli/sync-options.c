/* SPDX-License-Identifier: MIT */
#include "cli/sync-options.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* Only async-signal-safe calls; going on is impossible, as the memory is gone. */
static void on_truncation(int number)
{
    static const char sentence[] =
        "naru: the file of that name in /dev/shm was cut short while it was used; remove it (`naru lock "
        "--remove NAME`, `naru sem NAME rm`, `naru event NAME rm`) and begin anew\n";

    (void)number;
    if (write(STDERR_FILENO, sentence, sizeof sentence - 1) < 0) {
        /* Nowhere to say it. */
    }
    _exit(NARU_EXIT_FAILED);
}

void sync_explain_truncation(void)
{
    const struct sigaction action = {.sa_handler = on_truncation};

    (void)sigaction(SIGBUS, &action, NULL); /* fails for no valid signal */
}
