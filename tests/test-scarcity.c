/* SPDX-License-Identifier: MIT */
/*
 * When memory or descriptors run out. Every single allocation of opening, using and closing a channel is made
 * to fail once, and RLIMIT_NOFILE is set to every value that bites: the call says -ENOMEM or -EMFILE in a
 * sentence, leaves its output alone, and nothing is left behind: no memory, no descriptor, no socket and no
 * lock file (the runner looks for the latter three).
 *
 * The linker puts these functions in the place of the allocator's (ld(1), --wrap; see cmake/tests.cmake).
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

enum { NEVER = -1, ALLOCATIONS_MAX = 500, DESCRIPTORS_MAX = 40 };

static long fail_in = NEVER; /* how many more allocations succeed */
static long live;            /* allocations not freed */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size);
int __wrap_asprintf(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));
void __wrap_free(void *memory);

static bool fails(void)
{
    if (fail_in == NEVER || fail_in-- > 0)
        return false;
    errno = ENOMEM;
    return true;
}

static void *counted(void *memory)
{
    live += memory != NULL;
    return memory;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : counted(__real_calloc(count, size));
}

void *__wrap_realloc(void *memory, size_t size)
{
    if (fails())
        return NULL;
    return memory ? __real_realloc(memory, size) : counted(__real_realloc(NULL, size));
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : counted(__real_strdup(text));
}

char *__wrap_strndup(const char *text, size_t size)
{
    return fails() ? NULL : counted(__real_strndup(text, size));
}

int __wrap_asprintf(char **ret, const char *format, ...)
{
    va_list args;
    int length;

    if (fails())
        return -1;
    va_start(args, format);
    length = vasprintf(ret, format, args);
    va_end(args);
    live += length >= 0;
    return length;
}

void __wrap_free(void *memory)
{
    live -= memory != NULL;
    __real_free(memory);
}

/* %d: the test's directory. */
static const struct {
    const char *name, *url;
} endpoints[] = {
    {"unix stream", "unix:%d/s"},
    {"unix seqpacket", "unix:%d/s?type=seqpacket"},
    {"unix dgram", "unix:%d/s?type=dgram"},
    {"unix abstract", "unix:@%d"},
    {"tcp", "tcp://127.0.0.1:0"},
    {"udp", "udp://127.0.0.1:0"},
    {"fifo", "fifo:%d/f?unlink=yes"},
    {"fifo kept", "fifo:%d/f?unlink=yes&keep=yes"},
    {"file", "file:%d/log?unlink=yes"},
    {"sysvmq", "sysvmq:0x6e617275?unlink=yes"},
    {"posixmq", "posixmq:/naru-scarcity?unlink=yes"},
    {"signal", "signal:?sig=RTMIN+3"},
    {"a pair of pipes", "pipe:"},
    {"a unix pair", "unix:"},
    {"a seqpacket pair", "unix:?type=seqpacket"},
    {"a dgram pair", "unix:?type=dgram"},
    {"a shared memory pair", "shm:"},
};

static const char *each_endpoint(size_t index)
{
    return index < sizeof endpoints / sizeof *endpoints ? endpoints[index].name : NULL;
}

static const char *url_of(size_t index)
{
    const char *url = endpoints[index].url, *mark = strstr(url, "%d");

    return mark ? test_format("%.*s%s%s", (int)(mark - url), url, test_directory(), mark + 2) : url;
}

struct ends {
    struct naru_listener *listener;
    struct naru_channel *far, *near;
};

static int open_ends(struct ends *ends, const char *url, const struct naru_options *options)
{
    struct naru_channel *pair[2] = {NULL, NULL};
    int r;

    if (strcmp(url, "pipe:") == 0 || strncmp(url, "unix:?", 6) == 0 || strcmp(url, "unix:") == 0 ||
        strcmp(url, "shm:") == 0) {
        r = naru_channel_pair(url, options, pair);
        CHECK(r == 0 || (!pair[0] && !pair[1]));
        ends->far = pair[0];
        ends->near = pair[1];
        return r;
    }
    r = naru_listen(url, options, &ends->listener);
    CHECK((r == 0) == (ends->listener != NULL));
    if (r < 0)
        return r;
    r = naru_connect(naru_listener_url(ends->listener), options, NARU_S(60), &ends->far);
    CHECK((r == 0) == (ends->far != NULL));
    if (r < 0)
        return r;
    r = naru_accept(ends->listener, NARU_S(60), &ends->near);
    CHECK((r == 0) == (ends->near != NULL));
    return r;
}

