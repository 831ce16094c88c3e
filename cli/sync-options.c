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
#include "naru/semaphore.h"

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

static const struct naru_sync_options existing = {.size = sizeof existing, .create = NARU_CREATE_NO};

static bool report_held_mutex(const char *name)
{
    struct naru_mutex *mutex;
    int64_t holder;

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

static bool report_held_semaphore(const char *name)
{
    struct naru_semaphore_info info = NARU_INIT(struct naru_semaphore_info);
    struct naru_semaphore *semaphore;
    int r;

    if (naru_semaphore_open(name, &existing, 0, 0, &semaphore) < 0)
        return false;
    r = naru_semaphore_info(semaphore, &info);
    (void)naru_semaphore_close(semaphore);
    if (r < 0 || info.held == 0)
        return false;
    (void)report(NARU_EXIT_FAILED,
                 "semaphore '%s': units held by running commands or programs: %" PRIu32
                 "; removed now, it would let more in",
                 name, info.held);
    return true;
}

bool sync_report_held(enum naru_sync_kind kind, const char *name)
{
    sync_explain_truncation();
    return kind == NARU_SYNC_MUTEX       ? report_held_mutex(name)
           : kind == NARU_SYNC_SEMAPHORE ? report_held_semaphore(name)
                                         : false;
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
