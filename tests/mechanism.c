/* SPDX-License-Identifier: MIT */
/* The conformance suite's list of variants, and how their two ends are opened. */
#include "mechanism.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const struct variant variants[] = {
    {"pipe", "len32", "pipe:", PAIRED},
    {"pipe", "line", "pipe:?frame=line", PAIRED | TEXT},
    {"pipe", "header, no read-ahead", "pipe:?frame=header&read-ahead=no", PAIRED},
    {"fifo", "len32", "fifo://%d/fifo%n", MEETING | HAS_MODE | HAS_NAME},
    {"fifo", "nul, read-ahead", "fifo://%d/fifo%n?frame=nul&read-ahead=yes",
     MEETING | TEXT | HAS_MODE | HAS_NAME},
    {"unix-stream", "pair", "unix:?type=stream", PAIRED},
    {"unix-stream", "path", "unix://%d/sock%n", HAS_MODE | HAS_NAME},
    {"unix-stream", "abstract, varint", "unix:@naru%d-%n?frame=varint", 0},
    {"unix-stream", "path, nul, no read-ahead", "unix://%d/sock%n?frame=nul&read-ahead=no",
     TEXT | HAS_MODE | HAS_NAME},
    {"unix-seqpacket", "pair", "unix:?type=seqpacket", PAIRED},
    {"unix-seqpacket", "path", "unix://%d/sock%n?type=seqpacket", HAS_MODE | HAS_NAME},
    {"unix-seqpacket", "abstract", "unix:@naru%d-%n?type=seqpacket", 0},
    {"unix-dgram", "pair", "unix:?type=dgram", PAIRED},
    {"unix-dgram", "path", "unix://%d/sock%n?type=dgram", HAS_MODE | HAS_NAME},
    {"unix-dgram", "abstract", "unix:@naru%d-%n?type=dgram", 0},
    {"tcp", "v4", "tcp://127.0.0.1:0", LOSSY},
    {"tcp", "v6, line", "tcp://[::1]:0?frame=line", TEXT | LOSSY},
    {"tcp", "v4, header", "tcp://127.0.0.1:0?frame=header", LOSSY},
    {"udp", "v4", "udp://127.0.0.1:0", 0},
    {"udp", "v6", "udp://[::1]:0", 0},
    {"sysvmq", "key", "sysvmq:0x4e00%n", HAS_MODE | HAS_NAME},
    {"posixmq", "name", "posixmq:/naru-%n", HAS_MODE | HAS_NAME},
    {"shm", "pair", "shm:", PAIRED},
    {"shm", "pair, small ring, sleeping", "shm:?ring=16k&wait=sleep", PAIRED},
    {"shm", "lanes", "shm:?lanes=8&ring=16k", PAIRED},
    {"shm", "name, lanes, sleeping", "shm://lanes-%n?lanes=8&ring=16k&wait=sleep", MEETING | OWN | HAS_NAME},
    {"shm", "name", "shm://test-%n", OWN | HAS_NAME},
    {"shm", "path, sleeping", "shm://%d/shm%n?wait=sleep", HAS_MODE | HAS_NAME},
    {"shm", "path, no keeper", "shm://%d/shm%n?service=manual", MEETING | HAS_MODE | HAS_NAME},
    {"shm", "abstract", "shm:@naru%d-%n?allow-uid=%u,65534", 0},
    {"shm+posix", "name", "shm+posix:/naru-test-%n", ONE_WAITS | HAS_MODE | HAS_NAME},
    {"shm+posix", "small ring, sleeping", "shm+posix:/naru-test-%n?ring=16k&wait=sleep",
     ONE_WAITS | HAS_MODE | HAS_NAME},
    {"shm+sysv", "key", "shm+sysv:0x4e01%n", ONE_WAITS | HAS_MODE | HAS_NAME},
    {"shm+sysv", "small ring, sleeping", "shm+sysv:0x4e01%n?ring=16k&wait=sleep",
     ONE_WAITS | HAS_MODE | HAS_NAME},
    {"file", "line", "file://%d/file%n", TEXT | HAS_MODE | HAS_NAME},
    {"file", "len32", "file://%d/file%n?frame=len32", HAS_MODE | HAS_NAME},
    {"fd", "socketpair", "fd:%n", PAIRED | GIVEN | TEXT},
    {"fd", "socketpair, len32", "fd:%n?frame=len32", PAIRED | GIVEN},
    {"signal", "SIGRTMIN+1", "signal:?sig=RTMIN+1", FIXED | PROCESS | ROOM_UNTOLD},
};

/* Rows whose far end cannot be any process's, and that have a file of their own instead. */
static const char *const elsewhere[] = {"exec", "stdio"};

