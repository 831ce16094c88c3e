/* SPDX-License-Identifier: MIT */
/* shm+posix: and what stands at NAME.next, where each segment is until it takes the name: of others, of who
 * is about to listen, of a listener that was killed there. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "channel/shm/test-shm-named.h"

static const char *const url = "shm+posix:/named";

static void check_in_the_way(const char *path)
{
    struct naru_channel *ch = NULL;
    struct naru_segment *segment = NULL;
    struct naru_listener *l = NULL;

    CHECK_INT(naru_listen(url, NULL, &l), -EEXIST);
    CHECK_CONTAINS(naru_explain(), test_format("%s is in the way", path));
    if (strcmp(path, "/dev/shm/named") != 0)
        return;
    CHECK_INT(naru_connect(url, NULL, patience, &ch), -EEXIST);
    CHECK_CONTAINS(naru_explain(), "is in the way");
    CHECK_INT(naru_remove(url), -EEXIST);
    CHECK_INT(naru_segment_open(url, 0, NULL, &segment), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "is in the way");
}

TEST(what_is_no_regular_file_is_in_the_way)
{
    static const char *const paths[] = {"/dev/shm/named", "/dev/shm/named.next"};

    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        CHECK_INT(mkdir(paths[i], 0700), 0);
        check_in_the_way(paths[i]);
        CHECK_INT(rmdir(paths[i]), 0);
        (void)strcpy(address.sun_path, paths[i]);
        CHECK_INT(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
        check_in_the_way(paths[i]);
        CHECK_INT(unlink(paths[i]), 0);
        close(fd);
        CHECK_INT(mkfifo(paths[i], 0600), 0);
        check_in_the_way(paths[i]);
        CHECK_INT(unlink(paths[i]), 0);
    }
    check_serves(url);
}

TEST(what_stands_at_the_name_of_the_next_segment_keeps_nobody_from_being_accepted_later)
{
    struct naru_listener *l = listen_at(url);
    struct naru_channel *far = connect_to(url), *near = NULL;

    CHECK_INT(mkdir("/dev/shm/named.next", 0700), 0);
    CHECK_INT(naru_accept(l, patience, &near), -EEXIST);
    CHECK_CONTAINS(naru_explain(), "/dev/shm/named.next is in the way");
    CHECK_INT(rmdir("/dev/shm/named.next"), 0);
    near = accept_from(l);
    check_carries(far, near);
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}

/* At the name of the next segment, what the listener has made. */
static int put_at_next(void)
{
    char header[4096];
    int from = open("/dev/shm/named", O_RDONLY | O_CLOEXEC);
    int fd = open("/dev/shm/named.next", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    CHECK(from >= 0 && fd >= 0);
    CHECK_INT(read(from, header, sizeof header), sizeof header);
    CHECK_INT(write(fd, header, sizeof header), sizeof header);
    close(from);
    return fd;
}

static bool lock_seat(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};

    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

TEST(what_stands_at_the_name_of_the_next_segment_is_said_and_no_channel_is_called_so)
{
    struct naru_segment *segment = NULL;
    struct naru_listener *l = NULL;

    CHECK_INT(naru_listen("shm+posix:/named.next", NULL, &l), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "shm+posix:/named;");
    CHECK_INT(naru_segment_open("shm+posix:/named.next?unlink", 4096, NULL, &segment), 0);
    CHECK_INT(naru_listen(url, NULL, &l), -EEXIST);
    CHECK_CONTAINS(naru_explain(), "/dev/shm/named.next");
    naru_segment_close(segment);
    check_serves(url);
}

TEST(what_another_user_has_at_the_name_of_the_next_segment_is_said)
{
    struct test_gate listens, barred, tried, opened, freed;
    struct test_gate *gates[] = {&listens, &barred, &tried, &opened, &freed};
    int fd, pid;

    test_need_root();
    for (size_t i = 0; i < sizeof gates / sizeof *gates; i++)
        test_gate_init(gates[i]);
    pid = test_fork_as_nobody();
    if (pid == 0) {
        struct naru_listener *l = listen_at(url);
        struct naru_channel *far = connect_to(url), *near = NULL;

        test_gate_open(&listens);
        test_gate_wait(&barred);
        CHECK_INT(naru_accept(l, patience, &near), -EACCES);
        CHECK_CONTAINS(naru_explain(), "/dev/shm/named.next");
        test_gate_open(&tried);
        test_gate_wait(&opened);
        CHECK_INT(naru_accept(l, patience, &near), -EPERM); /* a sticky directory's (unlink(2)) */
        CHECK_CONTAINS(naru_explain(), "/dev/shm/named.next");
        test_gate_open(&tried);
        test_gate_wait(&freed);
        near = accept_from(l);
        check_carries(far, near);
        naru_channel_close(far);
        naru_channel_close(near);
        naru_listener_close(l);
        test_child_end();
    }
    test_gate_wait(&listens);
    fd = put_at_next();
    test_gate_open(&barred);
    test_gate_wait(&tried);
    CHECK_INT(fchmod(fd, 0666), 0);
    close(fd);
    test_gate_open(&opened);
    test_gate_wait(&tried);
    CHECK_INT(unlink("/dev/shm/named.next"), 0);
    test_gate_open(&freed);
    test_join(pid);
}

TEST(of_a_listener_that_was_killed_before_it_had_the_name_the_rest_is_removed)
{
    struct naru_listener *l = listen_at(url);
    int fd = put_at_next();

    naru_listener_close(l);
    CHECK(lock_seat(fd));
    CHECK_INT(naru_remove(url), -ENOENT); /* it lives */
    CHECK_INT(access("/dev/shm/named.next", F_OK), 0);
    close(fd);
    CHECK_INT(naru_remove(url), 0);
    CHECK(access("/dev/shm/named.next", F_OK) < 0 && errno == ENOENT);
    CHECK_INT(naru_remove(url), -ENOENT);
}

TEST(the_next_segment_of_a_live_listener_is_not_removed_by_its_own_name)
{
    static const char *const next = "shm+posix:/named.next";
    struct naru_listener *l = listen_at(url);
    int fd = put_at_next();

    naru_listener_close(l);
    CHECK(lock_seat(fd));
    CHECK_INT(naru_listen(url, NULL, &l), -EADDRINUSE);
    CHECK_CONTAINS(naru_explain(), test_format("process %d is about to listen there", getpid()));
    CHECK_INT(naru_remove(next), -EBUSY);
    CHECK_CONTAINS(naru_explain(),
                   test_format("process %d holds it, to listen at shm+posix:/named;", getpid()));
    CHECK_INT(access("/dev/shm/named.next", F_OK), 0);
    close(fd);
    CHECK_INT(naru_remove(next), 0); /* a dead one's */
    CHECK_INT(naru_remove(next), -ENOENT);
    CHECK_INT(close(open("/dev/shm/named.next", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)), 0);
    CHECK_INT(naru_remove(next), -EEXIST); /* no channel's */
    CHECK_INT(unlink("/dev/shm/named.next"), 0);
}

enum { ROUNDS = 20 };

TEST(while_another_is_at_the_name_of_the_next_segment_who_accepts_sleeps)
{
    struct naru_listener *l = listen_at(url);
    struct naru_channel *far, *near = NULL;
    int fd = put_at_next(); /* a live listener's, as of one that is stopped there */
    long before;

    CHECK(lock_seat(fd));
    far = connect_to(url);
    before = test_sleeps();
    for (int i = 0; i < ROUNDS; i++)
        CHECK_INT(naru_accept(l, NARU_MS(20), &near), -ETIMEDOUT);
    CHECK(test_sleeps() - before >= ROUNDS / 2); /* a round in which all stood still has none */
    CHECK_CONTAINS(naru_explain(), "/dev/shm/named.next, where");
    CHECK_CONTAINS(naru_explain(), test_format("process %d holds that", getpid()));
    close(fd);
    near = accept_from(l);
    check_carries(far, near);
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}
