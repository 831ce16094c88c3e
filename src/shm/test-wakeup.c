/* SPDX-License-Identifier: MIT */
/*
 * Sleeping and waking between two processes. A wake-up that is lost shows as a test that never ends: nothing
 * here sleeps with a limit of its own.
 */
#include "shm/wakeup.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "runner-syscalls.h"
#include "runner.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { ROUNDS = 3000 };
#else
enum { ROUNDS = 10000 };
#endif

/* What one side writes and the other reads. */
struct words {
    _Alignas(SHM_LINE) _Atomic uint32_t ticket;
    _Alignas(SHM_LINE) _Atomic uint32_t fences;
    _Alignas(SHM_LINE) _Atomic uint64_t published;
};

struct side {
    struct words *own, *theirs;
    struct waker waker;
    struct sleeper sleeper;
    int epoll; /* of its loop */
};

/* A side of two that share memory and a socket pair; fds[which] is its own. */
static struct side make_side(struct words *words, const int *fds, int which)
{
    return (struct side){
        .own = &words[which],
        .theirs = &words[!which],
        .waker = {.ticket = &words[!which].ticket,
                  .fences = wakeup_register() ? 0 : WAKER_ALWAYS,
                  .says = &words[which].fences,
                  .fd = fds[which],
                  .loop_fd = -1},
        .sleeper = {.ticket = &words[which].ticket, .fenced = &words[!which].fences, .fd = fds[which]}};
}

static void make_sockets(int fds[2])
{
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

static void publish(struct side *side, uint64_t round)
{
    atomic_store_explicit(&side->own->published, round, memory_order_release);
    waker_published(&side->waker);
}

static bool look(const struct side *side, uint64_t round)
{
    return atomic_load_explicit(&side->theirs->published, memory_order_acquire) >= round;
}

/* As a blocked call waits: a few looks, so that the two meet at every point of the protocol. */
static void await_sleeping(struct side *side, uint64_t round)
{
    for (uint64_t looks = test_random() % 200; looks > 0; looks--)
        if (look(side, round))
            return;
    while (!look(side, round)) {
        int r = 0;

        sleeper_arm(&side->sleeper);
        if (!look(side, round))
            r = sleeper_sleep(&side->sleeper);
        sleeper_disarm(&side->sleeper);
        CHECK(r == 0 || r == -EINTR);
    }
}

/* As an event loop waits: a ticket stands until it is rung for, over many rounds. */
static void await_polling(struct side *side, uint64_t round)
{
    struct pollfd bell = {.fd = side->sleeper.fd, .events = POLLIN};

    while (!look(side, round)) {
        CHECK(sleeper_take(&side->sleeper) != 1);
        if (!sleeper_is_armed(&side->sleeper)) {
            sleeper_arm(&side->sleeper);
            sleeper_settle(&side->sleeper);
        }
        if (!look(side, round))
            CHECK_INT(fd_poll(&bell, 1, NARU_FOREVER), 1);
    }
}

/* As the epoll of a channel waits: it shows each ring once, and nobody reads what rang. */
static void await_in_loop(struct side *side, uint64_t round)
{
    struct epoll_event event;

    while (!look(side, round)) {
        if (!sleeper_is_armed(&side->sleeper)) {
            sleeper_arm_for_loop(&side->sleeper);
            sleeper_settle(&side->sleeper);
        }
        if (look(side, round))
            break;
        CHECK_INT(epoll_wait(side->epoll, &event, 1, -1), 1);
        sleeper_disarm(&side->sleeper);
        if (event.data.fd == side->sleeper.fd)
            CHECK_INT(sleeper_take(&side->sleeper), 0);
    }
}

/* `first` publishes a round, the other answers it. */
static void play(struct side *side, bool first, void (*await)(struct side *, uint64_t))
{

    for (uint64_t round = 1; round <= ROUNDS; round++) {
        if (first)
            publish(side, round);
        await(side, round);
        if (!first)
            publish(side, round);
    }
}

enum {
    REFUSED_HERE = 1,
    REFUSED_THERE = 2,
    POLLING_HERE = 4,
    POLLING_THERE = 8,
    LOOP_HERE = 16,
    LOOP_THERE = 32,
    NO_LOOP_BELL = 64 /* is rung, though the sleepers have one */
};

/* One for each side. */
static void make_loop_bells(int bells[2])
{
    for (int i = 0; i < 2; i++) {
        bells[i] = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
        CHECK(bells[i] >= 0 && eventfd_write(bells[i], UINT64_C(1) << 62) == 0);
    }
}

static int make_epoll(int socket, int loop_bell)
{
    struct epoll_event byte = {.events = EPOLLIN | EPOLLET, .data.fd = socket};
    struct epoll_event room = {.events = EPOLLOUT | EPOLLET, .data.fd = loop_bell};
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    CHECK(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &byte) == 0 &&
          epoll_ctl(epoll, EPOLL_CTL_ADD, loop_bell, &room) == 0);
    return epoll;
}

