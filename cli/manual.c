/* SPDX-License-Identifier: MIT */
#include "cli/manual.h"

#include <stdbool.h>
#include <string.h>

#include "cli/verb.h"

/* scdoc(5): backslash takes the meaning from the next character; _ and * are markup, the others at a line's
 * beginning. */
static void print_escaped(FILE *out, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (strchr("\\_*[]|<>#`.", text[i]) || (i == 0 && text[i] == '-'))
            (void)fputc('\\', out);
        (void)fputc(text[i], out);
    }
}

/* Paragraphs, of which lines that are indented or hold columns stay as they are. */
static void print_details(FILE *out, const char *text)
{
    bool literal = false;

    while (*text) {
        size_t length = strcspn(text, "\n");
        bool indented = length > 2 && strncmp(text, "  ", 2) == 0;
        bool example = indented || memmem(text, length, "  ", 2);

        if (example != literal) {
            (void)fprintf(out, literal ? "```\n\n" : "\n```\n");
            literal = example;
        }
        if (example)
            (void)fprintf(out, "%.*s", (int)length - 2 * indented, text + 2 * indented);
        else
            print_escaped(out, text, length);
        (void)fputc('\n', out);
        text += length;
        text += *text == '\n';
    }
    if (literal)
        (void)fprintf(out, "```\n");
}

static void print_option(FILE *out, const struct verb_option *o)
{
    (void)fputc('\n', out);
    if (o->letter)
        (void)fprintf(out, "*-%c*, ", o->letter);
    (void)fprintf(out, "*--%s*", o->name);
    if (o->kind == OPTION_WORD)
        for (size_t i = 0; o->words[i]; i++)
            (void)fprintf(out, "%s*%s*", i ? "\\|" : " ", o->words[i]);
    else if (o->value)
        (void)fprintf(out, " _%s_", o->value);
    (void)fprintf(out, "\n\t");
    print_escaped(out, o->help, strlen(o->help));
    (void)fprintf(out, ".\n");
}

void manual_print(FILE *out, const struct verb *verb)
{
    static const struct verb_option help = {
        .kind = OPTION_FLAG, .letter = 'h', .name = "help", .help = "print a summary of this"};

    (void)fprintf(out, "naru-%s(1)\n\n# NAME\n\nnaru-%s - ", verb->name, verb->name);
    print_escaped(out, verb->summary, strlen(verb->summary));
    (void)fprintf(out, "\n\n# SYNOPSIS\n\n*naru %s* [options] ", verb->name);
    print_escaped(out, verb->operands, strlen(verb->operands));
    (void)fprintf(out, "\n\n# DESCRIPTION\n\n");
    print_details(out, verb->details ? verb->details : verb->summary);
    (void)fprintf(out, "\n# OPTIONS\n");
    for (const struct verb_option *o = verb->options; o && o->kind; o++)
        print_option(out, o);
    print_option(out, &help);
    (void)fprintf(out,
                  "\n# EXIT STATUS\n\n"
                  "0 done; 1 failed; 2 the command line makes no sense; 3 not found; 4 permission denied;\n"
                  "124 the time was up; 128 and the signal's number after a signal, 130 after an interrupt.\n"
                  "See *naru*(1).\n\n# SEE ALSO\n\n*naru*(1)\n");
}
