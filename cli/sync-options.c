/* SPDX-License-Identifier: MIT */
#include "cli/sync-options.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/exit.h"
#include "cli/report.h"
#include "naru/mutex.h"

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

bool sync_report_held(const char *name)
{
    struct naru_sync_options existing = NARU_INIT(struct naru_sync_options);
    struct naru_mutex *mutex;
    int64_t holder;

    existing.create = NARU_CREATE_NO;
    sync_explain_truncation();
    if (naru_mutex_open(name, &existing, &mutex) < 0)
        return false;
    holder = naru_mutex_holder(mutex);
    (void)naru_mutex_close(mutex);
    if (holder > 0)
        (void)report(NARU_EXIT_FAILED,
                     "lock '%s': held by process %" PRId64 "; removed now, it would let a second one in",
                     name, holder);
    return holder > 0;
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
