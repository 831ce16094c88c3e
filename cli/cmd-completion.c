/* SPDX-License-Identifier: MIT */
/* naru completion bash|zsh: the shells' completion functions, made from the verb table. */
#include <stdio.h>
#include <string.h>

#include "cli/exit.h"
#include "cli/verb.h"
#include "naru/mechanism.h"

static void bash_value(const struct verb_option *o)
{
    if (o->kind == OPTION_FLAG)
        return;
    if (o->letter)
        (void)printf("            -%c|--%s)", o->letter, o->name);
    else
        (void)printf("            --%s)", o->name);
    if (o->kind == OPTION_WORD) {
        (void)printf(" _naru_words \"$cur\" '");
        for (size_t i = 0; o->words[i]; i++)
            (void)printf("%s%s", i ? " " : "", o->words[i]);
        (void)printf("';");
    } else if (o->kind == OPTION_FILE) {
        (void)printf(" _naru_files \"$cur\";");
    }
    (void)printf(" return ;;\n");
}

static void bash_operand(const struct verb *verb)
{
    if (verb->first) {
        (void)printf("        ((operands > 0)) || { _naru_words \"$cur\" '");
        for (size_t i = 0; verb->first[i]; i++)
            (void)printf("%s%s", i ? " " : "", verb->first[i]);
        (void)printf("'; return; }\n");
    }
    switch (verb->operand) {
    case OPERAND_URL:
        (void)printf("        _naru_url \"$cur\" ;;\n");
        break;
    case OPERAND_FILE:
        (void)printf("        _naru_files \"$cur\" ;;\n");
        break;
    case OPERAND_VERB:
        (void)printf("        _naru_words \"$cur\" \"$verbs urls\" ;;\n");
        break;
    case OPERAND_NONE:
    case OPERAND_OTHER:
        (void)printf("        ;;\n");
        break;
    }
}

static void bash_verb(const struct verb *verb)
{
    (void)printf("    %s)\n        case $prev in\n", verb->name);
    for (const struct verb_option *o = verb->options; o && o->kind; o++)
        bash_value(o);
    (void)printf("        esac\n        [[ $cur == -* ]] && { _naru_words \"$cur\" '");
    for (const struct verb_option *o = verb->options; o && o->kind; o++)
        (void)printf("--%s ", o->name);
    (void)printf("--help'; return; }\n");
    bash_operand(verb);
}

/* Readline breaks words at ':' and '=' (COMP_WORDBREAKS), which URLs are full of: the words are taken from
 * the line itself, and what readline already has of the word is cut off the replies. */
static const char bash_functions[] =
    "# bash completion for naru; load it with: source <(naru completion bash)\n"
    "_naru_words()\n"
    "{\n"
    "    local had=${1%\"${1##*[:=]}\"} i\n"
    "    mapfile -t COMPREPLY < <(compgen -W \"$2\" -- \"$1\")\n"
    "    for i in \"${!COMPREPLY[@]}\"; do COMPREPLY[i]=${COMPREPLY[i]#\"$had\"}; done\n"
    "}\n"
    "_naru_files()\n"
    "{\n"
    "    compopt -o filenames 2>/dev/null\n"
    "    mapfile -t COMPREPLY < <(compgen -f -- \"$1\")\n"
    "}\n"
    "_naru_url()\n"
    "{\n"
    "    local scheme=${1%%:*}\n"
    "    if [[ $1 == *://* ]]; then\n"
    "        compopt -o filenames -o nospace 2>/dev/null\n"
    "        mapfile -t COMPREPLY < <(compgen -P \"//\" -f -- \"${1#\"$scheme\"://}\")\n"
    "    else\n"
    "        compopt -o nospace 2>/dev/null\n"
    "        _naru_words \"$1\" \"$schemes\"\n"
    "    fi\n"
    "}\n";

static void print_verb_names(void)
{
    for (size_t i = 0; verbs[i]; i++)
        (void)printf("%s%s", i ? " " : "", verbs[i]->name);
}

/* Each scheme once: the rows of one stand together. */
static void print_schemes(const char *separator)
{
    const struct naru_mechanism *row = NULL;
    const char *last = "";

    while ((row = naru_mechanism_next(row))) {
        if (strcmp(row->scheme, last) == 0)
            continue;
        (void)printf("%s%s%s", *last ? separator : "", row->scheme, strcmp(row->scheme, "-") == 0 ? "" : ":");
        last = row->scheme;
    }
}

static void print_bash(void)
{
    (void)fputs(bash_functions, stdout);
    (void)printf("_naru()\n{\n"
                 "    local line=${COMP_LINE:0:COMP_POINT} cur='' prev operands=0 i words\n"
                 "    local verbs='");
    print_verb_names();
    (void)printf("'\n    local schemes='");
    print_schemes(" ");
    (void)printf(
        "'\n"
        "    COMPREPLY=()\n"
        "    read -ra words <<<\"$line\"\n"
        "    [[ $line == *[[:space:]] ]] || { cur=${words[-1]}; unset 'words[-1]'; }\n"
        "    if ((${#words[@]} < 2)); then\n"
        "        _naru_words \"$cur\" \"$verbs --help --version\"\n"
        "        return\n"
        "    fi\n"
        "    prev=${words[-1]}\n"
        "    [[ $cur == --*=* ]] && { prev=${cur%%%%=*}; cur=${cur#*=}; }\n"
        "    for ((i = 2; i < ${#words[@]}; i++)); do [[ ${words[i]} == -?* ]] || ((++operands)); done\n"
        "    case ${words[1]} in\n");
    for (size_t i = 0; verbs[i]; i++)
        bash_verb(verbs[i]);
    (void)printf("    esac\n}\ncomplete -F _naru naru\n");
}

