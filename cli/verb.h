/* SPDX-License-Identifier: MIT */
/*
 * A verb of the naru command: one file (cmd-NAME.c) that defines `const struct verb verb_NAME`, and one line
 * in verbs.c. Everything that can be said about a verb is said here once: parsing, --help, `naru help`, the
 * completions of bash and zsh are all made from these tables.
 */
#ifndef CLI_VERB_H
#define CLI_VERB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What an option's value is, and the type of the field of the verb's own struct that it goes into. */
enum option_kind {
    OPTION_END = 0,  /* the table's last row, `{0}` */
    OPTION_FLAG,     /* bool */
    OPTION_TEXT,     /* const char * */
    OPTION_TEXTS,    /* struct texts: may be given several times */
    OPTION_FILE,     /* const char *, completed as a file name */
    OPTION_NUMBER,   /* int64_t, within [low, high] unless both are 0 */
    OPTION_SIZE,     /* int64_t bytes: 4096, 64k, 2M; within [low, high] unless both are 0 */
    OPTION_DURATION, /* int64_t nanoseconds: 500ms, 2s, 1m, forever */
    OPTION_WORD      /* int: index into words */
};

struct texts {
    const char **items;
    size_t count;
};

struct verb_option {
    enum option_kind kind;
    char letter;              /* -t; 0: none */
    const char *name;         /* --timeout */
    const char *value;        /* what the value is called in help: "DURATION"; NULL for flags */
    const char *help;         /* a line, without full stop */
    size_t offset;            /* offsetof the field */
    const char *const *words; /* OPTION_WORD: what may be said, NULL-terminated */
    int64_t low, high;
};

/* A command line, taken apart. */
struct invocation {
    const struct verb *verb;
    void *options;   /* the verb's own struct: defaults, overwritten with what was given */
    char **operands; /* NULL-terminated */
    int operand_count;
    char **command; /* what stood behind "--" if verb->command; NULL: there was no "--" */
};

/* What a verb's operands are, for completion. */
enum operand_kind { OPERAND_NONE = 0, OPERAND_URL, OPERAND_FILE, OPERAND_VERB, OPERAND_OTHER };

struct verb {
    const char *name;
    const char *group;    /* heading in `naru --help`: GROUP_... */
    const char *summary;  /* half a line, no full stop */
    const char *operands; /* behind "naru NAME [options]": "URL", "NAME -- COMMAND..." */
    const char *details;  /* what else help says: paragraphs, examples; wrapped at 80 columns; may be NULL */
    const struct verb_option *options; /* ends with {0}; may be NULL. -h and --help come by themselves */
    size_t options_size;               /* sizeof the verb's own struct */
    const void *defaults;              /* one of them; NULL: all zero */
    int operands_min, operands_max;    /* max -1: any number */
    enum operand_kind operand;
    const char *const *first; /* the words the first operand must be one of, NULL-terminated; NULL: any */
    bool command;             /* takes a command behind "--" */
    const char *instead;      /* how to say what people put behind the operands; NULL: nothing known */
    int (*run)(const struct invocation *in); /* returns the exit code, messages printed */
};

#define GROUP_MESSAGES "Carry messages"
#define GROUP_SYNC     "Synchronise"
#define GROUP_LOOK     "Look and tidy up"
#define GROUP_MEASURE  "See and measure"
#define GROUP_HELP     "Help"

/* All of them in the order of `naru --help`, NULL-terminated. */
extern const struct verb *const verbs[];

/* NULL: there is none of that name. */
const struct verb *verb_find(const char *name);

#endif