static void play_between_processes(unsigned how)
{
    struct words *words = test_shared(2 * sizeof *words);
    struct side side;
    int fds[2], bells[2], pid;

    make_sockets(fds);
    make_loop_bells(bells);
    pid = test_fork();
    if (how & (pid ? REFUSED_HERE : REFUSED_THERE))
        test_refuse_call(SYS_membarrier, EPERM);
    side = make_side(words, fds, pid == 0);
    side.epoll = make_epoll(fds[pid == 0], bells[pid == 0]);
    side.waker.loop_fd = how & NO_LOOP_BELL ? -1 : bells[pid != 0];
    CHECK_INT(side.waker.fences != 0, (how & (pid ? REFUSED_HERE : REFUSED_THERE)) != 0);
    play(&side, pid != 0,
         how & (pid ? LOOP_HERE : LOOP_THERE)         ? await_in_loop
         : how & (pid ? POLLING_HERE : POLLING_THERE) ? await_polling
                                                      : await_sleeping);
    sleeper_arm(&side.sleeper);
    CHECK_INT(side.sleeper.unsure, !*side.sleeper.fenced && (side.waker.fences & WAKER_ALWAYS));
    if (pid == 0)
        test_child_end();
    test_join(pid);
    CHECK_INT(close(side.epoll), 0);
    for (int i = 0; i < 2; i++)
        CHECK(close(fds[i]) == 0 && close(bells[i]) == 0);
}

/* A sandbox may forbid membarrier(2) to either, or to both: then there are fences, slices, and a loop that
 * looks once more. */
static const struct {
    const char *name;
    unsigned how;
} plays[] = {{"both sleep", 0},
             {"both poll", POLLING_HERE | POLLING_THERE},
             {"one polls", POLLING_HERE},
             {"both in loops", LOOP_HERE | LOOP_THERE},
             {"one in a loop", LOOP_THERE},
             {"in loops, by the sockets", LOOP_HERE | LOOP_THERE | NO_LOOP_BELL},
             {"in loops, no membarrier", LOOP_HERE | LOOP_THERE | REFUSED_HERE | REFUSED_THERE},
             {"no membarrier", REFUSED_HERE | REFUSED_THERE},
             {"no membarrier, polling", REFUSED_HERE | REFUSED_THERE | POLLING_HERE | POLLING_THERE},
             {"membarrier there", REFUSED_HERE},
             {"membarrier here", REFUSED_THERE},
             {"membarrier there, polling", REFUSED_HERE | POLLING_HERE},
             {"membarrier here, polling", REFUSED_THERE | POLLING_THERE}};

static const char *each_play(size_t index)
{
    return index < sizeof plays / sizeof *plays ? plays[index].name : NULL;
}

TEST_EACH(no_wake_up_is_lost, each_play)
{
    play_between_processes(plays[index].how);
}

static volatile sig_atomic_t storm_hits;