enum { ELSEWHERE = sizeof elsewhere / sizeof *elsewhere };
enum { VARIANTS = sizeof variants / sizeof *variants, CASES_MAX = 128 };

static struct variant cases[CASES_MAX];
static size_t case_count;

static void add_cases(const struct naru_mechanism *row)
{
    size_t before = case_count;

    for (size_t i = 0; i < ELSEWHERE; i++)
        if (strcmp(elsewhere[i], row->name) == 0)
            return;
    for (size_t i = 0; i < VARIANTS; i++)
        if (strcmp(variants[i].row, row->name) == 0)
            cases[case_count++] = variants[i];
    if (case_count == before)
        cases[case_count++] = (struct variant){row->name, "unknown to this suite", NULL, 0};
}

static void make_cases(void)
{
    const struct naru_mechanism *row = NULL;

    if (case_count == 0)
        while ((row = naru_mechanism_next(row)))
            add_cases(row);
}

const char *each_variant(size_t index)
{
    static char name[128];

    make_cases();
    if (index >= case_count)
        return NULL;
    snprintf(name, sizeof name, "%s %s", cases[index].row, cases[index].label);
    return name;
}

const struct variant *variant_at(size_t index)
{
    make_cases();
    return &cases[index];
}

long long check_ok(const char *file, int line, const char *expression, long long result)
{
    if (result < 0)
        test_fail(file, line, "%s is %lld: %s", expression, result, naru_explain());
    return result;
}

/* The URL with its placeholders filled in, and a query added. */
static const char *make_url(const struct variant *variant, const char *query)
{
    static unsigned links;
    char text[512] = "";
    size_t used = 0;

    links++;
    for (const char *at = variant->url; *at; at++) {
        size_t room = sizeof text - used;
        int n;

        if (at[0] == '%' && at[1] == 'd')
            n = snprintf(text + used, room, "%s", test_directory());
        else if (at[0] == '%' && at[1] == 'n')
            n = snprintf(text + used, room, "%02u", links % 100);
        else if (at[0] == '%' && at[1] == 'u')
            n = snprintf(text + used, room, "%u", (unsigned)getuid());
        else
            n = snprintf(text + used, room, "%c", *at);
        used += (size_t)n;
        at += *at == '%';
    }
    if (query && *query)
        snprintf(text + used, sizeof text - used, "%s%s", strchr(text, '?') ? "&" : "?", query);
    return test_format("%s", text);
}

/* A queue of signals is as long as the receiver's limit, which may be 100,000, and taking one from a queue
 * that long is slow; the count is of all the user's processes, so it must not be very small. */
static void limit_signals(void)
{
    struct rlimit limit;

    CHECK(getrlimit(RLIMIT_SIGPENDING, &limit) == 0);
    if (limit.rlim_max > 5000)
        limit.rlim_cur = 5000;
    CHECK(setrlimit(RLIMIT_SIGPENDING, &limit) == 0);
}

/* That queue is all processes' of the user, and one that a test fills is full for another that runs beside
 * it: one at a time has a channel of signals. The lock is this process's alone (fcntl(2)), not its
 * children's. */
static int lock_signals(void)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(test_format("/tmp/naru-test-signals-%u.lock", (unsigned)geteuid()),
                  O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    CHECK(fd >= 0);
    while (fcntl(fd, F_SETLKW, &whole) < 0)
        CHECK_INT(errno, EINTR);
    return fd;
}

void link_open_with(struct link *link, size_t index, const struct naru_options *options, const char *query)
{
    const struct naru_options none = NARU_INIT(struct naru_options);

    *link = (struct link){.variant = variant_at(index),
                          .options = options ? *options : none,
                          .signals_fd = -1,
                          .given = {-1, -1}};
    if (!link->variant->url)
        test_fail(__FILE__, __LINE__, "mechanism %s has no variant in tests/mechanism.c", link->variant->row);
    link->row = naru_mechanism_find(link->variant->row);
    CHECK(link->row != NULL);
    link->url = make_url(link->variant, query);
    if (link->variant->traits & GIVEN) {
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, link->given) == 0);
        return;
    }
    if (link->variant->traits & PAIRED) {
        CHECK_OK(naru_channel_pair(link->url, &link->options, link->pair));
        return;
    }
    if (link->variant->traits & PROCESS) {
        link->signals_fd = lock_signals();
        limit_signals();
    }
    CHECK_OK(naru_listen(link->url, &link->options, &link->listener));
    link->url = test_format("%s", naru_listener_url(link->listener));
    link->opened = true;
}

void link_open(struct link *link, size_t index, const struct naru_options *options)
{
    link_open_with(link, index, options, NULL);
}

bool link_can(const struct link *link, uint32_t capability)
{
    return (link->row->capabilities & capability) == capability;
}

