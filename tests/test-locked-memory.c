/* SPDX-License-Identifier: MIT */
/*
 * Programs that lock all memory they will have, mlockall(MCL_FUTURE), as those for real time do, within the
 * usual RLIMIT_MEMLOCK: what is too much is told at once and in words, and what fits works.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

/* A sanitizer's own memory would be locked, too, and is more than that. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

enum { MIB = 1024 * 1024, USUAL = 8 * MIB };

static const int64_t patience = NARU_S(60);

static const char *url(const char *query)
{
    return test_format("shm:@naru%s%s", test_directory(), query);
}

/* A user's limit is not root's. */
static int fork_user(void)
{
    return geteuid() == 0 ? test_fork_as_nobody() : test_fork();
}

/* All that is mapped from now on. The system call: a program may have been told otherwise by its C library.
 */
static void lock_the_future(size_t most)
{
    const struct rlimit limit = {most, most};

    if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0)
        test_skip("even less memory can be locked here");
    CHECK_INT(syscall(SYS_mlockall, MCL_FUTURE), 0);
}

/* Runs it as a user, in a process of its own. */
static void as_user(void (*run)(void))
{
    int pid = fork_user();

    if (pid == 0) {
        run();
        test_child_end();
    }
    test_join(pid);
}

/* At url(query): takes one connection, echoes its messages until it ends. */
static void echo(struct naru_listener *l)
{
    struct naru_channel *ch = NULL;
    char bytes[64 * 1024];
    ssize_t n;

    CHECK_INT(naru_accept(l, patience, &ch), 0);
    while ((n = naru_recv(ch, bytes, sizeof bytes, patience)) >= 0)
        CHECK_INT(naru_send(ch, bytes, (size_t)n, patience), 0);
    CHECK_INT(n, -EPIPE);
    naru_channel_close(ch);
}

static void ask(struct naru_channel *ch, size_t length)
{
    static char there[64 * 1024], back[64 * 1024];

    memset(there, 'n', length);
    CHECK_INT(naru_send(ch, there, length, patience), 0);
    CHECK_INT(naru_recv(ch, back, sizeof back, patience), length);
    CHECK(memcmp(there, back, length) == 0);
}

static void connect_locked(void)
{
    struct naru_channel *ch = NULL;
    struct test_gate listening;
    int pid;

    test_gate_init(&listening);
    pid = test_fork();
    if (pid == 0) {
        struct naru_listener *l = NULL;

        CHECK_INT(naru_listen(url(""), NULL, &l), 0);
        test_gate_open(&listening);
        echo(l);
        naru_listener_close(l);
        test_child_end();
    }
    test_gate_wait(&listening);
    lock_the_future(USUAL);
    CHECK_INT(naru_connect(url(""), NULL, patience, &ch), -ENOMEM);
    CHECK_CONTAINS(naru_explain(), "mlockall(MCL_FUTURE)");
    CHECK_CONTAINS(naru_explain(), "`ulimit -l`");
    CHECK_CONTAINS(naru_explain(), "?pool=");
    CHECK(!ch);
    /* The listener's pool is as large as usual: what is not to be received is not mapped. */
    CHECK_INT(naru_connect(url("?pool=0&max-message=64k"), NULL, patience, &ch), 0);
    ask(ch, 100);
    ask(ch, 60000);
    naru_channel_close(ch);
    test_join(pid);
}

TEST(who_connects_and_locks_its_memory_is_told_how_much_that_is)
{
    as_user(connect_locked);
}

/* The connector of a listener in this process, which waits for its answer. */
static int fork_connector(const char *to, const struct test_gate *locked)
{
    int pid = test_fork();

    if (pid == 0) {
        struct naru_channel *ch = NULL;

        test_gate_wait((struct test_gate *)(uintptr_t)locked);
        CHECK_INT(naru_connect(to, NULL, patience, &ch), 0);
        ask(ch, 100);
        naru_channel_close(ch);
        test_child_end();
    }
    return pid;
}

static void accept_locked(const char *query)
{
    struct naru_listener *l = NULL, *small = NULL;
    struct naru_channel *ch = NULL;
    struct test_gate locked;
    int pid;

    test_gate_init(&locked);
    pid = fork_connector(url(""), &locked);
    CHECK_INT(naru_listen(url(query), NULL, &l), 0);
    lock_the_future(USUAL);
    test_gate_open(&locked);
    CHECK_INT(naru_accept(l, patience, &ch), -ENOMEM);
    CHECK_CONTAINS(naru_explain(), "`ulimit -l`");
    CHECK(!ch);
    naru_listener_close(l);
    CHECK_INT(naru_listen(url("?service=manual&pool=0&max-message=64k"), NULL, &small), 0);
    echo(small); /* whom the other could not answer comes again */
    naru_listener_close(small);
    test_join(pid);
}

static void accept_locked_by_itself(void)
{
    accept_locked("?service=manual");
}

static void accept_locked_by_the_keeper(void)
{
    accept_locked("");
}

TEST(who_accepts_and_locks_its_memory_is_told)
{
    as_user(accept_locked_by_itself);
}

TEST(who_accepts_and_locks_its_memory_is_told_what_its_keeper_was_short_of)
{
    as_user(accept_locked_by_the_keeper);
}

