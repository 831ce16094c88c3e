/* SPDX-License-Identifier: MIT */
/* Conformance of every mechanism: what each capability bit promises, and what its absence refuses. */
#include "mechanism.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct iovec piece;

/* A message of the link's with that number, over static memory. */
static struct naru_message message(const struct link *link, uint64_t number)
{
    static uint8_t buffer[MESSAGE_MAX];
    struct naru_message m = NARU_INIT(struct naru_message);

    piece = (struct iovec){buffer, message_size(link, number)};
    message_make(link, number, buffer, piece.iov_len);
    m.iov = &piece;
    m.iov_count = 1;
    return m;
}

static struct naru_message room(void)
{
    static uint8_t buffer[MESSAGE_MAX];
    struct naru_message m = NARU_INIT(struct naru_message);

    piece = (struct iovec){buffer, sizeof buffer};
    m.iov = &piece;
    m.iov_count = 1;
    return m;
}

TEST_EACH(priorities_overtake_or_are_refused, each_variant)
{
    static const unsigned sent[] = {0, 7, 1, 7}, order[] = {1, 3, 2, 0};
    struct naru_channel *far, *near;
    struct link link;

    /* shm: has as many as it was told to. */
    link_open_with(&link, index, NULL,
                   strcmp(variant_at(index)->row, "shm") == 0 && !strstr(variant_at(index)->url, "lanes=")
                       ? "lanes=8"
                       : NULL);
    link_both(&link, &far, &near);
    for (uint64_t i = 0; i < 4; i++) {
        struct naru_message m = message(&link, i);

        m.priority = sent[i];
        if (!link_can(&link, NARU_CAN_PRIORITY) && m.priority) {
            CHECK_INT(naru_send_message(far, &m, NARU_NOWAIT), -ENOTSUP);
            CHECK_CONTAINS(naru_explain(), "priorit");
            m.priority = 0;
        }
        CHECK_OK(naru_send_message(far, &m, NARU_S(WAIT_LONG_S)));
    }
    for (uint64_t i = 0; i < 4; i++) {
        struct naru_message m = room();
        uint64_t expected = link_can(&link, NARU_CAN_PRIORITY) ? order[i] : i;

        CHECK_OK(naru_recv_message(near, &m, NARU_S(WAIT_LONG_S)));
        message_check(__FILE__, __LINE__, &link, expected, m.iov->iov_base, (long long)m.length);
        CHECK_INT(m.priority, link_can(&link, NARU_CAN_PRIORITY) ? sent[expected] : 0);
    }
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

TEST_EACH(types_are_carried_or_refused, each_variant)
{
    struct naru_channel *far, *near;
    struct naru_message m;
    struct link link;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    m = message(&link, 1);
    m.type = 42;
    if (link_can(&link, NARU_CAN_TYPE)) {
        CHECK_OK(naru_send_message(far, &m, NARU_S(WAIT_LONG_S)));
        m = room();
        CHECK_OK(naru_recv_message(near, &m, NARU_S(WAIT_LONG_S)));
        CHECK_INT(m.type, 42);
        message_check(__FILE__, __LINE__, &link, 1, m.iov->iov_base, (long long)m.length);
    } else {
        CHECK_INT(naru_send_message(far, &m, NARU_NOWAIT), -ENOTSUP);
        CHECK_CONTAINS(naru_explain(), "type");
    }
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

/* --- descriptors --- */

/* Whether a descriptor is open, closes on exec, and leads to the file with this content. */
static void check_passed(int fd, char content)
{
    char seen = 0;

    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK(pread(fd, &seen, 1, 0) == 1);
    CHECK_INT(seen, content);
    close(fd);
}

static int make_file(char content)
{
    int fd = open(test_directory(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    CHECK(fd >= 0);
    CHECK(pwrite(fd, &content, 1, 0) == 1);
    return fd;
}

TEST_EACH(descriptors_travel_with_their_message_or_are_refused, each_variant)
{
    struct naru_channel *far, *near;
    struct naru_message m;
    struct link link;
    int fds[3] = {make_file('a'), make_file('b'), make_file('c')}, got[3];

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    m = message(&link, 1);
    m.fds = fds;
    m.fd_count = 3;
    if (link_can(&link, NARU_CAN_FDS)) {
        PUT(&link, far, 0);
        CHECK_OK(naru_send_message(far, &m, NARU_S(WAIT_LONG_S)));
        PUT(&link, far, 2);
        CHECK_OK(naru_send_message(
            far,
            &(struct naru_message){
                .size = sizeof m, .iov = m.iov, .iov_count = 1, .fds = fds + 1, .fd_count = 1},
            NARU_S(WAIT_LONG_S)));
        for (uint64_t i = 0; i < 4; i++) {
            m = room();
            m.fds = got;
            m.fd_capacity = 3;
            CHECK_OK(naru_recv_message(near, &m, NARU_S(WAIT_LONG_S)));
            message_check(__FILE__, __LINE__, &link, i == 3 ? 1 : i, m.iov->iov_base, (long long)m.length);
            CHECK_INT(m.fd_count, i == 1 ? 3 : i == 3 ? 1 : 0);
            for (size_t j = 0; j < m.fd_count; j++)
                check_passed(got[j], i == 3 ? 'b' : (char)('a' + j));
        }
    } else {
        CHECK_INT(naru_send_message(far, &m, NARU_NOWAIT), -ENOTSUP);
        CHECK_CONTAINS(naru_explain(), "descriptor");
    }
    CHECK(fcntl(fds[0], F_GETFD) >= 0); /* the sender's own stay its own */
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

TEST_EACH(descriptors_without_room_are_closed_and_counted, each_variant)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    struct naru_channel *far, *near;
    struct naru_message m;
    struct link link;
    int fds[3] = {make_file('a'), make_file('b'), make_file('c')}, got[1];

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    if (link_can(&link, NARU_CAN_FDS)) {
        for (int i = 0; i < 2; i++) {
            m = message(&link, 1);
            m.fds = fds;
            m.fd_count = 3;
            CHECK_OK(naru_send_message(far, &m, NARU_S(WAIT_LONG_S)));
        }
        m = room();
        m.fds = got;
        m.fd_capacity = 1;
        CHECK_OK(naru_recv_message(near, &m, NARU_S(WAIT_LONG_S)));
        CHECK_INT(m.fd_count, 1);
        check_passed(got[0], 'a');
        TAKE(&link, near, 1); /* nobody asked for descriptors */
        CHECK_OK(naru_channel_info(near, &info));
        CHECK_INT(info.dropped, 5);
    }
    for (int i = 0; i < 3; i++)
        close(fds[i]); /* the runner counts the rest */
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

/* --- who is there --- */

TEST_EACH(the_peer_is_known_or_said_to_be_unknown, each_variant)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    struct naru_channel *ch;
    struct naru_message m;
    struct test_gate done;
    struct link link;
    int pid;

    link_open(&link, index, NULL);
    test_gate_init(&done);
    pid = test_fork();
    if (pid == 0) {
        if (getuid() == 0 && !(link.variant->traits & (HAS_MODE | PROCESS | OWN)))
            CHECK(setgid(65533) == 0 && setuid(65534) == 0);
        ch = link_far(&link);
        PUT(&link, ch, 1);
        test_gate_wait(&done);
        naru_channel_close(ch);
        test_child_end();
    }
    ch = link_near(&link);
    m = room();
    CHECK_OK(naru_recv_message(ch, &m, NARU_S(WAIT_LONG_S)));
    CHECK_OK(naru_channel_info(ch, &info));
    if (link_can(&link, NARU_CAN_CREDENTIALS) && !(link.variant->traits & PAIRED)) {
        bool other = getuid() == 0 && !(link.variant->traits & (HAS_MODE | PROCESS | OWN));
        struct naru_peer peer = link_can(&link, NARU_CAN_ACCEPT_MANY) ? info.peer : m.sender;

        CHECK_INT(peer.pid, pid);
        CHECK_INT(peer.uid, other ? 65534 : getuid());
        CHECK_INT(peer.gid, other ? 65533 : getgid());
    } else if (!link_can(&link, NARU_CAN_CREDENTIALS)) {
        CHECK_INT(info.peer.pid, -1);
        CHECK_INT(info.peer.uid, -1);
        CHECK_INT(info.peer.gid, -1);
    }
    if (m.sender.pid != -1) /* whoever tells message by message tells the truth */
        CHECK_INT(m.sender.pid, pid);
    test_gate_open(&done);
    test_join(pid);
    naru_channel_close(ch);
    link_close(&link);
}

/* --- several receivers, and none --- */

TEST_EACH(messages_persist_or_go_with_their_processes, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;
    char buffer[MESSAGE_MAX];

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    PUT(&link, far, 1);
    PUT(&link, far, 2);
    naru_channel_close(far);
    naru_channel_close(near);
    if (link.listener && !(link.variant->traits & PROCESS)) {
        link.listener = naru_listener_close(link.listener);
        CHECK_OK(naru_listen(link.url, NULL, &link.listener));
        if (link_can(&link, NARU_CAN_PERSIST)) {
            near = link_near(&link);
            TAKE(&link, near, 1);
            TAKE(&link, near, 2);
            naru_channel_close(near);
        } else if (naru_accept(link.listener, NARU_NOWAIT, &near) == 0) {
            CHECK_INT(naru_recv(near, buffer, sizeof buffer, NARU_NOWAIT), -EAGAIN);
            naru_channel_close(near);
        }
    }
    link_close(&link);
}

TEST_EACH(several_receivers_share_or_all_get_everything, each_variant)
{
    enum { RECEIVERS = 3, EACH = 4 };
    struct naru_listener *listeners[RECEIVERS] = {NULL};
    struct naru_channel *far = NULL, *near[RECEIVERS] = {NULL};
    struct link link;

    link_open(&link, index, NULL);
    if (link_can(&link, NARU_CAN_SHARE_RECEIVE) || link_can(&link, NARU_CAN_BROADCAST)) {
        CHECK_OK(naru_connect(link.url, NULL, NARU_S(WAIT_LONG_S), &far));
        for (int i = 0; i < RECEIVERS; i++) {
            CHECK_OK(naru_listen(link.url, NULL, &listeners[i]));
            CHECK_OK(naru_accept(listeners[i], NARU_S(WAIT_LONG_S), &near[i]));
        }
        for (uint64_t n = 0; n < RECEIVERS * EACH; n++) {
            PUT(&link, far, n);
            if (link_can(&link, NARU_CAN_SHARE_RECEIVE)) {
                TAKE(&link, near[n % RECEIVERS], n);
                for (int i = 0; i < RECEIVERS; i++) /* nobody gets it twice */
                    CHECK_INT(naru_recv(near[i], NULL, 0, NARU_NOWAIT), -EAGAIN);
            }
        }
        for (uint64_t n = 0; n < RECEIVERS * EACH; n++)
            for (int i = 0; i < RECEIVERS && link_can(&link, NARU_CAN_BROADCAST); i++)
                TAKE(&link, near[i], n);
    }
    for (int i = 0; i < RECEIVERS; i++) {
        naru_channel_close(near[i]);
        naru_listener_close(listeners[i]);
    }
    naru_channel_close(far);
    link_close(&link);
}

/* --- names --- */

TEST_EACH(names_can_be_removed_and_what_is_gone_is_said_to_be, each_variant)
{
    struct link link;

    link_open(&link, index, NULL);
    link.listener = naru_listener_close(link.listener);
    if (link.variant->traits & HAS_NAME) {
        /* gone with its listener; a queue or file is not */
        bool socket = strcmp(link.row->scheme, "unix") == 0 || strncmp(link.row->scheme, "shm", 3) == 0;

        CHECK_INT(naru_remove(link.url), socket ? -ENOENT : 0);
        CHECK_INT(naru_remove(link.url), -ENOENT);
        CHECK_CONTAINS(naru_explain(), link.url);
    } else {
        int r = naru_remove(link.url);

        CHECK(r == -ENOTSUP || r == -EINVAL); /* -EINVAL: a URL that names nothing */
    }
    link.opened = false;
    link_close(&link);
}

TEST_EACH(a_misspelt_option_is_never_ignored, each_variant)
{
    struct naru_listener *listener = NULL;
    struct naru_channel *ch = NULL, *pair[2] = {NULL, NULL};
    struct link link;
    const char *url;
    int r;

    link_open(&link, index, NULL);
    if (link.variant->traits & GIVEN)
        link.url = test_format("fd:%d", link.given[0]);
    url = test_format("%s%sframme=line", link.url, strchr(link.url, '?') ? "&" : "?");
    if (link.variant->traits & GIVEN) {
        r = naru_connect(url, NULL, NARU_NOWAIT, &ch);
        link_close(&link);
    } else {
        link_close(&link);
        r = link.variant->traits & PAIRED ? naru_channel_pair(url, NULL, pair)
                                          : naru_listen(url, NULL, &listener);
    }
    CHECK_INT(r, -EINVAL);
    CHECK_CONTAINS(naru_explain(), "framme");
    CHECK(!ch && !listener && !pair[0] && !pair[1]);
    if (link_can(&link, NARU_CAN_CONNECT) && !(link.variant->traits & PAIRED))
        CHECK(naru_connect(url, NULL, NARU_NOWAIT, &ch) < 0);
    CHECK(!ch);
    if (link.variant->traits & HAS_NAME) /* and nothing was made */
        CHECK_INT(naru_remove(link.url), -ENOENT);
}

/* --- the table itself --- */

static const struct naru_mechanism *row_at(size_t index)
{
    const struct naru_mechanism *row = naru_mechanism_next(NULL);

    while (row && index--)
        row = naru_mechanism_next(row);
    return row;
}

static const char *each_row(size_t index)
{
    const struct naru_mechanism *row = row_at(index);

    return row ? row->name : NULL;
}

TEST_EACH(a_row_is_complete_and_consistent, each_row)
{
    const struct naru_mechanism *row = row_at(index);
    const char *const texts[] = {row->name,     row->scheme,      row->example,   row->title,
                                 row->use_when, row->medium,      row->direction, row->unit,
                                 row->scope,    row->persistence, row->limit,     row->wait};
    uint32_t can = row->capabilities;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        CHECK(texts[i] && *texts[i] && !strchr(texts[i], '\n'));
    CHECK_INT(row->size, sizeof *row);
    CHECK(naru_mechanism_find(row->name) == row);
    CHECK(strncmp(row->example, row->scheme, strlen(row->scheme)) == 0);
    CHECK(can & (NARU_CAN_PAIR | NARU_CAN_CONNECT | NARU_CAN_LISTEN));
    CHECK(!(can & NARU_CAN_ACCEPT_MANY) || (can & NARU_CAN_LISTEN));
    CHECK(!(can & NARU_CAN_PUSH_BACK) || (can & NARU_CAN_BE_RELIABLE)); /* what waits need not drop */
    for (size_t i = 0; i < index; i++)
        CHECK(strcmp(row_at(i)->name, row->name) != 0);
}

TEST(an_unknown_mechanism_is_not_found_and_an_unknown_scheme_lists_the_known)
{
    struct naru_channel *ch = NULL;

    CHECK(naru_mechanism_find("carrier-pigeon") == NULL);
    CHECK_INT(naru_connect("pigeon:coo", NULL, NARU_NOWAIT, &ch), -EINVAL);
    for (size_t i = 0; row_at(i); i++)
        CHECK_CONTAINS(naru_explain(), row_at(i)->scheme);
    CHECK(ch == NULL);
}
