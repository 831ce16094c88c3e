/* SPDX-License-Identifier: MIT */
#include "cli/help.h"

#include <limits.h>
#include <string.h>

#include "cli/arguments.h"
#include "cli/report.h"
#include "cli/term.h"
#include "cli/verb.h"

static void print_heading(FILE *out, const char *heading)
{
    (void)fprintf(out, "\n%s%s%s\n", term_style(out, STYLE_BOLD), heading, term_style(out, STYLE_PLAIN));
}

void help_print_all(FILE *out)
{
    const char *group = "";

    (void)fprintf(out, "naru carries messages between processes, by every mechanism Linux has.\n\n"
                       "Usage: naru VERB [options] ...\n");
    for (size_t i = 0; verbs[i]; i++) {
        if (strcmp(group, verbs[i]->group) != 0) {
            group = verbs[i]->group;
            print_heading(out, group);
        }
        (void)fprintf(out, "  %-11s %s\n", verbs[i]->name, verbs[i]->summary);
    }
    (void)fprintf(out, "\n`naru VERB --help` describes one verb.\n"
                       "`naru --version` prints the version.\n");
}

/* The text, broken at spaces into lines of the width, each behind the indent. The first line continues where
 * the caller stopped, at column. */
static void print_wrapped(FILE *out, const char *text, int column, int indent, int width)
{
    while (*text) {
        size_t word = strcspn(text, " ");

        if (column > indent && column + (int)word > width) {
            (void)fprintf(out, "\n%*s", indent, "");
            column = indent;
        }
        (void)fprintf(out, "%.*s", (int)word, text);
        column += (int)word;
        text += word;
        if (*text == ' ') {
            (void)fputc(' ', out);
            column++;
            text++;
        }
    }
    (void)fputc('\n', out);
}

static void print_option(FILE *out, const struct verb_option *o)
{
    enum { INDENT = 28, WIDTH = 100 };
    char left[128], words[256] = "";
    const char *value = o->value ? o->value : "";
    int column;

    if (o->kind == OPTION_WORD) {
        for (size_t i = 0; o->words[i]; i++)
            (void)snprintf(words + strlen(words), sizeof words - strlen(words), "%s%s", i ? "|" : "",
                           o->words[i]);
        value = words;
    }
    (void)snprintf(left, sizeof left, "  %c%c%s --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
                   o->letter ? "," : " ", o->name, *value ? " " : "", value);
    column = fprintf(out, "%-*s", INDENT - 1, left);
    if (column >= INDENT)
        column = fprintf(out, "\n%*s", INDENT - 1, "") - 1;
    (void)fputc(' ', out);
    print_wrapped(out, o->help, column + 1, INDENT, WIDTH);
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

int help_unknown_verb(const char *name)
{
    const char *nearest = NULL;
    int distance = INT_MAX;

    for (size_t i = 0; verbs[i]; i++)
        suggest(name, verbs[i]->name, &distance, &nearest);
    if (nearest)
        return report_usage("there is no verb '%s'; did you mean '%s'?", name, nearest);
    return report_usage("there is no verb '%s'", name);
}
