/* SPDX-License-Identifier: MIT */
/* naru segment URL create|read|write|grow|size|rm: shared memory by hand. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/exit.h"
#include "cli/json.h"
#include "cli/quantity.h"
#include "cli/remove.h"
#include "cli/report.h"
#include "cli/verb.h"
#include "naru/error.h"
#include "naru/segment.h"

struct segment_options {
    int64_t offset, length;
    bool json;
};

enum { WHOLE = -1, CHUNK = 64 * 1024 };

static const struct segment_options defaults = {.length = WHOLE};

struct work {
    const char *url;
    const struct segment_options *options;
    size_t size; /* operand of create and grow */
    struct naru_segment *segment;
};

static int finish(int r)
{
    return r < 0 ? report_failure(r) : NARU_EXIT_OK;
}

static int do_create(struct work *w)
{
    (void)w; /* opening was all */
    return NARU_EXIT_OK;
}

static int do_read(struct work *w)
{
    char chunk[CHUNK];
    uint64_t offset = (uint64_t)w->options->offset;
    uint64_t left = w->options->length == WHOLE ? UINT64_MAX : (uint64_t)w->options->length;
    ssize_t size = naru_segment_size(w->segment);

    if (size < 0)
        return report_failure(size);
    if (offset > (uint64_t)size)
        return report(NARU_EXIT_FAILED, "%s: byte %" PRIu64 " is past its end at %zd", w->url, offset, size);
    if (w->options->length != WHOLE && left > (uint64_t)size - offset)
        return report(NARU_EXIT_FAILED, "%s: %" PRIu64 " bytes at %" PRIu64 " reach past its end at %zd",
                      w->url, left, offset, size);
    while (left > 0) {
        ssize_t n = naru_segment_read(w->segment, offset, chunk, left < CHUNK ? (size_t)left : CHUNK);

        if (n < 0)
            return report_failure(n);
        if (n == 0)
            break;
        if (fwrite(chunk, 1, (size_t)n, stdout) != (size_t)n)
            return NARU_EXIT_FAILED; /* main() says why */
        offset += (uint64_t)n;
        left -= (uint64_t)n;
    }
    return NARU_EXIT_OK;
}

static int do_write(struct work *w)
{
    char chunk[CHUNK];
    uint64_t offset = (uint64_t)w->options->offset;

    for (;;) {
        ssize_t n = read(STDIN_FILENO, chunk, sizeof chunk);
        int r;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return report_errno(errno, "standard input");
        if (n == 0)
            return NARU_EXIT_OK;
        r = naru_segment_write(w->segment, offset, chunk, (size_t)n);
        if (r == -ENXIO && strncmp(w->url, "shm+sysv:", 9) == 0)
            return report(NARU_EXIT_FAILED, "%s; such memory keeps its size, a new one makes room",
                          naru_explain());
        if (r == -ENXIO)
            return report(NARU_EXIT_FAILED, "%s; `naru segment %s grow SIZE` makes room", naru_explain(),
                          w->url);
        if (r < 0)
            return report_failure(r);
        offset += (uint64_t)n;
    }
}

static int do_grow(struct work *w)
{
    int r = naru_segment_resize(w->segment, w->size);

    if (r == -EINVAL)
        return report(NARU_EXIT_FAILED, "%s", naru_explain());
    return finish(r);
}

static int do_size(struct work *w)
{
    ssize_t size = naru_segment_size(w->segment);

    if (size < 0)
        return report_failure(size);
    if (w->options->json) {
        struct json j = json_begin(stdout, JSON_ONE_LINE);

        json_object(&j, NULL);
        json_text(&j, "url", w->url);
        json_int(&j, "bytes", size);
        json_end(&j);
    } else {
        (void)printf("%zd\n", size);
    }
    return NARU_EXIT_OK;
}

