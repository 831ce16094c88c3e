/* SPDX-License-Identifier: MIT */
/* The mechanisms: a new one is a file of its own and one line here. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "channel/channel.h"
#include "channel/table.h"

/* In the order of a textbook's table. Of one scheme, the first row is the default. */
/* clang-format off */
static const struct channel_ops *const table[] = {
    &pipe_ops,
    &fifo_ops,
    &unix_stream_ops,
    &unix_seqpacket_ops,
    &unix_dgram_ops,
    &tcp_ops,
    &udp_ops,
    &sysvmq_ops,
    &posixmq_ops,
    &shm_ops,
    &shm_posix_ops,
    &shm_sysv_ops,
    &file_ops,
    &signal_ops,
    &exec_ops,
    &fd_ops,
    &stdio_ops,
};
/* clang-format on */

enum { ROWS = sizeof table / sizeof *table };

const struct naru_mechanism *naru_mechanism_next(const struct naru_mechanism *previous)
{
    size_t i = 0;

    if (previous)
        while (i < ROWS && &table[i++]->row != previous)
            ;
    return i < ROWS ? &table[i]->row : NULL;
}

const struct naru_mechanism *naru_mechanism_find(const char *name)
{
    for (size_t i = 0; i < ROWS; i++)
        if (strcmp(table[i]->row.name, name) == 0)
            return &table[i]->row;
    return NULL;
}

/* Appends a word to a list for people. */
static void append(char *list, size_t size, const char *word)
{
    size_t used = strlen(list);

    (void)snprintf(list + used, size - used, "%s%s", used ? ", " : "", word);
}

static int unknown_scheme(const struct url *url)
{
    char list[512] = "";

    for (size_t i = 0; i < ROWS; i++)
        if (i == 0 || strcmp(table[i]->row.scheme, table[i - 1]->row.scheme) != 0)
            append(list, sizeof list, table[i]->row.scheme);
    return error_set(EINVAL, "%s: unknown scheme '%s'; expected one of %s", url->text, url->scheme, list);
}

/* Those of every URL that has options; reopen.h refuses the second with a reason where it cannot be. */
static const char *const common[] = {"max-message", "reconnect"};

/* Whether key is one of the row's, or of all. */
static bool has_option(const struct naru_mechanism *row, const char *key)
{
    size_t length = strlen(key);

    for (size_t i = 0; i < sizeof common / sizeof *common; i++)
        if (strcmp(common[i], key) == 0)
            return true;
    for (const char *line = row->options; line && *line; line += strcspn(line, "\n"), line += *line == '\n')
        if (strncmp(line, key, length) == 0 && line[length] == '=')
            return true;
    return false;
}

static int unknown_option(const struct url *url, const struct naru_mechanism *row, const char *key)
{
    char list[512] = "", word[32];

    for (const char *line = row->options; line && *line; line += strcspn(line, "\n"), line += *line == '\n') {
        (void)snprintf(word, sizeof word, "%.*s", (int)strcspn(line, "="), line);
        append(list, sizeof list, word);
    }
    for (size_t i = 0; i < sizeof common / sizeof *common; i++)
        append(list, sizeof list, common[i]);
    return error_set(EINVAL, "%s: option '%s' means nothing to %s; its options are %s: `naru help %s`",
                     url->text, key, row->name, list, row->name);
}

/* Whatever a mechanism does not have is refused, though another one has it. */
static const struct channel_ops *check_options(const struct url *url, const struct channel_ops *ops)
{
    for (size_t i = 0; i < url->option_count; i++) {
        if (!has_option(&ops->row, url->options[i].key)) {
            (void)unknown_option(url, &ops->row, url->options[i].key);
            return NULL;
        }
    }
    return ops;
}

static const struct channel_ops *find_row(struct url *url)
{
    const struct channel_ops *found = NULL;
    const char *variant = NULL;
    char list[128] = "";

    for (size_t i = 0; i < ROWS; i++) {
        const struct channel_ops *ops = table[i];

        if (strcmp(ops->row.scheme, url->scheme) != 0)
            continue;
        if (!ops->variant)
            return ops;
        if (!found)
            variant = url_option(url, "type");
        if (!variant || strcmp(variant, ops->variant) == 0)
            return ops;
        found = ops;
        append(list, sizeof list, ops->variant);
    }
    if (found)
        (void)error_set(EINVAL, "%s: expected ?type= one of %s, got '%s'", url->text, list, variant);
    else
        (void)unknown_scheme(url);
    return NULL;
}

const struct channel_ops *channel_find(struct url *url)
{
    const struct channel_ops *ops = find_row(url);

    return ops ? check_options(url, ops) : NULL;
}