bool link_knows_death(const struct link *link)
{
    return link_can(link, NARU_CAN_KNOW_DEATH) && !(link->variant->traits & PAIRED);
}

static void *connect_thread(void *argument)
{
    struct link *link = argument;
    struct naru_channel *ch;

    CHECK_OK(naru_connect(link->url, &link->options, NARU_S(WAIT_LONG_S), &ch));
    return ch;
}

/* Makes a channel of an inherited descriptor, which it duplicates. */
static struct naru_channel *open_given(struct link *link, int end)
{
    const char *query = strchr(link->url, '?');
    struct naru_channel *ch;

    CHECK_OK(naru_connect(test_format("fd:%d%s", link->given[end], query ? query : ""), &link->options,
                          NARU_NOWAIT, &ch));
    close(link->given[end]);
    link->given[end] = -1;
    return ch;
}

void link_both(struct link *link, struct naru_channel **ret_far, struct naru_channel **ret_near)
{
    pthread_t thread;
    void *far;

    if (link->variant->traits & GIVEN) {
        *ret_far = open_given(link, 0);
        *ret_near = open_given(link, 1);
        return;
    }
    if (link->variant->traits & PAIRED) {
        *ret_far = link->pair[0];
        *ret_near = link->pair[1];
        link->pair[0] = link->pair[1] = NULL;
        return;
    }
    /* Either may have to wait for the other. */
    CHECK_INT(pthread_create(&thread, NULL, connect_thread, link), 0);
    CHECK_OK(naru_accept(link->listener, NARU_S(WAIT_LONG_S), ret_near));
    CHECK_INT(pthread_join(thread, &far), 0);
    *ret_far = far;
}

void link_leave(struct link *link)
{
    for (int i = 0; i < 2; i++) {
        link->pair[i] = naru_channel_close(link->pair[i]);
        if (link->given[i] >= 0)
            close(link->given[i]);
        link->given[i] = -1;
    }
}

static struct naru_channel *take_pair_end(struct link *link, int end)
{
    struct naru_channel *ch = link->pair[end];

    if (link->variant->traits & GIVEN) {
        ch = open_given(link, end);
        link_leave(link);
        return ch;
    }
    naru_channel_close(link->pair[!end]);
    link->pair[0] = link->pair[1] = NULL;
    return ch;
}

struct naru_channel *link_far(struct link *link)
{
    if (link->variant->traits & PAIRED)
        return take_pair_end(link, 0);
    link->listener = naru_listener_close(link->listener);
    link->opened = false; /* it is the listener's process that removes it */
    return connect_thread(link);
}

struct naru_channel *link_near(struct link *link)
{
    struct naru_channel *ch;

    if (link->variant->traits & PAIRED)
        return take_pair_end(link, 1);
    CHECK_OK(naru_accept(link->listener, NARU_S(WAIT_LONG_S), &ch));
    return ch;
}

void link_close(struct link *link)
{
    link_leave(link);
    link->listener = naru_listener_close(link->listener);
    if (link->opened && (link->variant->traits & HAS_NAME)) {
        int r = naru_remove(link->url);

        if (r != -ENOENT)
            CHECK_OK(r);
    }
    link->opened = false;
    if (link->signals_fd >= 0)
        close(link->signals_fd);
    link->signals_fd = -1;
}

/* --- messages --- */

size_t message_size(const struct link *link, uint64_t number)
{
    static const size_t sizes[] = {16, 8, 33, 100, 9, 250, 64, 1000, 12, 511, 2048, 17, MESSAGE_MAX};

    if (link->variant->traits & FIXED)
        return 4;
    return sizes[number % (sizeof sizes / sizeof *sizes)];
}

void message_make(const struct link *link, uint64_t number, void *buffer, size_t length)
{
    bool text = link->variant->traits & TEXT;
    uint64_t state = number * 0x9e3779b97f4a7c15u + length;
    uint8_t *bytes = buffer;
    char head[17];

    if (link->variant->traits & FIXED) {
        int32_t value = (int32_t)number;

        memcpy(buffer, &value, length < sizeof value ? length : sizeof value);
        return;
    }
    for (size_t i = 0; i < length; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = text ? (uint8_t)(' ' + (state >> 33) % 90) : (uint8_t)(state >> 33);
    }
    if (length < 8)
        return;
    snprintf(head, sizeof head, "%08llu", (unsigned long long)number % 100000000u);
    memcpy(buffer, head, 8);
}

long long message_number(const struct link *link, const void *data, size_t length)
{
    char head[9] = "";
    int32_t value;

    if (length < 4 || (length < 8 && !(link->variant->traits & FIXED)))
        return -1;
    memcpy(&value, data, sizeof value);
    memcpy(head, data, length < 8 ? length : 8);
    return link->variant->traits & FIXED ? value : atoll(head);
}

