/* SPDX-License-Identifier: MIT */
/* naru ls: what exists; naru ls --mechanisms: what could. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/arguments.h"
#include "cli/exit.h"
#include "cli/json.h"
#include "cli/objects.h"
#include "cli/quantity.h"
#include "cli/report.h"
#include "cli/table.h"
#include "cli/term.h"
#include "cli/verb.h"
#include "cli/wrapped-table.h"
#include "naru/mechanism.h"

struct ls_options {
    bool json, mechanisms;
};

/* --- objects --- */

static void describe_owner(const struct object *o, char *text, size_t size)
{
    struct passwd *who = o->uid < 0 ? NULL : getpwuid((uid_t)o->uid);

    if (o->uid < 0)
        (void)snprintf(text, size, "-");
    else if (who)
        (void)snprintf(text, size, "%s", who->pw_name);
    else
        (void)snprintf(text, size, "%" PRId64, o->uid);
}

static const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

/* "3 messages, 120 B" and the like. */
static void describe_content(const struct object *o, char *text, size_t size)
{
    char bytes[QUANTITY_SIZE] = "", messages[48] = "", users[48] = "";
    bool set = strcmp(o->kind, "sem+sysv") == 0;

    if (o->bytes >= 0)
        (void)format_size((double)o->bytes, bytes);
    if (o->messages >= 0)
        (void)snprintf(messages, sizeof messages, "%" PRId64 " message%s, ", o->messages,
                       plural(o->messages));
    if (set)
        (void)snprintf(users, sizeof users, "%" PRId64 " semaphore%s", o->users, plural(o->users));
    else if (o->users >= 0)
        (void)snprintf(users, sizeof users, ", %" PRId64 " attached", o->users);
    (void)snprintf(text, size, "%s%s%s", messages, bytes, users);
    if (*o->state)
        (void)snprintf(text, size, "%s", o->state);
    else if (!*text)
        (void)snprintf(text, size, "listening");
}

static int add_object_row(const struct object *o, void *context)
{
    char owner[64], mode[32] = "-", content[128], name[OBJECT_NAME_MAX + 32];
    const char *cells[] = {o->kind, name, owner, mode, content};

    describe_owner(o, owner, sizeof owner);
    describe_content(o, content, sizeof content);
    if (o->mode >= 0)
        (void)snprintf(mode, sizeof mode, "%04" PRIo64, o->mode);
    if (*o->name)
        (void)snprintf(name, sizeof name, "%s", o->name);
    else
        (void)snprintf(name, sizeof name, "(id %" PRId64 ")", o->id);
    return table_add(context, cells);
}

static void json_known(struct json *j, const char *key, int64_t value)
{
    if (value >= 0)
        json_int(j, key, value);
}

static int print_object_json(const struct object *o, void *context)
{
    struct json *j = context;
    char mode[32];

    json_object(j, NULL);
    json_text(j, "kind", o->kind);
    json_text(j, "url", *o->name ? o->name : NULL);
    json_known(j, "id", o->id);
    json_known(j, "uid", o->uid);
    if (o->mode >= 0) {
        (void)snprintf(mode, sizeof mode, "%04" PRIo64, o->mode);
        json_text(j, "mode", mode);
    }
    json_known(j, "messages", o->messages);
    json_known(j, "bytes", o->bytes);
    json_known(j, strcmp(o->kind, "sem+sysv") == 0 ? "semaphores" : "attached", o->users);
    json_known(j, "pid", o->pid);
    if (*o->state)
        json_text(j, "state", o->state);
    json_end(j);
    return 0;
}

static int list_objects(const char *kind, bool as_json)
{
    static const char *const headings[] = {"<KIND", "<URL", "<OWNER", "<MODE", "<CONTENT"};
    const char *missing = NULL;
    struct table t;
    int r;

    if (as_json) {
        struct json j = json_begin(stdout, JSON_INDENTED);

        json_array(&j, NULL);
        r = objects_each(kind, print_object_json, &j, &missing);
        json_end(&j);
    } else {
        table_init(&t, sizeof headings / sizeof headings[0], headings);
        r = objects_each(kind, add_object_row, &t, &missing);
        if (t.row_count > 0)
            table_print(&t, stdout);
        else if (r == 0 || r == -ENODEV)
            report_note("there are no %s%snow%s", kind ? kind : "IPC objects with a name",
                        kind ? " objects " : " ",
                        kind && strcmp(kind, "shm") == 0
                            ? ": nobody listens at shm://NAME (shm+posix and shm+sysv are kinds of their own)"
                            : "");
        table_deinit(&t);
    }
    if (r == -ENODEV && missing && strcmp(missing, "/dev/mqueue") == 0) {
        report_note("POSIX queues cannot be listed: /dev/mqueue is not mounted; as root: "
                    "mkdir -p /dev/mqueue && mount -t mqueue none /dev/mqueue");
        return kind ? NARU_EXIT_NOT_FOUND : NARU_EXIT_OK;
    }
    if (r == -ENODEV) {
        report_note("%s is not there: %s", missing,
                    access("/proc/self", F_OK) < 0 ? "as root: mount -t proc proc /proc"
                                                   : "this kernel keeps no such list");
        return kind ? NARU_EXIT_NOT_FOUND : NARU_EXIT_OK;
    }
    return r < 0 ? report_errno(-r, "cannot list") : NARU_EXIT_OK;
}