static void on_storm(int sig)
{
    (void)sig;
    storm_hits++;
}

static void storm(void)
{
    const struct itimerval often = {{0, 200}, {0, 200}};
    struct sigaction action = {.sa_handler = on_storm};

    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_INT(setitimer(ITIMER_REAL, &often, NULL), 0);
}

static void calm(void)
{
    const struct itimerval never = {{0, 0}, {0, 0}};

    CHECK_INT(setitimer(ITIMER_REAL, &never, NULL), 0);
}

TEST(no_wake_up_is_lost_in_a_storm_of_signals)
{
    struct words *words = test_shared(2 * sizeof *words);
    struct side side;
    int fds[2], pid;

    make_sockets(fds);
    pid = test_fork();
    side = make_side(words, fds, pid == 0);
    storm();
    play(&side, pid != 0, await_sleeping);
    WAIT_UNTIL(storm_hits > 0);
    calm();
    if (pid == 0)
        test_child_end();
    test_join(pid);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* --- the other side goes --- */

static void sleep_until_killed(bool refused)
{
    struct words *words = test_shared(2 * sizeof *words);
    struct side side;
    int fds[2], pid, r;

    make_sockets(fds);
    pid = test_fork();
    if (pid == 0) {
        (void)close(fds[0]);
        if (!refused) /* slices never look asleep for long */
            test_wait_asleep(getppid());
        (void)raise(SIGKILL);
    }
    (void)close(fds[1]);
    if (refused)
        test_refuse_call(SYS_membarrier, EPERM);
    side = make_side(words, fds, 0);
    sleeper_arm(&side.sleeper);
    do
        r = sleeper_sleep(&side.sleeper);
    while (refused && r == 0);
    CHECK_INT(r, 1);
    CHECK_INT(sleeper_take(&side.sleeper), 1); /* and stays so */
    CHECK_INT(sleeper_sleep(&side.sleeper), 1);
    publish(&side, 1); /* says nothing, and no SIGPIPE */
    waker_ring(&side.waker);
    test_kill(pid);
    (void)close(fds[0]);
}

TEST(a_killed_peer_ends_the_sleep)
{
    sleep_until_killed(false);
}

TEST(a_killed_peer_ends_the_slices)
{
    sleep_until_killed(true);
}

/* A unix socket whose other end is closed with unread bytes says ECONNRESET first: unix(7). */
TEST(a_peer_that_goes_with_bells_unread_is_gone_all_the_same)
{
    struct words words[2] = {{0}};
    struct side side, other;
    int fds[2];

    make_sockets(fds);
    side = make_side(words, fds, 0);
    other = make_side(words, fds, 1);
    sleeper_arm(&other.sleeper);
    publish(&side, 1);
    sleeper_arm(&side.sleeper);
    publish(&other, 1);
    (void)close(fds[1]);
    CHECK_INT(sleeper_take(&side.sleeper), 0); /* what rang comes first */
    CHECK_INT(sleeper_take(&side.sleeper), 1);
    CHECK_INT(sleeper_take(&side.sleeper), 1);
    (void)close(fds[0]);
}

/* --- tickets and bells --- */

static int bytes_in(int fd)
{
    char bytes[1000];
    ssize_t n = recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);

    return n < 0 ? 0 : (int)n;
}

