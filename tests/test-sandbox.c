/* SPDX-License-Identifier: MIT */
/* Where a sandbox (seccomp(2)) refuses a call of our own, that is said: the peer is not blamed, nor a limit.
 */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner-syscalls.h"
#include "runner.h"

static const int64_t patience = NARU_S(60);

static const char *url(void)
{
    return test_format("shm://%s/s", test_directory());
}

static void open_pair(struct naru_channel *ch[2])
{
    CHECK_INT(naru_channel_pair("shm:", NULL, ch), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_channel_adopt(ch[i]), 0);
}

static void close_pair(struct naru_channel *ch[2])
{
    for (int i = 0; i < 2; i++)
        ch[i] = naru_channel_close(ch[i]);
}

/* What makes the descriptor of a channel. */
static const struct {
    const char *name;
    long number;
} makers[] = {{"eventfd2", SYS_eventfd2}, {"epoll_create1", SYS_epoll_create1}, {"epoll_ctl", SYS_epoll_ctl}};

static const char *maker_name(size_t index)
{
    return index < sizeof makers / sizeof *makers ? makers[index].name : NULL;
}

TEST_EACH(a_channel_can_be_polled_but_for_the_sandbox, maker_name)
{
    struct naru_channel *ch[2];

    open_pair(ch);
    test_refuse_call(makers[index].number, EPERM);
    CHECK_INT(naru_channel_fd(ch[0]), -EPERM);
    CHECK_CONTAINS(naru_explain(), "sandbox");
    CHECK_INT(naru_send(ch[0], "still", 5, patience), 0);
    CHECK_INT(naru_recv(ch[1], NULL, 0, NARU_NOWAIT), -EMSGSIZE);
    close_pair(ch);
}

TEST(descriptors_that_we_may_not_receive_are_no_nonsense_of_the_peer)
{
    struct naru_message m = NARU_INIT(struct naru_message);
    struct naru_channel *ch[2];
    char bytes[8];
    int fd = 0;

    open_pair(ch);
    m.iov = &(struct iovec){(char[]){"with"}, 4};
    m.iov_count = 1;
    m.fds = &fd;
    m.fd_count = 1;
    CHECK_INT(naru_send_message(ch[0], &m, patience), 0);
    test_refuse_call(SYS_recvmsg, EPERM);
    for (int i = 0; i < 2; i++) { /* it stays */
        CHECK_INT(naru_recv(ch[1], bytes, sizeof bytes, patience), -EPERM);
        CHECK_CONTAINS(naru_explain(), "sandbox");
    }
    CHECK_INT(naru_send(ch[1], "back", 4, patience), 0);
    CHECK_INT(naru_recv(ch[0], bytes, sizeof bytes, patience), 4);
    close_pair(ch);
}

/* By madvise(2): of a peer's memory. */
TEST(a_listener_whose_memory_we_may_not_reserve_is_not_blamed)
{
    struct naru_listener *l = NULL;
    int pid;

    CHECK_INT(naru_listen(url(), NULL, &l), 0);
    pid = test_fork();
    if (pid == 0) {
        struct naru_channel *ch = NULL;

        test_refuse_call(SYS_madvise, EPERM);
        CHECK_INT(naru_connect(url(), NULL, patience, &ch), -EPERM);
        CHECK_CONTAINS(naru_explain(), "madvise");
        CHECK_CONTAINS(naru_explain(), "sandbox");
        test_child_end();
    }
    test_join(pid);
    naru_listener_close(l);
}

TEST(who_connects_to_a_listener_in_a_sandbox_is_not_blamed)
{
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;
    struct test_gate listening;
    int pid;

    test_gate_init(&listening);
    pid = test_fork();
    if (pid == 0) {
        test_gate_wait(&listening);
        for (;;)
            CHECK_INT(naru_connect(url(), NULL, NARU_FOREVER, &ch), 0);
    }
    CHECK_INT(naru_listen(test_format("%s?service=manual", url()), NULL, &l), 0);
    test_refuse_call(SYS_madvise, EPERM);
    test_gate_open(&listening);
    CHECK_INT(naru_accept(l, patience, &ch), -EPERM);
    CHECK_CONTAINS(naru_explain(), "madvise");
    CHECK_CONTAINS(naru_explain(), "sandbox");
    test_kill(pid);
    naru_listener_close(l);
}

/* Where the kernel would wait for a lock that the memory's maker can hold, it is not asked: lseek(2). */
TEST(what_may_wait_for_the_maker_of_memory_is_not_asked)
{
    struct naru_listener *l = NULL;
    int pid;

    CHECK_INT(naru_listen(url(), NULL, &l), 0);
    pid = test_fork();
    if (pid == 0) {
        struct naru_channel *ch = NULL;

        test_refuse_call(SYS_lseek, EPERM);
        CHECK_INT(naru_connect(url(), NULL, patience, &ch), 0);
        (void)naru_channel_close(ch);
        test_child_end();
    }
    test_join(pid);
    naru_listener_close(l);
}

/* No limit of threads is to be raised where a stack cannot be made. */
TEST(a_keeper_that_the_sandbox_lets_have_no_stack_is_told_so)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    test_skip("a sanitizer makes threads' stacks in its own way");
#endif
    struct naru_listener *l = NULL;

    test_refuse_call(SYS_mprotect, EPERM);
    CHECK_INT(naru_listen(url(), NULL, &l), -EPERM);
    CHECK_CONTAINS(naru_explain(), "sandbox");
    CHECK_CONTAINS(naru_explain(), "?service=manual");
    CHECK(!strstr(naru_explain(), "RLIMIT_NPROC"));
    test_refuse_call(SYS_mmap, EPERM);
    CHECK_INT(naru_listen(url(), NULL, &l), -EPERM);
    CHECK_CONTAINS(naru_explain(), "a sandbox (seccomp) forbids to map memory");
    CHECK(!strstr(naru_explain(), "RLIMIT_NPROC"));
}