/* --- mechanisms --- */

static void print_mechanisms_json(void)
{
    const struct naru_mechanism *row = NULL;
    struct json j = json_begin(stdout, JSON_INDENTED);

    json_array(&j, NULL);
    while ((row = naru_mechanism_next(row))) {
        json_object(&j, NULL);
        json_text(&j, "name", row->name);
        json_text(&j, "scheme", row->scheme);
        json_text(&j, "example", row->example);
        json_text(&j, "also", row->also);
        json_text(&j, "title", row->title);
        json_text(&j, "use_when", row->use_when);
        json_text(&j, "medium", row->medium);
        json_text(&j, "direction", row->direction);
        json_text(&j, "unit", row->unit);
        json_text(&j, "scope", row->scope);
        json_text(&j, "persistence", row->persistence);
        json_text(&j, "limit", row->limit);
        json_text(&j, "wait", row->wait);
        json_text(&j, "options", row->options);
        json_uint(&j, "max_message", row->max_message);
        json_end(&j);
    }
    json_end(&j);
}

/* As wide as the terminal; a line for each where there is none. */
static void print_mechanisms(void)
{
    static const char *const titles[] = {"NAME", "URL", "DIRECTION", "UNIT", "USE WHEN"};
    enum { COLUMNS = sizeof titles / sizeof titles[0], ROWS_MAX = 64 };
    const char *cells[ROWS_MAX * COLUMNS];
    struct wrapped_table table = {titles, COLUMNS, cells, 0};
    const struct naru_mechanism *row = NULL;

    while ((row = naru_mechanism_next(row)) && table.rows < ROWS_MAX) {
        const char *const line[COLUMNS] = {row->name, row->example, row->direction, row->unit, row->use_when};

        memcpy(cells + table.rows++ * COLUMNS, line, sizeof line);
    }
    wrapped_table_print(stdout, &table, term_is_terminal(stdout) ? term_width(stdout) : 1000);
}

static int list_mechanisms(bool as_json)
{
    if (as_json)
        print_mechanisms_json();
    else
        print_mechanisms();
    return NARU_EXIT_OK;
}

static int run(const struct invocation *in)
{
    const struct ls_options *o = in->options;
    const char *kind = in->operands[0];

    if (o->mechanisms && kind)
        return report_usage("--mechanisms lists all of them; '%s' is one too many", kind);
    return o->mechanisms ? list_mechanisms(o->json) : list_objects(kind, o->json);
}

#define FIELD(name) offsetof(struct ls_options, name)
static const struct verb_option options[] = {
    {OPTION_FLAG, 'm', "mechanisms", NULL, "list what naru can use instead of what exists", FIELD(mechanisms),
     NULL, 0, 0},
    {OPTION_FLAG, 'j', "json", NULL, "print JSON", FIELD(json), NULL, 0, 0},
    {0}};

const struct verb verb_ls = {
    .name = "ls",
    .group = GROUP_LOOK,
    .summary = "list queues, shared memory, semaphores and listening sockets",
    .operands = "[KIND]",
    .details =
        "Lists the IPC objects with a name that exist on this machine, of all kinds or of one:\n"
        "System V queues, segments and semaphores (sysvmq, shm+sysv, sem+sysv), POSIX ones (posixmq,\n"
        "shm+posix, sem+posix), unix sockets that listen (unix), names of shm:// that do (shm; at a path of\n"
        "one's own it is among unix), and what naru makes by name (mutex, rwlock, semaphore, event,\n"
        "barrier). `naru rm URL` removes one, `naru rm KIND:NAME` one of naru's own.\n"
        "How those of other users stand is not shown (-): to look is to trust their memory.\n\n"
        "  naru ls sysvmq\n"
        "  naru ls --json | jq '.[] | select(.messages > 0)'",
    .options = options,
    .options_size = sizeof(struct ls_options),
    .operands_max = 1,
    .operand = OPERAND_NONE,
    .first = object_kinds,
    .run = run,
};