void message_check(const char *file, int line, const struct link *link, uint64_t number, const void *data,
                   long long length)
{
    uint8_t *expected;
    size_t size = message_size(link, number);

    if (length < 0)
        test_fail(file, line, "message %llu: %lld: %s", (unsigned long long)number, length, naru_explain());
    if ((size_t)length != size)
        test_fail(file, line, "message %llu has %lld bytes, expected %zu (it may be number %lld)",
                  (unsigned long long)number, length, size, message_number(link, data, (size_t)length));
    expected = malloc(size + 1);
    CHECK(expected != NULL);
    message_make(link, number, expected, size);
    if (memcmp(expected, data, size) != 0)
        test_fail(file, line, "message %llu differs from what was sent (it may be number %lld)",
                  (unsigned long long)number, message_number(link, data, size));
    free(expected);
}

void put(const char *file, int line, const struct link *link, struct naru_channel *ch, uint64_t number)
{
    uint8_t buffer[MESSAGE_MAX];
    size_t size = message_size(link, number);

    message_make(link, number, buffer, size);
    check_ok(file, line, "naru_send", naru_send(ch, buffer, size, NARU_S(WAIT_LONG_S)));
}

void take(const char *file, int line, const struct link *link, struct naru_channel *ch, uint64_t number)
{
    uint8_t buffer[MESSAGE_MAX];

    message_check(file, line, link, number, buffer,
                  naru_recv(ch, buffer, sizeof buffer, NARU_S(WAIT_LONG_S)));
}

/* All processes of a user share one queue of signals, which is full for a receiver at its own limit
 * (RLIMIT_SIGPENDING): lower that of the receiver here, or other tests would find the queue full, too. */
static void lower_signal_limit(struct naru_channel *ch)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    struct naru_signal_sets sets = NARU_INIT(struct naru_signal_sets);
    struct rlimit limit;

    CHECK_OK(naru_channel_info(ch, &info));
    CHECK_OK(naru_signal_sets(info.peer.pid, &sets));
    CHECK_OK(prlimit((pid_t)info.peer.pid, RLIMIT_SIGPENDING, NULL, &limit));
    if (limit.rlim_cur > sets.queued + 5000)
        limit.rlim_cur = sets.queued + 5000;
    CHECK_OK(prlimit((pid_t)info.peer.pid, RLIMIT_SIGPENDING, &limit, NULL));
}

uint64_t fill(const struct link *link, struct naru_channel *ch, uint64_t first)
{
    uint8_t buffer[MESSAGE_MAX];
    uint64_t count = 0;

    if (strcmp(link->variant->row, "signal") == 0)
        lower_signal_limit(ch);
    for (;; count++) {
        size_t size = message_size(link, first + count);
        int r;

        message_make(link, first + count, buffer, size);
        r = naru_send(ch, buffer, size, NARU_NOWAIT);
        if (r == -EAGAIN)
            return count;
        if (r != -EINPROGRESS)
            CHECK_OK(r);
        CHECK(count < FILL_MAX);
    }
}

uint64_t fill_patiently(const struct link *link, struct naru_channel *ch)
{
    uint8_t buffer[MESSAGE_MAX];
    uint64_t accepted = 0;

    for (;;) {
        size_t size;
        int64_t start;
        int r;

        accepted += fill(link, ch, accepted);
        size = message_size(link, accepted);
        message_make(link, accepted, buffer, size);
        start = now_ns();
        r = naru_send(ch, buffer, size, NARU_MS(30));
        if (r == -ETIMEDOUT) {
            CHECK(now_ns() - start >= NARU_MS(30));
            return accepted;
        }
        CHECK(r == 0 || r == -EINPROGRESS);
        accepted++;
    }
}

void drain(const struct link *link, struct naru_channel *far, struct naru_channel *near, uint64_t from,
           uint64_t to)
{
    for (; from < to; from++) {
        int r = naru_flush(far, NARU_SENT, NARU_NOWAIT);

        CHECK(r == 0 || r == -EAGAIN);
        TAKE(link, near, from);
    }
}

uint64_t link_window(const struct link *link)
{
    return link_can(link, NARU_CAN_BE_RELIABLE) ? UINT64_MAX : 8;
}

bool says_gone(const struct link *link, long long result)
{
    return result == -EPIPE || result == -EOWNERDEAD ||
           (result == -ECONNRESET && (link->variant->traits & LOSSY));
}

/* --- processes and time --- */

int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void kill_unreaped(int pid)
{
    siginfo_t info;

    CHECK(kill(pid, SIGKILL) == 0);
    while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0)
        CHECK(errno == EINTR);
}
