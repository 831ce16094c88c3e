/* SPDX-License-Identifier: MIT */
/* An option of a URL that does nothing is refused by every mechanism, and what a mechanism says it has it
 * takes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

/* A URL for each row; where it has a path, that is in a directory of the test's own. */
static const struct mechanism {
    const char *name, *url, *path, *query;
    const char *lacks; /* of the options that many have */
} mechanisms[] = {
    {"pipe", "pipe:", NULL, "", "mode service"},
    {"fifo", "fifo://", "/fifo", "", "service"},
    {"unix-stream", "unix://", "/socket", "", "service"},
    {"unix-seqpacket", "unix://", "/socket", "?type=seqpacket", "frame read-ahead service"},
    {"unix-dgram", "unix://", "/socket", "?type=dgram", "frame read-ahead service"},
    {"tcp", "tcp://127.0.0.1:0", NULL, "", "mode service"},
    {"udp", "udp://127.0.0.1:0", NULL, "", "frame read-ahead mode service"},
    {"sysvmq", "sysvmq:0x4d3", NULL, "", "frame read-ahead service"},
    {"posixmq", "posixmq:/naru-test", NULL, "", "frame read-ahead buffer service"},
    {"shm", "shm://", "/socket", "", "frame read-ahead buffer"},
    {"shm+posix", "shm+posix:/naru-test", NULL, "", "frame read-ahead buffer service"},
    {"shm+sysv", "shm+sysv:0x4d3", NULL, "", "frame read-ahead buffer service"},
    {"file", "file://", "/file", "", "buffer service"},
    {"signal", "signal:self", NULL, "", "frame read-ahead buffer mode service"},
    {"fd", "fd:0", NULL, "", "buffer mode service"},
    {"stdio", "-", NULL, "", "buffer mode service"},
};

enum { MECHANISMS = sizeof mechanisms / sizeof *mechanisms };

static const struct {
    const char *key, *value;
} shared[] = {
    {"frame", "raw"}, {"read-ahead", "no"}, {"buffer", "64k"}, {"mode", "0600"}, {"service", "manual"}};

static const char *each_mechanism(size_t index)
{
    return index < MECHANISMS ? mechanisms[index].name : NULL;
}

/* Whether the word is in a list of words. */
static bool is_among(const char *list, const char *word)
{
    size_t length = strlen(word);

    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
            return true;
    return false;
}

static const char *url_with(const struct mechanism *m, const char *key, const char *value)
{
    return test_format("%s%s%s%s%c%s=%s", m->url, m->path ? test_directory() : "", m->path ? m->path : "",
                       m->query, *m->query ? '&' : '?', key, value);
}

/* What opening it says, in every way that the mechanism has: "" if none refuses the option. */
static const char *refusal(const struct mechanism *m, const char *url)
{
    const struct naru_mechanism *row = naru_mechanism_find(m->name);
    struct naru_channel *ch[2] = {NULL, NULL};
    struct naru_listener *l = NULL;
    const char *said = "";

    CHECK(row);
    if ((row->capabilities & NARU_CAN_LISTEN) && naru_listen(url, NULL, &l) == -EINVAL)
        said = test_format("%s", naru_explain());
    (void)naru_listener_close(l);
    if (!*said && (row->capabilities & NARU_CAN_CONNECT) &&
        naru_connect(url, NULL, NARU_NOWAIT, &ch[0]) == -EINVAL)
        said = test_format("%s", naru_explain());
    (void)naru_channel_close(ch[0]);
    ch[0] = NULL;
    if (!*said &&
        row->capabilities == (row->capabilities & ~(uint32_t)(NARU_CAN_LISTEN | NARU_CAN_CONNECT)) &&
        naru_channel_pair(url, NULL, ch) == -EINVAL)
        said = test_format("%s", naru_explain());
    (void)naru_channel_close(ch[0]);
    (void)naru_channel_close(ch[1]);
    if (!*said && naru_remove(url) == -EINVAL)
        said = test_format("%s", naru_explain());
    return strstr(said, "means nothing") || strstr(said, "is for the end") ? said : "";
}

TEST_EACH(what_means_nothing_to_a_mechanism_is_refused_with_what_there_is, each_mechanism)
{
    const struct mechanism *m = &mechanisms[index];
    struct naru_channel *ch[2];
    struct naru_listener *l;

    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) {
        const char *url = url_with(m, shared[i].key, shared[i].value);
        const char *sentence =
            test_format("option '%s' means nothing to %s; its options are ", shared[i].key, m->name);

        if (!is_among(m->lacks, shared[i].key)) {
            CHECK_STR(refusal(m, url), "");
            continue;
        }
        CHECK_INT(naru_connect(url, NULL, NARU_NOWAIT, ch), -EINVAL);
        CHECK_CONTAINS(naru_explain(), sentence);
        CHECK_CONTAINS(naru_explain(), "max-message, reconnect: `naru help ");
        CHECK_INT(naru_listen(url, NULL, &l), -EINVAL);
        CHECK_CONTAINS(naru_explain(), sentence);
        CHECK_INT(naru_channel_pair(url, NULL, ch), -EINVAL);
        CHECK_CONTAINS(naru_explain(), sentence);
        CHECK_INT(naru_remove(url), -EINVAL);
        CHECK_CONTAINS(naru_explain(), sentence);
    }
}

