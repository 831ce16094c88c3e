/* SPDX-License-Identifier: MIT */
#include "cli/help.h"

#include <limits.h>
#include <string.h>

#include "cli/arguments.h"
#include "cli/exit.h"
#include "cli/report.h"
#include "cli/term.h"
#include "cli/verb.h"
#include "naru/mechanism.h"

static void print_heading(FILE *out, const char *heading)
{
    (void)fprintf(out, "\n%s%s%s\n", term_style(out, STYLE_BOLD), heading, term_style(out, STYLE_PLAIN));
}

void help_print_all(FILE *out)
{
    const char *group = "";

    (void)fprintf(out, "naru carries messages between processes over shared memory, pipes, sockets, queues, "
                       "files and signals.\n\n"
                       "Usage: naru VERB [options] ...\n");
    for (size_t i = 0; verbs[i]; i++) {
        if (strcmp(group, verbs[i]->group) != 0) {
            group = verbs[i]->group;
            print_heading(out, group);
        }
        (void)fprintf(out, "  %-11s %s\n", verbs[i]->name, verbs[i]->summary);
    }
    (void)fprintf(
        out,
        "\n`naru VERB --help` describes a verb, `naru help shm` a mechanism, `naru help urls` all of them.\n"
        "`naru --version` prints the version.\n"
        "Exit status: 0 done, 1 failed, 2 usage, 3 not found, 4 permission denied, 124 the time was up,\n"
        "130 interrupted; lock and sem run pass on that of their command.\n");
}

enum { WIDTH = 100 };

/* The text up to its end or a newline, broken at spaces into lines that end before the width; those behind
 * the first are indented. */
static void print_wrapped(FILE *out, const char *text, int indent, int width)
{
    int column = indent;

    while (*text && *text != '\n') {
        size_t word = strcspn(text, " \n");

        if (column > indent && column + 1 + (int)word > width) {
            (void)fprintf(out, "\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            (void)fputc(' ', out);
            column++;
        }
        (void)fprintf(out, "%.*s", (int)word, text);
        column += (int)word;
        text += word;
        text += strspn(text, " ");
    }
    (void)fputc('\n', out);
}

static void print_option(FILE *out, const struct verb_option *o)
{
    enum { INDENT = 28 };
    char left[320], words[256] = "";
    const char *value = o->value ? o->value : "";

    if (o->kind == OPTION_WORD) {
        for (size_t i = 0; o->words[i]; i++)
            (void)snprintf(words + strlen(words), sizeof words - strlen(words), "%s%s", i ? "|" : "",
                           o->words[i]);
        value = words;
    }
    (void)snprintf(left, sizeof left, "  %c%c%s --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
                   o->letter ? "," : " ", o->name, *value ? " " : "", value);
    if (fprintf(out, "%-*s", INDENT - 1, left) >= INDENT)
        (void)fprintf(out, "\n%*s", INDENT - 1, "");
    (void)fputc(' ', out);
    print_wrapped(out, o->help, INDENT, WIDTH);
}

void help_print_verb(FILE *out, const struct verb *verb)
{
    static const struct verb_option help = {
        .kind = OPTION_FLAG, .letter = 'h', .name = "help", .help = "print this"};

    (void)fprintf(out, "naru %s: %s\n\nUsage: naru %s [options]%s%s\n", verb->name, verb->summary, verb->name,
                  *verb->operands ? " " : "", verb->operands);
    print_heading(out, "Options");
    for (const struct verb_option *o = verb->options; o && o->kind; o++)
        print_option(out, o);
    print_option(out, &help);
    if (verb->details)
        (void)fprintf(out, "\n%s\n", verb->details);
}

/* Lines of "key=VALUE<tab>what it does". */
static void print_url_options(FILE *out, const char *options)
{
    enum { INDENT = 33 };

    while (options && *options) {
        size_t key = strcspn(options, "\t"), line = strcspn(options, "\n");

        (void)fprintf(out, "    ?%-*.*s ", INDENT - 6, (int)key, options);
        print_wrapped(out, options + key + 1, INDENT, WIDTH);
        options += line + (options[line] == '\n');
    }
}

static bool is_called(const struct naru_mechanism *row, const char *name)
{
    return strcmp(row->scheme, name) == 0 || strcmp(row->name, name) == 0;
}

bool help_is_mechanism(const char *name)
{
    const struct naru_mechanism *row = NULL;

    while ((row = naru_mechanism_next(row)))
        if (is_called(row, name))
            return true;
    return false;
}

static void print_field(FILE *out, const char *name, const char *text)
{
    enum { INDENT = 17 };

    (void)fprintf(out, "    %-*s", INDENT - 4, name);
    print_wrapped(out, text, INDENT, WIDTH);
}

static void print_mechanism(FILE *out, const struct naru_mechanism *row)
{
    char carries[256];

    (void)fprintf(out, "\n%s%s%s  %s\n", term_style(out, STYLE_BOLD), row->example,
                  term_style(out, STYLE_PLAIN), row->title);
    if (row->also)
        print_field(out, "also", row->also);
    print_field(out, "use when", row->use_when);
    (void)snprintf(carries, sizeof carries, "%s, %s, %s", row->unit, row->direction, row->scope);
    print_field(out, "carries", carries);
    print_field(out, "lives", row->persistence);
    print_field(out, "limit", row->limit);
    print_url_options(out, row->options);
}

int help_print_urls(FILE *out, const char *only)
{
    const struct naru_mechanism *row = NULL;

    if (only && !help_is_mechanism(only))
        return report_usage("there is no mechanism '%s'; `naru help urls` describes all of them", only);
    (void)fprintf(
        out,
        "A URL chooses the mechanism: scheme:target?option=value&option=value. %%XX stands for any byte.\n"
        "Quote it in the shell, where ? and & mean something.\n");
    while ((row = naru_mechanism_next(row)))
        if (!only || is_called(row, only))
            print_mechanism(out, row);
    print_heading(out, "Options of every URL");
    (void)fprintf(
        out, "  ?max-message=SIZE  the largest message accepted (64M)\n"
             "  ?reconnect=yes|1m  who connects: when the peer has gone, on to the next (for so long)\n");
    return NARU_EXIT_OK;
}

static void suggest_verb(const char *name, int *distance, const char **nearest)
{
    for (size_t i = 0; verbs[i]; i++)
        suggest(name, verbs[i]->name, distance, nearest);
}

int help_unknown_verb(const char *name)
{
    const char *nearest = NULL;
    int distance = INT_MAX;

    if (help_is_mechanism(name))
        return report_usage("there is no verb '%s'; `naru help %s` describes the mechanism", name, name);
    suggest_verb(name, &distance, &nearest);
    if (nearest)
        return report_usage("there is no verb '%s'; did you mean '%s'?", name, nearest);
    return report_usage("there is no verb '%s'", name);
}

int help_unknown_topic(const char *name)
{
    const struct naru_mechanism *row = NULL;
    const char *nearest = NULL;
    int distance = INT_MAX;

    suggest_verb(name, &distance, &nearest);
    suggest(name, "urls", &distance, &nearest);
    while ((row = naru_mechanism_next(row)))
        suggest(name, row->scheme, &distance, &nearest);
    if (nearest)
        return report_usage("there is no verb or mechanism '%s'; did you mean '%s'?", name, nearest);
    return report_usage("there is no verb or mechanism '%s'; `naru help urls` describes all mechanisms",
                        name);
}
