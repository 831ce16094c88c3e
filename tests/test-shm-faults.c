/* SPDX-License-Identifier: MIT */
/*
 * Shared memory on a machine that refuses. Each call to the kernel, or for memory, that shm: makes from its
 * listening, connecting, accepting or pairing to its closing is made to fail once, one after the other: the
 * call of naru that needed it says so in a sentence that names the URL, or does without; the same call then
 * succeeds when it is repeated; whoever is at the other end is served; and no descriptor and no mapping is
 * left behind.
 *
 * The linker puts the functions below in the place of the C library's (ld(1), --wrap; see cmake/tests.cmake).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "killpoints.h"
#include "naru/naru.h"
#include "runner.h"

/* --- what fails --- */

/* type, name, what it returns when it fails, parameters, arguments */
#define FUNCTIONS(X)                                                                                         \
    X(void *, malloc, NULL, (size_t size), (size))                                                           \
    X(void *, calloc, NULL, (size_t count, size_t size), (count, size))                                      \
    X(char *, strdup, NULL, (const char *text), (text))                                                      \
    X(void *, mmap, MAP_FAILED, (void *at, size_t size, int protection, int flags, int fd, off_t offset),    \
      (at, size, protection, flags, fd, offset))                                                             \
    X(int, memfd_create, -1, (const char *label, unsigned flags), (label, flags))                            \
    X(int, ftruncate, -1, (int fd, off_t size), (fd, size))                                                  \
    X(int, fallocate, -1, (int fd, int mode, off_t from, off_t size), (fd, mode, from, size))                \
    X(ssize_t, pwritev, -1, (int fd, const struct iovec *parts, int count, off_t at),                        \
      (fd, parts, count, at))                                                                                \
    X(int, mkdir, -1, (const char *path, mode_t mode), (path, mode))                                         \
    X(int, chmod, -1, (const char *path, mode_t mode), (path, mode))                                         \
    X(int, fchmod, -1, (int fd, mode_t mode), (fd, mode))                                                    \
    X(int, socket, -1, (int domain, int type, int protocol), (domain, type, protocol))                       \
    X(int, socketpair, -1, (int domain, int type, int protocol, int fds[2]), (domain, type, protocol, fds))  \
    X(int, bind, -1, (int fd, const struct sockaddr *address, socklen_t length), (fd, address, length))      \
    X(int, listen, -1, (int fd, int backlog), (fd, backlog))                                                 \
    X(int, connect, -1, (int fd, const struct sockaddr *address, socklen_t length), (fd, address, length))   \
    X(int, accept4, -1, (int fd, struct sockaddr *address, socklen_t *length, int flags),                    \
      (fd, address, length, flags))                                                                          \
    X(ssize_t, sendmsg, -1, (int fd, const struct msghdr *message, int flags), (fd, message, flags))         \
    X(ssize_t, recvmsg, -1, (int fd, struct msghdr *message, int flags), (fd, message, flags))               \
    X(ssize_t, send, -1, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags))        \
    X(ssize_t, recv, -1, (int fd, void *data, size_t size, int flags), (fd, data, size, flags))              \
    X(int, getsockopt, -1, (int fd, int level, int option, void *value, socklen_t *length),                  \
      (fd, level, option, value, length))                                                                    \
    X(int, epoll_create1, -1, (int flags), (flags))                                                          \
    X(int, epoll_ctl, -1, (int fd, int operation, int watched, struct epoll_event *event),                   \
      (fd, operation, watched, event))                                                                       \
    X(int, eventfd, -1, (unsigned count, int flags), (count, flags))                                         \
    X(int, pthread_create, EAGAIN,                                                                           \
      (pthread_t * thread, const pthread_attr_t *attributes, void *(*start)(void *), void *data),            \
      (thread, attributes, start, data))                                                                     \
    X(int, timerfd_create, -1, (int clock, int flags), (clock, flags))                                       \
    X(int, ppoll, -1,                                                                                        \
      (struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask),             \
      (fds, count, timeout, mask))

enum function {
#define NUMBER(type, name, bad, parameters, arguments) F_##name,
    FUNCTIONS(NUMBER) F_madvise,
    F_open,
    F_fcntl,
    F_asprintf
};

static struct {
    enum function function;
    int error;
    atomic_long calls_left; /* that succeed; below 0: it has failed, or none shall */
} fault = {.calls_left = -1};

static bool fails(enum function function)
{
    if (atomic_load(&fault.calls_left) < 0 || fault.function != function ||
        atomic_fetch_sub(&fault.calls_left, 1) != 0)
        return false;
    errno = fault.error;
    return true;
}