static const struct action {
    const char *name;
    bool sized, read_only;
    enum naru_create create;
    int (*run)(struct work *w);
} actions[] = {
    {"create", true, false, NARU_CREATE_NEW, do_create}, {"read", false, true, NARU_CREATE_NO, do_read},
    {"write", false, false, NARU_CREATE_NO, do_write},   {"grow", true, false, NARU_CREATE_NO, do_grow},
    {"size", false, true, NARU_CREATE_NO, do_size},
};

static int act(const struct action *action, struct work *w)
{
    struct naru_segment_options options = NARU_INIT(struct naru_segment_options);
    int r, code;

    options.create = action->create;
    options.read_only = action->read_only;
    r = naru_segment_open(w->url, action->create == NARU_CREATE_NEW ? w->size : 0, &options, &w->segment);
    if (r == -EEXIST)
        return report(NARU_EXIT_FAILED, "%s: it exists already; `naru segment %s rm` removes it", w->url,
                      w->url);
    if (r < 0)
        return report_failure(r);
    code = action->run(w);
    w->segment = naru_segment_close(w->segment);
    return code;
}

static int parse_sized(const struct invocation *in, const struct action *action, struct work *w)
{
    const char *text = in->operands[2];
    int64_t size;

    if (!action->sized)
        return text ? report_usage("%s: '%s' is one operand too many", action->name, text) : NARU_EXIT_OK;
    if (!text || !parse_size(text, &size) || size < 1)
        return report_usage("%s: expected a size in bytes: naru segment %s %s 64k", action->name, w->url,
                            action->name);
    w->size = (size_t)size;
    return NARU_EXIT_OK;
}

static int run(const struct invocation *in)
{
    struct work w = {.url = in->operands[0], .options = in->options};
    const char *word = in->operands[1];

    if (strncmp(w.url, "memfd:", 6) == 0)
        return report_usage("memfd: has no name, so no other command could find it");
    if (w.options->json && strcmp(word, "size") != 0)
        return report_usage("--json goes with size");
    if (strcmp(word, "rm") == 0 && in->operands[2])
        return report_usage("rm: '%s' is one operand too many", in->operands[2]);
    if (strcmp(word, "rm") == 0)
        return finish(remove_segment(w.url));
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        int code;

        if (strcmp(actions[i].name, word) != 0)
            continue;
        code = parse_sized(in, &actions[i], &w);
        return code == NARU_EXIT_OK ? act(&actions[i], &w) : code;
    }
    return report_usage("expected create, read, write, grow, size or rm behind the URL, not '%s'", word);
}

#define FIELD(name) offsetof(struct segment_options, name)
static const struct verb_option options[] = {
    {OPTION_SIZE, 'o', "offset", "BYTES", "read, write: begin there", FIELD(offset), NULL, 0, INT64_MAX},
    {OPTION_SIZE, 'l', "length", "BYTES", "read: that many, instead of all", FIELD(length), NULL, 0,
     INT64_MAX},
    {OPTION_FLAG, 'j', "json", NULL, "size: JSON", FIELD(json), NULL, 0, 0},
    {0}};

const struct verb verb_segment = {
    .name = "segment",
    .group = GROUP_SYNC,
    .summary = "make, read, write, grow and remove shared memory",
    .operands = "URL create SIZE|read|write|grow SIZE|size|rm",
    .details =
        "URL is shm+posix:/name, shm+sysv:0x4d2 (the key of shmget) or mmap:///path. The bytes are\n"
        "raw: any program that maps the same object sees them. read prints them, write takes\n"
        "standard input; several writers need `naru lock`. rm leaves a channel alone that somebody listens\n"
        "to.\n\n"
        "  naru segment shm+sysv:0x4d2 create 27\n"
        "  printf 3 | naru segment shm+sysv:0x4d2 write     # A writes 3\n"
        "  naru segment --length 1 shm+sysv:0x4d2 read      # B reads 3\n"
        "  naru segment shm+sysv:0x4d2 rm",
    .options = options,
    .options_size = sizeof(struct segment_options),
    .defaults = &defaults,
    .operands_min = 2,
    .operands_max = 3,
    .operand = OPERAND_URL,
    .run = run,
};