TEST(a_ticket_is_rung_for_once_and_then_spent)
{
    struct words words[2] = {{0}};
    struct side side, other;
    int fds[2];

    make_sockets(fds);
    side = make_side(words, fds, 0);
    other = make_side(words, fds, 1);
    publish(&other, 1);
    CHECK_INT(bytes_in(fds[0]), 0); /* nobody sleeps */
    sleeper_arm(&side.sleeper);
    CHECK(sleeper_is_armed(&side.sleeper));
    for (uint64_t i = 0; i < 10; i++)
        publish(&other, i);
    CHECK_INT(bytes_in(fds[0]), 1);
    CHECK_INT(sleeper_take(&side.sleeper), 0);
    CHECK(!sleeper_is_armed(&side.sleeper));
    CHECK_INT(sleeper_take(&side.sleeper), -EAGAIN);
    publish(&other, 11);
    CHECK_INT(bytes_in(fds[0]), 0);
    sleeper_arm(&side.sleeper);
    sleeper_disarm(&side.sleeper);
    sleeper_arm(&side.sleeper); /* the waker has not looked meanwhile: another number all the same */
    publish(&other, 12);
    CHECK_INT(bytes_in(fds[0]), 1);
    side.sleeper.last = UINT32_MAX; /* 0 says that nobody sleeps */
    sleeper_arm(&side.sleeper);
    CHECK_INT(words[0].ticket, 1);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

TEST(a_bell_that_is_never_heard_blocks_nobody)
{
    struct words words[2] = {{0}};
    struct side side;
    int fds[2];

    make_sockets(fds);
    side = make_side(words, fds, 0);
    errno = EXDEV;
    for (int i = 0; i < 10000; i++)
        waker_ring(&side.waker);
    CHECK_INT(errno, EXDEV);
    CHECK(bytes_in(fds[1]) > 0);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* Whoever sleeps wakes, and knows that nothing will wake it any more. */
static void check_hangs_up(int code)
{
    struct words words[2] = {{0}};
    struct side side;
    char byte;
    int fds[2], pid;

    make_sockets(fds);
    pid = test_fork();
    if (pid == 0) {
        test_refuse_call(SYS_sendto, code);
        side = make_side(words, fds, 0);
        waker_ring(&side.waker);
        for (;;)
            (void)pause();
    }
    (void)close(fds[0]);
    CHECK_INT(recv(fds[1], &byte, 1, 0), 0);
    test_kill(pid);
    (void)close(fds[1]);
}

TEST(a_bell_for_which_the_kernel_has_no_memory_hangs_up)
{
    check_hangs_up(ENOBUFS);
}

TEST(a_bell_that_a_sandbox_refuses_hangs_up)
{
    static const int refusals[] = {EPERM, EACCES, ENOSYS};

    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        check_hangs_up(refusals[i]);
}

/* The bell of a hostile peer never stops; each look at it ends, and so does each sleep. */
TEST(a_bell_that_never_stops_blocks_nobody)
{
    struct words words[2] = {{0}};
    struct side side;
    int fds[2], pid;

    make_sockets(fds);
    pid = test_fork();
    if (pid == 0) {
        static const char bytes[4096];

        (void)close(fds[0]);
        while (send(fds[1], bytes, sizeof bytes, MSG_NOSIGNAL) > 0)
            ;
        test_child_end();
    }
    (void)close(fds[1]);
    side = make_side(words, fds, 0);
    for (int i = 0; i < 1000; i++) {
        int r = sleeper_take(&side.sleeper);

        CHECK(r == 0 || r == -EAGAIN);
        sleeper_arm(&side.sleeper);
        CHECK_INT(sleeper_sleep(&side.sleeper), 0);
        sleeper_disarm(&side.sleeper);
    }
    (void)close(fds[0]);
    test_kill(pid);
}

/* Whoever holds the same open file can set O_NONBLOCK: the sleep is a sleep all the same. */
TEST(a_bell_made_non_blocking_is_slept_on)
{
    struct words *words = test_shared(2 * sizeof *words);
    struct side side;
    int fds[2], pid;

    make_sockets(fds);
    CHECK_INT(fd_set_nonblocking(fds[0], true), 0);
    pid = test_fork();
    if (pid == 0) {
        side = make_side(words, fds, 1);
        test_wait_asleep(getppid());
        publish(&side, 1);
        test_child_end();
    }
    side = make_side(words, fds, 0);
    sleeper_arm(&side.sleeper);
    CHECK_INT(sleeper_sleep(&side.sleeper), 0);
    CHECK(look(&side, 1));
    test_join(pid);
    (void)close(fds[0]);
    (void)close(fds[1]);
}