/* A stack of at least a megabyte does not fit; without a thread none is needed. */
static void listen_locked(void)
{
    struct naru_listener *l = NULL;

    lock_the_future(MIB);
    CHECK_INT(naru_listen(url(""), NULL, &l), -ENOMEM);
    CHECK_CONTAINS(naru_explain(), "the stack of a thread");
    CHECK_CONTAINS(naru_explain(), "`ulimit -l`");
    CHECK_CONTAINS(naru_explain(), "?service=manual");
    CHECK_INT(naru_listen(url("?service=manual"), NULL, &l), 0);
    naru_listener_close(l);
}

TEST(a_keeper_whose_stack_cannot_be_locked_is_no_matter_of_how_many_threads)
{
    as_user(listen_locked);
}

static void segments_locked(void)
{
    const struct naru_segment_options mirror = {.size = sizeof mirror, .mirror = 1};
    struct naru_segment *segment = NULL;

    lock_the_future(MIB);
    CHECK_INT(naru_segment_open("memfd:", 2 * MIB, NULL, &segment), -ENOMEM);
    CHECK_CONTAINS(naru_explain(), "`ulimit -l`");
    CHECK_INT(naru_segment_open("memfd:", 2 * MIB, &mirror, &segment), -ENOMEM);
    CHECK_CONTAINS(naru_explain(), "`ulimit -l`");
    CHECK_INT(naru_segment_open(test_format("shm+sysv:0x%x", getpid()), 2 * MIB, NULL, &segment), -ENOMEM);
    CHECK_CONTAINS(naru_explain(), "`ulimit -l`");
    CHECK_INT(naru_segment_open("memfd:", 64 * 1024, NULL, &segment), 0);
    naru_segment_close(segment);
    CHECK_INT(naru_segment_remove(test_format("shm+sysv:0x%x", getpid())), -ENOENT); /* undone */
}

TEST(a_segment_that_cannot_be_locked_says_so)
{
    as_user(segments_locked);
}

/* Room for what there is and no more, then room. */
static void check_grows_or_stays(struct naru_segment *segment, const char *helps)
{
    CHECK_INT(naru_segment_resize(segment, 16 * MIB), -ENOMEM);
    CHECK_CONTAINS(naru_explain(), helps);
    CHECK_INT(naru_segment_size(segment), 64 * 1024);
    CHECK_INT(((char *)naru_segment_data(segment))[64 * 1024 - 1], 0);
    CHECK_INT(naru_segment_resize(segment, 128 * 1024), 0);
    CHECK_INT(((char *)naru_segment_data(segment))[128 * 1024 - 1], 0);
    naru_segment_close(segment);
}

static const char *const ways[] = {"memfd:", "memfd:?mirror", "memfd:?huge=try"};

enum { WAYS = sizeof ways / sizeof *ways };

static void segments_locked_that_grow(void)
{
    struct naru_segment *segments[WAYS], *before = NULL;

    CHECK_INT(naru_segment_open("memfd:", 64 * 1024, NULL, &before), 0);
    lock_the_future(USUAL);
    for (int i = 0; i < WAYS; i++) {
        segments[i] = NULL;
        CHECK_INT(naru_segment_open(ways[i], 64 * 1024, NULL, &segments[i]), 0);
        check_grows_or_stays(segments[i], "`ulimit -l`");
    }
    CHECK_INT(naru_segment_resize(before, 16 * MIB), 0); /* what was mapped before is not locked */
    naru_segment_close(before);
}

TEST(a_segment_whose_growth_cannot_be_locked_is_as_it_was)
{
    as_user(segments_locked_that_grow);
}

static size_t address_space(void)
{
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    CHECK(file && fscanf(file, "%zu", &pages) == 1);
    (void)fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

TEST(a_segment_whose_growth_has_no_addresses_is_as_it_was)
{
    struct rlimit limit = {address_space() + 10 * MIB, RLIM_INFINITY};

    CHECK_INT(setrlimit(RLIMIT_AS, &limit), 0);
    for (int i = 0; i < WAYS; i++) {
        struct naru_segment *segment = NULL;

        CHECK_INT(naru_segment_open(ways[i], 64 * 1024, NULL, &segment), 0);
        check_grows_or_stays(segment, "`ulimit -v`");
    }
}

static void named_channels_locked(void)
{
    const char *const urls[] = {test_format("shm+posix:/naru-locked-%d", getpid()),
                                test_format("shm+sysv:0x%x", getpid())};

    lock_the_future(MIB);
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        struct naru_listener *l = NULL;

        CHECK_INT(naru_listen(test_format("%s?ring=2M", urls[i]), NULL, &l), -ENOMEM);
        CHECK_CONTAINS(naru_explain(), "`ulimit -l`");
        CHECK_INT(naru_remove(urls[i]), -ENOENT); /* undone */
    }
}

TEST(a_named_channel_whose_segment_cannot_be_locked_says_so)
{
    as_user(named_channels_locked);
}

#else

TEST(memory_is_locked_where_no_sanitizer_has_most_of_it)
{
    test_skip("a sanitizer's own memory would be locked, too");
}

#endif