/* Whatever the mechanism, four bytes fit. */
static int use_ends(const struct ends *ends)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    struct naru_view view = NARU_INIT(struct naru_view);
    char buffer[16];
    int r = naru_send(ends->far, "abcd", 4, NARU_S(60));

    if (r == 0)
        r = (int)naru_recv(ends->near, buffer, 1, NARU_S(60));
    CHECK(r < 0);
    if (r != -EMSGSIZE)
        return r;
    CHECK_INT(naru_recv(ends->near, buffer, sizeof buffer, NARU_S(60)), 4);
    r = naru_channel_fd(ends->near);
    if (r >= 0)
        r = naru_channel_fd(ends->far);
    if (r < 0 && r != -ENOTSUP) /* of System V queues, and of files without inotify */
        return r;
    r = naru_loan(ends->far, 4, NARU_S(60), &loan);
    if (r == 0) {
        memcpy(loan.data, "efgh", 4);
        r = naru_commit(&loan, 4, NULL);
    }
    if (r == 0)
        r = naru_borrow(ends->near, NARU_S(60), &view);
    if (r == 0)
        CHECK(view.length == 4 && memcmp(view.data, "efgh", 4) == 0);
    if (r == 0)
        naru_release(&view);
    return r;
}

static int open_use_close(const char *url)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct ends ends = {NULL, NULL, NULL};
    int r;

    options.interruptible = 1; /* it takes descriptors too */
    r = open_ends(&ends, url, &options);
    if (r == 0)
        r = use_ends(&ends);
    naru_channel_close(ends.far);
    naru_channel_close(ends.near);
    naru_listener_close(ends.listener);
    return r;
}

TEST_EACH(every_allocation_may_fail, each_endpoint)
{
    const char *url = url_of(index);
    bool reached = true;

    for (long n = 0; reached; n++) {
        long before = live;
        int r;

        CHECK(n < ALLOCATIONS_MAX);
        fail_in = n;
        r = open_use_close(url);
        reached = fail_in == NEVER;
        fail_in = NEVER;
        if (r != 0 && r != -ENOMEM)
            test_fail(__FILE__, __LINE__, "allocation %ld: %d, %s", n, r, naru_explain());
        if (r < 0)
            CHECK_CONTAINS(naru_explain(), "memory");
        if (live != before)
            test_fail(__FILE__, __LINE__, "allocation %ld: %ld are not freed", n, live - before);
        CHECK(reached || r == 0);
    }
}

TEST_EACH(descriptors_may_run_out_anywhere, each_endpoint)
{
    const char *url = url_of(index);
    struct rlimit usual, tight;
    bool refused = false;

    CHECK(getrlimit(RLIMIT_NOFILE, &usual) == 0);
    for (rlim_t n = 3; n < DESCRIPTORS_MAX; n++) {
        long before = live;
        int r;

        tight = (struct rlimit){n, usual.rlim_max};
        CHECK(setrlimit(RLIMIT_NOFILE, &tight) == 0);
        r = open_use_close(url);
        CHECK(setrlimit(RLIMIT_NOFILE, &usual) == 0);
        if (r != 0 && r != -EMFILE)
            test_fail(__FILE__, __LINE__, "limit %d: %d, %s", (int)n, r, naru_explain());
        if (r < 0)
            CHECK(strcmp(naru_explain(), "no error") != 0);
        refused |= r < 0;
        CHECK_INT(live, before);
    }
    CHECK(refused);
    CHECK_INT(open_use_close(url), 0);
}

/* What was received of a large message stands in the caller's memory. If there is none to save it in when he
 * gives up, the stream is broken for good, and never looks for it in the memory of the next call. */
TEST(memory_that_runs_out_inside_a_message_breaks_the_stream)
{
    enum { LARGE = 300000 };
    char *large = calloc(1, LARGE), small[16];
    struct naru_channel *ends[2];

    CHECK(large);
    CHECK_INT(naru_channel_pair("unix:", NULL, ends), 0);
    CHECK_INT(naru_send(ends[0], large, LARGE, NARU_NOWAIT), -EINPROGRESS);
    fail_in = 0;
    CHECK_INT(naru_recv(ends[1], large, LARGE, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(fail_in, NEVER);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(naru_recv(ends[1], small, sizeof small, NARU_NOWAIT), -EPROTO);
        CHECK_CONTAINS(naru_explain(), "memory ran out");
    }
    naru_channel_close(ends[0]);
    naru_channel_close(ends[1]);
    free(large);
}