#define STAND_IN(type, name, bad, parameters, arguments)                                                     \
    type __real_##name parameters;                                                                           \
    type __wrap_##name parameters;                                                                           \
    type __wrap_##name parameters                                                                            \
    {                                                                                                        \
        return fails(F_##name) ? (bad) : __real_##name arguments;                                            \
    }
FUNCTIONS(STAND_IN)

int __real_madvise(void *at, size_t size, int advice);
int __wrap_madvise(void *at, size_t size, int advice);
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_asprintf(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Of no bytes, it asks whether the kernel knows the advice, which is not something that comes and goes. */
int __wrap_madvise(void *at, size_t size, int advice)
{
    return size > 0 && fails(F_madvise) ? -1 : __real_madvise(at, size, advice);
}

int __wrap_open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list arguments;

    if (flags & (O_CREAT | __O_TMPFILE)) {
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    return fails(F_open) ? -1 : __real_open(path, flags, mode);
}

int __wrap_fcntl(int fd, int command, ...)
{
    va_list arguments;
    void *argument; /* an int or a pointer, both of which pass through it */

    va_start(arguments, command);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    return fails(F_fcntl) ? -1 : __real_fcntl(fd, command, argument);
}

int __wrap_asprintf(char **ret, const char *format, ...)
{
    va_list arguments;
    int length;

    if (fails(F_asprintf))
        return -1;
    va_start(arguments, format);
    length = vasprintf(ret, format, arguments);
    va_end(arguments);
    return length;
}

/* What may become of it, besides success and the error itself; 0: nothing else. */
static const struct refusal {
    const char *name;
    enum function function;
    int error, becomes;
} refusals[] = {
    {"malloc", F_malloc, ENOMEM, 0},
    {"calloc", F_calloc, ENOMEM, 0},
    {"strdup", F_strdup, ENOMEM, 0},
    {"asprintf", F_asprintf, ENOMEM, 0},
    {"mmap", F_mmap, ENOMEM, 0},
    {"madvise", F_madvise, ENOMEM, 0},
    {"memfd_create EMFILE", F_memfd_create, EMFILE, 0},
    {"memfd_create ENOSYS", F_memfd_create, ENOSYS, 0},
    {"memfd_create EPERM", F_memfd_create, EPERM, 0},
    {"ftruncate", F_ftruncate, ENOMEM, 0},
    {"pwritev ENOSPC", F_pwritev, ENOSPC, 0},
    {"pwritev ENOMEM", F_pwritev, ENOMEM, 0},
    {"pwritev EINTR", F_pwritev, EINTR, 0},
    {"fallocate ENOSPC", F_fallocate, ENOSPC, 0},
    {"fallocate ENOMEM", F_fallocate, ENOMEM, 0},
    {"fallocate EINTR", F_fallocate, EINTR, 0},
    {"chmod", F_chmod, EPERM, 0},
    {"mkdir", F_mkdir, ENOSPC, 0},
    {"fchmod", F_fchmod, EPERM, 0},
    {"socket", F_socket, ENFILE, 0},
    {"socketpair", F_socketpair, EMFILE, 0},
    {"bind", F_bind, ENOMEM, 0},
    {"listen", F_listen, ENOMEM, 0},
    {"connect", F_connect, ENOMEM, 0},
    {"pthread_create", F_pthread_create, EAGAIN, 0},
    {"accept4 EMFILE", F_accept4, EMFILE, 0},
    {"accept4 ENOMEM", F_accept4, ENOMEM, 0},
    {"accept4 ECONNABORTED", F_accept4, ECONNABORTED, 0},
    {"sendmsg ENOBUFS", F_sendmsg, ENOBUFS, ENOMEM},
    {"sendmsg ETOOMANYREFS", F_sendmsg, ETOOMANYREFS, EMFILE},
    {"recvmsg", F_recvmsg, ENOMEM, 0},
    {"send", F_send, ENOBUFS, 0},
    {"recv EINTR", F_recv, EINTR, 0},
    {"getsockopt", F_getsockopt, ENOMEM, EACCES},
    {"epoll_create1", F_epoll_create1, EMFILE, 0},
    {"epoll_ctl ENOMEM", F_epoll_ctl, ENOMEM, 0},
    {"epoll_ctl ENOSPC", F_epoll_ctl, ENOSPC, 0},
    {"eventfd", F_eventfd, EMFILE, 0},
    {"timerfd_create", F_timerfd_create, EMFILE, 0},
    {"ppoll", F_ppoll, ENOMEM, 0},
    {"open", F_open, ENFILE, 0},
    {"fcntl EPERM", F_fcntl, EPERM, 0},
    {"fcntl EINVAL", F_fcntl, EINVAL, EPROTO},
};

/* --- what is done meanwhile --- */

enum { SMALL = 100, LARGE = 10000, CALLS_MAX = 500 };

#define QUERY "?ring=4k&pool=64k&wait=sleep"

static const int64_t patience = NARU_S(60);
static const struct refusal *refusal;
static char buffer[LARGE];

static bool has_failed(void)
{
    return atomic_load(&fault.calls_left) < 0;
}

/* Whether the call is to be made again: it failed, as it had to. It may fail for that reason once. */
static bool is_refused(const char *call, long long r)
{
    static _Thread_local bool refused;

    if (r >= 0 || r == -EAGAIN) {
        refused = false;
        return false;
    }
    if (refused || !has_failed() || (r != -refusal->error && r != -refusal->becomes))
        test_fail(__FILE__, __LINE__, "%s: %s: %lld: %s", refusal->name, call, r, naru_explain());
    CHECK_CONTAINS(naru_explain(), "shm:");
    refused = true;
    return true;
}

#define REPEAT(r, call)                                                                                      \
    do                                                                                                       \
        (r) = (call);                                                                                        \
    while (is_refused(#call, r))

/* One end, which answers whatever it gets with the same; or NULL, if another process does. */
static void answer(struct naru_channel *far)
{
    static char echo[LARGE];
    long long n, r;

    if (!far)
        return;
    REPEAT(n, naru_recv(far, echo, sizeof echo, patience));
    REPEAT(r, naru_send(far, echo, (size_t)n, patience));
}

static void copies(struct naru_channel *ch, struct naru_channel *far, size_t length)
{
    long long r;

    REPEAT(r, naru_send(ch, buffer, length, patience));
    answer(far);
    REPEAT(r, naru_recv(ch, buffer, sizeof buffer, patience));
    CHECK_INT(r, length);
}

static void loans(struct naru_channel *ch, struct naru_channel *far, size_t length)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    struct naru_view view = NARU_INIT(struct naru_view);
    long long r;

    REPEAT(r, naru_loan(ch, length, patience, &loan));
    memset(loan.data, 'x', length);
    REPEAT(r, naru_commit(&loan, length, NULL));
    answer(far);
    REPEAT(r, naru_borrow(ch, patience, &view));
    CHECK_INT(view.length, length);
    naru_release(&view);
}

static void loops(struct naru_channel *ch, struct naru_channel *far)
{
    struct pollfd ready = {.events = POLLIN};
    long long r;

    REPEAT(r, naru_channel_fd(ch));
    ready.fd = (int)r;
    REPEAT(r, naru_send(ch, buffer, SMALL, NARU_NOWAIT));
    CHECK_INT(r, 0);
    answer(far);
    do {
        CHECK(poll(&ready, 1, 60000) == 1);
        REPEAT(r, naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT));
    } while (r == -EAGAIN);
    CHECK_INT(r, SMALL);
}

/* Everything. */
static void use(struct naru_channel *ch, struct naru_channel *far)
{
    long long r;

    copies(ch, far, SMALL);
    copies(ch, far, LARGE);
    loans(ch, far, SMALL);
    loans(ch, far, LARGE);
    loops(ch, far);
    copies(ch, far, LARGE);
    REPEAT(r, naru_flush(ch, NARU_TAKEN, patience));
}

static void make_pair(const char *url, const struct naru_options *options)
{
    struct naru_channel *ch[2] = {NULL, NULL};
    long long r;

    (void)url;
    REPEAT(r, naru_channel_pair("shm:" QUERY, options, ch));
    use(ch[0], ch[1]);
    for (int i = 0; i < 2; i++)
        CHECK(!naru_channel_close(ch[i]));
}

static void serve(const char *url, const struct naru_options *options)
{
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;
    long long r;

    REPEAT(r, naru_listen(url, options, &l));
    if (r == -EAGAIN) { /* which elsewhere is no refusal */
        CHECK_INT(refusal->function, F_pthread_create);
        CHECK_CONTAINS(naru_explain(), "?service=manual");
        REPEAT(r, naru_listen(url, options, &l));
    }
    CHECK_INT(r, 0);
    REPEAT(r, naru_accept(l, patience, &ch));
    CHECK_INT(r, 0);
    use(ch, NULL);
    CHECK(!naru_channel_close(ch));
    CHECK(!naru_listener_close(l));
}

static void serve_without_a_keeper(const char *url, const struct naru_options *options)
{
    struct naru_options manual = *options;

    manual.service = NARU_SERVICE_MANUAL;
    serve(url, &manual);
}

static void come(const char *url, const struct naru_options *options)
{
    struct naru_channel *ch = NULL;
    long long r;

    REPEAT(r, naru_connect(url, options, patience, &ch));
    use(ch, NULL);
    CHECK(!naru_channel_close(ch));
}

/* In an event loop. A meeting that has failed has failed for good: the next attempt is another one. */
static void come_without_waiting(const char *url, const struct naru_options *options)
{
    struct naru_channel *ch = NULL;
    struct pollfd ready = {.events = POLLIN};
    long long r;

    do {
        ch = naru_channel_close(ch);
        REPEAT(r, naru_connect(url, options, NARU_NOWAIT, &ch));
        if (r < 0) /* nobody is there, or the queue is full */
            continue;
        REPEAT(r, naru_channel_fd(ch));
        ready.fd = (int)r;
        while ((r = naru_flush(ch, NARU_SENT, NARU_NOWAIT)) == -EAGAIN)
            CHECK(poll(&ready, 1, 60000) == 1);
    } while (is_refused("flush", r) || r < 0);
    use(ch, NULL);
    CHECK(!naru_channel_close(ch));
}

/* --- the other end, in another process --- */

/* Until the end. Whether it came as it should. */
static void echo_until_end(struct naru_channel *ch)
{
    ssize_t n;

    while ((n = naru_recv(ch, buffer, sizeof buffer, NARU_FOREVER)) >= 0)
        if (naru_send(ch, buffer, (size_t)n, NARU_FOREVER) < 0)
            break;
    CHECK(!naru_channel_close(ch));
}

static int fork_server(const char *url)
{
    struct test_gate listening;
    int pid;

    test_gate_init(&listening);
    pid = test_fork();
    if (pid == 0) {
        struct naru_listener *l;
        struct naru_channel *ch;

        CHECK_INT(naru_listen(url, NULL, &l), 0);
        test_gate_open(&listening);
        while (naru_accept(l, NARU_FOREVER, &ch) == 0)
            echo_until_end(ch);
        test_fail(__FILE__, __LINE__, "accept: %s", naru_explain());
    }
    test_gate_wait(&listening);
    return pid;
}

static int fork_client(const char *url)
{
    int pid = test_fork();

    if (pid == 0)
        for (;;) {
            struct naru_channel *ch;
            int r = naru_connect(url, NULL, NARU_FOREVER, &ch);

            /* It may be told of what was refused. And listeners of one process come and go here: three
             * hang-ups in a row, of some that end and some that are refused its HELLO, are those of none of
             * shm:. */
            if (r == 0)
                echo_until_end(ch);
            else if (r != -refusal->becomes && r != -EPROTO)
                test_fail(__FILE__, __LINE__, "connect: %d: %s", r, naru_explain());
        }
    return pid;
}

/* --- the sweep --- */

static const struct scenario {
    const char *name;
    void (*run)(const char *url, const struct naru_options *options);
    int (*fork_other)(const char *url);
    bool interruptible;
} scenarios[] = {{"of a pair", make_pair, NULL, false},
                 {"of a pair that can be interrupted", make_pair, NULL, true},
                 {"of a listener", serve, fork_client, false},
                 {"of a listener that can be interrupted", serve, fork_client, true},
                 {"of a listener without a keeper", serve_without_a_keeper, fork_client, false},
                 {"of who connects", come, fork_server, false},
                 {"of who connects without waiting", come_without_waiting, fork_server, false},
                 {"of who connects and can be interrupted", come, fork_server, true}};

enum { SCENARIOS = sizeof scenarios / sizeof *scenarios, REFUSALS = sizeof refusals / sizeof *refusals };

static const char *each_refusal(size_t index)
{
    return index < (size_t)SCENARIOS * REFUSALS
               ? test_format("%s, %s", refusals[index / SCENARIOS].name, scenarios[index % SCENARIOS].name)
               : NULL;
}

static size_t count_mappings(void)
{
    char line[512];
    size_t count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");

    CHECK(maps);
    while (fgets(line, sizeof line, maps))
        count += strstr(line, "memfd:naru") != NULL;
    CHECK(fclose(maps) == 0);
    return count;
}

TEST_EACH(every_call_may_fail, each_refusal)
{
    const struct scenario *scenario = &scenarios[index % SCENARIOS];
    struct naru_options options = NARU_INIT(struct naru_options);
    const char *url = "shm://faults" QUERY;
    bool reached = true;
    long calls = -1;
    int other;

    refusal = &refusals[index / SCENARIOS];
    other = scenario->fork_other ? scenario->fork_other(url) : 0;
    options.interruptible = scenario->interruptible;
    scenario->run(url, &options); /* what is made once, and kept */
    for (; reached && calls < CALLS_MAX; calls++) {
        size_t descriptors = kill_count_descriptors();

        fault.function = refusal->function;
        fault.error = refusal->error;
        atomic_store(&fault.calls_left, calls + 1);
        scenario->run(url, &options);
        reached = has_failed();
        atomic_store(&fault.calls_left, -1);
        WAIT_UNTIL(kill_count_descriptors() ==
                   descriptors); /* a thread may close what came: base/discard.h */
        CHECK_INT(count_mappings(), 0);
    }
    CHECK(calls < CALLS_MAX);
    test_note("%ld calls", calls);
    if (!other)
        return;
    test_kill(other);
    if (scenario->fork_other == fork_server)
        CHECK_INT(naru_remove(url), 0);
}