/* Text inside single quotes and _arguments' own brackets and colons. */
static void zsh_text(const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            (void)printf("'\\''");
        else if (strchr("[]:\\", *text))
            (void)printf("\\%c", *text);
        else
            (void)putchar(*text);
    }
}

static void zsh_option(const struct verb_option *o)
{
    const char *repeat = o->kind == OPTION_TEXTS ? "*" : "", *equals = o->kind == OPTION_FLAG ? "" : "=";

    if (o->letter && !*repeat)
        (void)printf("            '(-%c --%s)'{-%c%s,--%s%s}'[", o->letter, o->name, o->letter,
                     *equals ? "+" : "", o->name, equals);
    else if (o->letter)
        (void)printf("            '*'{-%c+,--%s=}'[", o->letter, o->name);
    else
        (void)printf("            '%s--%s%s[", repeat, o->name, equals);
    zsh_text(o->help);
    (void)printf("]");
    if (o->kind != OPTION_FLAG) {
        (void)printf(":");
        zsh_text(o->value ? o->value : o->name);
        (void)printf(":");
    }
    if (o->kind == OPTION_FILE)
        (void)printf("_files");
    if (o->kind == OPTION_WORD) {
        (void)printf("(");
        for (size_t i = 0; o->words[i]; i++)
            (void)printf("%s%s", i ? " " : "", o->words[i]);
        (void)printf(")");
    }
    (void)printf("' \\\n");
}

static void zsh_verb(const struct verb *verb)
{
    static const char *const actions[] = {[OPERAND_NONE] = "",
                                          [OPERAND_URL] = "_naru_url",
                                          [OPERAND_FILE] = "_files",
                                          [OPERAND_VERB] = "",
                                          [OPERAND_OTHER] = " "};

    (void)printf("    %s)\n        _arguments -s -S \\\n", verb->name);
    for (const struct verb_option *o = verb->options; o && o->kind; o++)
        zsh_option(o);
    (void)printf("            '(-h --help)'{-h,--help}'[print help]'");
    if (verb->first) {
        (void)printf(" \\\n            '1:what:(");
        for (size_t i = 0; verb->first[i]; i++)
            (void)printf("%s%s", i ? " " : "", verb->first[i]);
        (void)printf(")'");
    }
    if (verb->operand == OPERAND_VERB)
        (void)printf(" \\\n            \"1:verb:(${(j: :)verbs%%%%:*})\"");
    else if (*actions[verb->operand])
        (void)printf(" \\\n            '*:operand:%s'", actions[verb->operand]);
    (void)printf(" ;;\n");
}

static void print_zsh(void)
{
    (void)printf("#compdef naru\n"
                 "# zsh completion for naru; install it as _naru in a directory of $fpath\n"
                 "_naru_url()\n{\n"
                 "    if [[ $PREFIX == *://* ]]; then compset -P '*://'; _files; return; fi\n"
                 "    compadd -S '' -- ");
    print_schemes(" ");
    (void)printf("\n}\n"
                 "_naru()\n{\n    local -a verbs=(\n");
    for (size_t i = 0; verbs[i]; i++) {
        (void)printf("        '%s:", verbs[i]->name);
        zsh_text(verbs[i]->summary);
        (void)printf("'\n");
    }
    (void)printf("    )\n"
                 "    if ((CURRENT == 2)); then\n        _describe verb verbs\n        return\n    fi\n"
                 "    local verb=$words[2]\n    shift words\n    ((CURRENT--))\n    case $verb in\n");
    for (size_t i = 0; verbs[i]; i++)
        zsh_verb(verbs[i]);
    (void)printf("    esac\n}\n"
                 "if [[ $funcstack[1] == _naru ]]; then _naru \"$@\"; else compdef _naru naru; fi\n");
}

static int run(const struct invocation *in)
{
    if (strcmp(in->operands[0], "bash") == 0)
        print_bash();
    else
        print_zsh();
    return NARU_EXIT_OK;
}

static const char *const shells[] = {"bash", "zsh", NULL};

const struct verb verb_completion = {
    .name = "completion",
    .group = GROUP_HELP,
    .summary = "print the completion function of a shell",
    .operands = "bash|zsh",
    .details = "Load it into the running shell, or put it where the shell looks for such files:\n"
               "  source <(naru completion bash)\n"
               "  naru completion bash > ~/.local/share/bash-completion/completions/naru\n"
               "  naru completion zsh > \"${fpath[1]}/_naru\"",
    .operands_min = 1,
    .operands_max = 1,
    .operand = OPERAND_OTHER,
    .first = shells,
    .run = run,
};
