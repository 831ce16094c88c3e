/* SPDX-License-Identifier: MIT */
/* naru rm URL...: removes what carries a name and outlives processes. */
#include <errno.h>
#include <string.h>

#include "cli/exit.h"
#include "cli/remove.h"
#include "cli/report.h"
#include "cli/sync-options.h"
#include "cli/verb.h"
#include "naru/channel.h"
#include "naru/error.h"
#include "naru/mechanism.h"
#include "naru/semaphore.h"
#include "naru/sync.h"

struct rm_options {
    bool force;
};

static bool has_scheme(const char *url, const char *scheme)
{
    return strncmp(url, scheme, strlen(scheme)) == 0;
}

/* "mutex:NAME" and the like, which naru ls shows under their kinds. */
static enum naru_sync_kind sync_kind(const char *url, const char **ret_name)
{
    for (enum naru_sync_kind kind = NARU_SYNC_MUTEX; naru_sync_kind_name(kind); kind++) {
        const char *word = naru_sync_kind_name(kind);

        if (!has_scheme(url, word) || url[strlen(word)] != ':')
            continue;
        *ret_name = url + strlen(word) + 1;
        return kind;
    }
    return 0;
}

/* NARU_EXIT_OK, or reported. */
static int remove_sync(enum naru_sync_kind kind, const char *name, bool force)
{
    int r;

    if (sync_report_held(kind, name))
        return NARU_EXIT_FAILED;
    r = naru_sync_remove(kind, name);
    return r == 0 || (r == -ENOENT && force) ? NARU_EXIT_OK : report_failure(r);
}

static int remove_url(const char *url)
{
    if (has_scheme(url, "shm+posix:") || has_scheme(url, "shm+sysv:") || has_scheme(url, "mmap:"))
        return remove_segment(url);
    if (has_scheme(url, "sem+posix:") || has_scheme(url, "sem+sysv:"))
        return naru_raw_semaphore_remove(url);
    return naru_remove(url);
}

/* Whether there is such a URL at all; if not, reported, with what there is. */
static bool is_of_some_kind(const char *url)
{
    static const char *const others[] = {"mmap", "sem+posix", "sem+sysv", "-"};
    size_t length = strcspn(url, ":");

    for (const struct naru_mechanism *row = naru_mechanism_next(NULL); row; row = naru_mechanism_next(row))
        if (strlen(row->scheme) == length && strncmp(url, row->scheme, length) == 0)
            return true;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strlen(others[i]) == length && strncmp(url, others[i], length) == 0)
            return true;
    if (!url[length])
        (void)report_usage("'%s' does not say what it is: mutex:%s, posixmq:/%s? `naru ls` has the kinds",
                           url, url, url);
    else
        (void)report_usage("%s: expected fifo, unix, shm, shm+posix, shm+sysv, mmap, sysvmq, posixmq, file, "
                           "sem+posix, sem+sysv, mutex, rwlock, semaphore, event or barrier before the ':'",
                           url);
    return false;
}

static int remove_one(const char *url, bool force)
{
    const char *name = NULL;
    enum naru_sync_kind kind = sync_kind(url, &name);
    int r;

    if (kind)
        return remove_sync(kind, name, force);
    if (!is_of_some_kind(url))
        return NARU_EXIT_USAGE;
    r = remove_url(url);
    if (r == -ENOTSUP) /* it makes no sense for any such URL */
        return report(NARU_EXIT_USAGE, "%s", naru_explain());
    return r == 0 || (r == -ENOENT && force) ? NARU_EXIT_OK : report_failure(r);
}

/* All of them are tried; the first failure decides the exit code, as rm(1) does. */
static int run(const struct invocation *in)
{
    const struct rm_options *o = in->options;
    int code = NARU_EXIT_OK;

    for (int i = 0; i < in->operand_count; i++) {
        int failed = remove_one(in->operands[i], o->force);

        code = code == NARU_EXIT_OK ? failed : code;
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
        "What is still in a queue goes with it. An endpoint that somebody listens on is left alone, and so\n"
        "is a mutex or semaphore that somebody holds. What naru makes by name is mutex:NAME, rwlock:NAME,\n"
        "semaphore:NAME, event:NAME or barrier:NAME.\n\n"
        "  naru rm sysvmq:0x4d2 posixmq:/jobs shm+sysv:0x4d2\n"
        "  naru rm -f fifo:///tmp/landing mutex:deploy",
    .options = options,
    .options_size = sizeof(struct rm_options),
    .operands_min = 1,
    .operands_max = -1,
    .operand = OPERAND_URL,
    .run = run,
};
