/* SPDX-License-Identifier: MIT */
#include "cli/arguments.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/exit.h"
#include "cli/quantity.h"
#include "cli/report.h"

enum { SUGGEST_LENGTH_MAX = 32 };

/* Edits (insert, delete, replace, swap of neighbours) that lead from a to b. */
static int edit_distance(const char *a, const char *b)
{
    int rows[3][SUGGEST_LENGTH_MAX + 1];
    int n = (int)strlen(a), m = (int)strlen(b);

    for (int j = 0; j <= m; j++)
        rows[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *row = rows[i % 3], *above = rows[(i - 1) % 3], *before = rows[(i + 1) % 3];

        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = above[j - 1] + (a[i - 1] != b[j - 1]);

            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[n % 3][m];
}

void suggest(const char *typed, const char *candidate, int *distance, const char **nearest)
{
    size_t length = strlen(typed);
    int d;

    if (length == 0 || length > SUGGEST_LENGTH_MAX || strlen(candidate) > SUGGEST_LENGTH_MAX)
        return;
    /* A beginning counts as near; otherwise a third of the letters may be wrong. */
    d = length >= 2 && strncmp(typed, candidate, length) == 0 ? 1 : edit_distance(typed, candidate);
    if (d <= ((int)length + 1) / 3 && d < *distance) {
        *distance = d;
        *nearest = candidate;
    }
}

static int report_unknown_option(const struct verb *verb, const char *typed)
{
    const char *nearest = NULL;
    int distance = INT_MAX;

    if (strncmp(typed, "--", 2) == 0) {
        suggest(typed + 2, "help", &distance, &nearest);
        for (const struct verb_option *o = verb->options; o && o->kind; o++)
            suggest(typed + 2, o->name, &distance, &nearest);
    }
    if (nearest)
        return report_usage("unknown option '%s'; did you mean '--%s'?", typed, nearest);
    return report_usage("unknown option '%s'%s", typed,
                        verb->command ? "; a command and its options go behind '--'" : "");
}

static int bad_value(const struct verb_option *o, const char *text, const char *expected)
{
    return report_usage("--%s: expected %s, got '%s'", o->name, expected, text);
}

static int set_quantity(const struct verb_option *o, const char *text, int64_t *field)
{
    char expected[128];
    int64_t value;
    bool good;

    if (o->kind == OPTION_DURATION) {
        if (!parse_duration(text, field))
            return bad_value(o, text, "a duration such as 500ms, 2s, 1m or forever");
        return NARU_EXIT_OK;
    }
    good = o->kind == OPTION_SIZE ? parse_size(text, &value) : parse_number(text, &value);
    if (good && (o->low != 0 || o->high != 0) && (value < o->low || value > o->high))
        good = false;
    if (!good) {
        if (o->low == 0 && o->high == 0)
            (void)snprintf(expected, sizeof expected, "%s",
                           o->kind == OPTION_SIZE ? "a number of bytes such as 4096, 64k or 2M" : "a number");
        else
            (void)snprintf(expected, sizeof expected, "a number from %" PRId64 " to %" PRId64, o->low,
                           o->high);
        return bad_value(o, text, expected);
    }
    *field = value;
    return NARU_EXIT_OK;
}

static int set_word(const struct verb_option *o, const char *text, int *field)
{
    char list[256] = "";

    for (int i = 0; o->words[i]; i++) {
        size_t used = strlen(list);

        if (strcmp(o->words[i], text) == 0) {
            *field = i;
            return NARU_EXIT_OK;
        }
        (void)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "one of ", o->words[i]);
    }
    return bad_value(o, text, list);
}

static int append_text(const char *text, struct texts *field)
{
    const char **items = reallocarray(field->items, field->count + 1, sizeof *items);

    if (!items)
        return report_errno(ENOMEM, "command line");
    items[field->count] = text;
    field->items = items;
    field->count++;
    return NARU_EXIT_OK;
}

static int set_option(struct invocation *in, const struct verb_option *o, const char *text)
{
    void *field = (char *)in->options + o->offset;

    switch (o->kind) {
    case OPTION_FLAG:
        *(bool *)field = true;
        return NARU_EXIT_OK;
    case OPTION_TEXT:
    case OPTION_FILE:
        *(const char **)field = text;
        return NARU_EXIT_OK;
    case OPTION_TEXTS:
        return append_text(text, field);
    case OPTION_WORD:
        return set_word(o, text, field);
    case OPTION_NUMBER:
    case OPTION_SIZE:
    case OPTION_DURATION:
        return set_quantity(o, text, field);
    case OPTION_END:
        break;
    }
    return NARU_EXIT_FAILED;
}

static const struct verb_option *find_long(const struct verb *verb, const char *name, size_t length)
{
    for (const struct verb_option *o = verb->options; o && o->kind; o++)
        if (strlen(o->name) == length && strncmp(o->name, name, length) == 0)
            return o;
    return NULL;
}

static const struct verb_option *find_short(const struct verb *verb, char letter)
{
    for (const struct verb_option *o = verb->options; o && o->kind; o++)
        if (o->letter == letter)
            return o;
    return NULL;
}