/* A value that a line of the row names: "key=VALUE<tab>..." */
static const char *value_of(const char *line)
{
    const char *value = strchr(line, '=') + 1;
    size_t first = strcspn(value, "|,\t");

    if (strncmp(value, "SIZE", first) == 0)
        return "64k";
    if (strncmp(value, "N", first) == 0)
        return "1";
    if (strncmp(value, "HOW", first) == 0)
        return "varint";
    return strncmp(value, "RTMIN+N", first) == 0 ? "RTMIN+1" : test_format("%.*s", (int)first, value);
}

TEST_EACH(what_the_help_of_a_mechanism_lists_is_taken, each_mechanism)
{
    const struct mechanism *m = &mechanisms[index];
    const struct naru_mechanism *row = naru_mechanism_find(m->name);
    size_t lines = 0;

    CHECK(row && row->options);
    for (const char *line = row->options; *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : "") {
        const char *key = test_format("%.*s", (int)strcspn(line, "="), line);

        lines++;
        if (strcmp(key, "type") != 0 || !*m->query) /* which it has already */
            CHECK_STR(refusal(m, url_with(m, key, value_of(line))), "");
    }
    CHECK(lines > 0);
}

TEST(every_mechanism_is_asked)
{
    const struct naru_mechanism *row = NULL;
    size_t rows = 0;

    while ((row = naru_mechanism_next(row)))
        rows += strcmp(row->name, "exec") != 0; /* all of its URL is the command's */
    CHECK_INT(rows, MECHANISMS);
}

/* One URL serves both ends; what makes no sense makes none at either. */
TEST(who_connects_takes_the_options_of_who_listens_and_checks_them)
{
    static const struct {
        const char *url, *says;
    } nonsense[] = {{"fifo:%s/none?keep=maybe", "keep"},
                    {"fifo:%s/none?unlink=perhaps", "unlink"},
                    {"fifo:%s/none?readers=few", "readers"},
                    {"fifo:%s/none?readers=many", "?readers=many needs ?frame=raw"},
                    {"fifo:%s/none?mode=rw", "mode"},
                    {"unix://%s/none?mode=0999", "mode"},
                    {"shm://%s/none?backlog=0", "backlog"},
                    {"shm://%s/none?service=never", "service"}};
    static const char *const sense[] = {"fifo:%s/none?keep=yes&unlink=no&readers=many&frame=raw&mode=0660",
                                        "unix://%s/none?mode=0660",
                                        "shm://%s/none?backlog=7&service=manual&mode=0777"};
    struct naru_channel *ch = NULL;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        CHECK_INT(naru_connect(test_format(nonsense[i].url, test_directory()), NULL, NARU_NOWAIT, &ch),
                  -EINVAL);
        CHECK_CONTAINS(naru_explain(), nonsense[i].says);
    }
    for (size_t i = 0; i < sizeof sense / sizeof *sense; i++)
        CHECK_INT(naru_connect(test_format(sense[i], test_directory()), NULL, NARU_NOWAIT, &ch), -EAGAIN);
#pragma GCC diagnostic pop
}

TEST(a_pair_has_nothing_that_is_for_who_listens)
{
    static const char *const urls[] = {"unix:?mode=0600", "shm:?mode=0600", "shm:?service=manual",
                                       "shm:?backlog=3"};
    struct naru_channel *ch[2];

    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        CHECK_INT(naru_channel_pair(urls[i], NULL, ch), -EINVAL);
        CHECK_CONTAINS(naru_explain(), "means nothing to ");
    }
}

/* Whoever asks for permissions must not be left believing that he has some. */
TEST(an_abstract_name_has_no_permissions)
{
    static const char *const urls[] = {"unix:@naru-test?mode=0600", "unix:@naru-test?type=dgram&mode=0600",
                                       "shm:@naru-test?mode=0600"};
    struct naru_channel *ch;
    struct naru_listener *l;

    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        CHECK_INT(naru_listen(urls[i], NULL, &l), -EINVAL);
        CHECK_CONTAINS(naru_explain(), "?mode= would protect nothing");
        CHECK_INT(naru_connect(urls[i], NULL, NARU_NOWAIT, &ch), -EINVAL);
    }
}

TEST(the_reader_of_a_fifo_makes_its_buffer_larger_too)
{
    const char *path = test_format("%s/fifo", test_directory());
    struct naru_listener *l;
    int fd;

    CHECK_INT(naru_listen(test_format("fifo:%s?buffer=128k", path), NULL, &l), 0);
    fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_INT(fcntl(fd, F_GETPIPE_SZ), 128 * 1024);
    (void)close(fd);
    (void)naru_listener_close(l);
    CHECK_INT(unlink(path), 0);
}

/* The same struct may be meant for whichever URL the user gives. */
TEST(what_stands_in_the_struct_and_means_nothing_is_left_alone)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch[2];

    options.frame = NARU_FRAME_RAW;
    options.buffer = 64 * 1024;
    options.service = NARU_SERVICE_MANUAL;
    CHECK_INT(naru_channel_pair("shm:", &options, ch), 0);
    (void)naru_channel_close(ch[0]);
    (void)naru_channel_close(ch[1]);
}