/* Each takes the argument at *argv and, if the option's value stands in the next, that too. */
static int parse_long(struct invocation *in, char ***argv, bool *ret_help)
{
    const char *argument = **argv, *name = argument + 2, *equals = strchrnul(name, '=');
    const struct verb_option *o = find_long(in->verb, name, (size_t)(equals - name));

    if (strcmp(name, "help") == 0) {
        *ret_help = true;
        return NARU_EXIT_OK;
    }
    if (!o)
        return report_unknown_option(in->verb, argument);
    if (o->kind == OPTION_FLAG)
        return *equals ? report_usage("--%s takes no value", o->name) : set_option(in, o, NULL);
    if (*equals)
        return set_option(in, o, equals + 1);
    if (!(*argv)[1])
        return report_usage("--%s needs a value: %s", o->name, o->value);
    (*argv)++;
    return set_option(in, o, **argv);
}

static int parse_short(struct invocation *in, char ***argv, bool *ret_help)
{
    for (const char *letter = **argv + 1; *letter; letter++) {
        const struct verb_option *o = find_short(in->verb, *letter);
        int r;

        if (!o && *letter == 'h') {
            *ret_help = true;
            return NARU_EXIT_OK;
        }
        if (!o)
            return report_unknown_option(in->verb, (char[]){'-', *letter, '\0'});
        if (o->kind == OPTION_FLAG) {
            r = set_option(in, o, NULL);
            if (r != NARU_EXIT_OK)
                return r;
            continue;
        }
        if (letter[1])
            return set_option(in, o, letter + 1);
        if (!(*argv)[1])
            return report_usage("-%c needs a value: %s", *letter, o->value);
        (*argv)++;
        return set_option(in, o, **argv);
    }
    return NARU_EXIT_OK;
}

static int check_first(const struct invocation *in)
{
    const char *typed = in->operands[0], *nearest = NULL;
    char list[256] = "";
    int distance = INT_MAX;

    for (size_t i = 0; in->verb->first[i]; i++) {
        size_t used = strlen(list);

        if (strcmp(in->verb->first[i], typed) == 0)
            return NARU_EXIT_OK;
        suggest(typed, in->verb->first[i], &distance, &nearest);
        (void)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", in->verb->first[i]);
    }
    if (nearest)
        return report_usage("expected one of %s, got '%s'; did you mean '%s'?", list, typed, nearest);
    return report_usage("expected one of %s, got '%s'", list, typed);
}

static int check_operands(const struct invocation *in)
{
    const struct verb *verb = in->verb;

    if (in->operand_count > 0 && verb->first) {
        int code = check_first(in);

        if (code != NARU_EXIT_OK)
            return code;
    }
    if (in->operand_count < verb->operands_min)
        return report_usage("expected %s", verb->operands);
    if (verb->operands_max >= 0 && in->operand_count > verb->operands_max)
        return report_usage("unexpected '%s'%s%s", in->operands[verb->operands_max],
                            verb->command && !in->command ? "; a command goes behind '--'" : "",
                            verb->instead ? verb->instead : "");
    return NARU_EXIT_OK;
}

static bool is_option(const char *argument)
{
    return argument[0] == '-' && argument[1] != '\0' && argument[1] != '?';
}

static int parse_all(struct invocation *in, char **argv, bool *ret_help)
{
    for (; *argv; argv++) {
        int r = NARU_EXIT_OK;

        if (strcmp(*argv, "--") == 0)
            break;
        if (!is_option(*argv))
            in->operands[in->operand_count++] = *argv;
        else
            r = strncmp(*argv, "--", 2) == 0 ? parse_long(in, &argv, ret_help)
                                             : parse_short(in, &argv, ret_help);
        if (r != NARU_EXIT_OK || *ret_help)
            return r;
    }
    if (*argv && in->verb->command)
        in->command = argv + 1;
    else if (*argv)
        while (*++argv)
            in->operands[in->operand_count++] = *argv;
    if (in->command && !*in->command)
        return report_usage("expected a command behind '--'");
    return check_operands(in);
}

int arguments_parse(const struct verb *verb, char **argv, struct invocation *ret_in, bool *ret_help)
{
    size_t count = 0;

    while (argv[count])
        count++;
    *ret_in = (struct invocation){.verb = verb};
    *ret_help = false;
    ret_in->operands = calloc(count + 1, sizeof *ret_in->operands);
    ret_in->options = calloc(1, verb->options_size + 1);
    if (!ret_in->operands || !ret_in->options)
        return report_errno(ENOMEM, "command line");
    if (verb->defaults)
        memcpy(ret_in->options, verb->defaults, verb->options_size);
    return parse_all(ret_in, argv, ret_help);
}

void arguments_free(struct invocation *in)
{
    for (const struct verb_option *o = in->options ? in->verb->options : NULL; o && o->kind; o++)
        if (o->kind == OPTION_TEXTS)
            free(((struct texts *)((char *)in->options + o->offset))->items);
    free(in->options);
    free(in->operands);
    *in = (struct invocation){0};
}
