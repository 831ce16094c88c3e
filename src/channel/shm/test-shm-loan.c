/* SPDX-License-Identifier: MIT */
/* Loans and views of shm: that they lie in the memory both share, and what holding them means. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "channel/channel.h"
#include "naru/naru.h"
#include "runner.h"

enum { VIEWS = 256 }; /* as naru/channel.h says */

static void open_pair(const char *url, struct naru_channel *ch[2])
{
    CHECK_INT(naru_channel_pair(url, NULL, ch), 0);
}

static void close_pair(struct naru_channel *ch[2])
{
    for (int i = 0; i < 2; i++)
        ch[i] = naru_channel_close(ch[i]);
}

/* Where an address of this process lies: which file, which of its bytes. */
struct place {
    uint64_t inode, offset;
};

static struct place place_of(const void *address)
{
    uint64_t wanted = (uint64_t)(uintptr_t)address, start, end, offset, inode;
    struct place place = {0, 0};
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");

    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %" SCNu64, &start, &end, &offset,
                   &inode) == 4 &&
            wanted >= start && wanted < end)
            place = (struct place){inode, offset + (wanted - start)};
    (void)fclose(maps);
    CHECK(place.inode != 0);
    return place;
}

static void send_number(struct naru_channel *ch, unsigned number, size_t size)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);

    CHECK_INT(naru_loan(ch, size, NARU_S(60), &loan), 0);
    memset(loan.data, (int)(number & 0xff), size);
    CHECK_INT(naru_commit(&loan, size, NULL), 0);
}

static void check_number(const struct naru_view *view, unsigned number, size_t size)
{
    CHECK_INT(view->length, size);
    for (size_t i = 0; i < size; i++)
        CHECK_INT(((const uint8_t *)view->data)[i], number & 0xff);
}

TEST(a_loan_and_its_view_are_the_same_bytes_of_the_same_memory)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    struct naru_view view = NARU_INIT(struct naru_view);
    struct naru_channel *ch[2];
    struct place written, read;

    open_pair("shm:", ch);
    CHECK_INT(naru_loan(ch[0], 1000, NARU_NOWAIT, &loan), 0);
    CHECK_INT(loan.capacity, 1000);
    written = place_of(loan.data);
    memset(loan.data, 7, 1000);
    CHECK_INT(naru_commit(&loan, 900, NULL), 0);
    CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &view), 0);
    check_number(&view, 7, 900);
    read = place_of(view.data);
    CHECK_INT(read.inode, written.inode);
    CHECK_INT(read.offset, written.offset);
    CHECK_INT(mprotect((void *)((uintptr_t)view.data & ~(uintptr_t)4095), 4096, PROT_READ | PROT_WRITE), -1);
    naru_release(&view);
    close_pair(ch);
}

TEST(views_are_released_in_any_order_while_copies_are_received)
{
    struct naru_view views[3] = {NARU_INIT(struct naru_view), NARU_INIT(struct naru_view),
                                 NARU_INIT(struct naru_view)};
    struct naru_channel *ch[2];
    char copy[100];

    open_pair("shm:?ring=4k", ch);
    for (unsigned round = 0; round < 200; round++) { /* many times around the ring */
        for (unsigned i = 0; i < 4; i++)
            send_number(ch[0], round * 4 + i, 100);
        for (unsigned i = 0; i < 4; i++)
            if (i == 1)
                CHECK_INT(naru_recv(ch[1], copy, sizeof copy, NARU_FOREVER), 100);
            else
                CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &views[i ? i - 1 : 0]), 0);
        for (unsigned i = 0; i < 3; i++) {
            unsigned k = (round + i * (round % 2 + 1)) % 3;

            check_number(&views[k], round * 4 + (k ? k + 1 : 0), 100);
            naru_release(&views[k]);
        }
    }
    close_pair(ch);
}

TEST(the_oldest_view_keeps_the_room_and_its_release_wakes_the_sender)
{
    struct naru_view view = NARU_INIT(struct naru_view);
    struct naru_channel *ch[2];
    struct test_gate full;
    char copy[1000];
    int pid;

    open_pair("shm:?ring=4k&wait=sleep", ch);
    test_gate_init(&full);
    pid = test_fork();
    if (pid == 0) {
        ch[1] = naru_channel_close(ch[1]);
        for (unsigned i = 0; i < 4; i++)
            send_number(ch[0], i, 1000);
        CHECK_INT(naru_send(ch[0], copy, sizeof copy, NARU_NOWAIT), -EAGAIN);
        test_gate_open(&full);
        send_number(ch[0], 4, 1000); /* sleeps until the view is released */
        ch[0] = naru_channel_close(ch[0]);
        test_child_end();
    }
    ch[0] = naru_channel_close(ch[0]);
    CHECK_INT(naru_borrow(ch[1], NARU_S(60), &view), 0);
    test_gate_wait(&full);
    for (unsigned i = 1; i < 4; i++)
        CHECK_INT(naru_recv(ch[1], copy, sizeof copy, NARU_S(60)), 1000);
    test_wait_asleep(pid);
    CHECK_INT(naru_recv(ch[1], copy, sizeof copy, NARU_NOWAIT), -EAGAIN);
    check_number(&view, 0, 1000);
    naru_release(&view);
    CHECK_INT(naru_recv(ch[1], copy, sizeof copy, NARU_S(60)), 1000);
    CHECK_INT(copy[0], 4);
    test_join(pid);
    ch[1] = naru_channel_close(ch[1]);
}

TEST(there_is_a_last_view_and_after_it_copies_are_received)
{
    static struct naru_view views[VIEWS + 1];
    struct naru_channel *ch[2];
    char copy[8];

    open_pair("shm:", ch);
    for (unsigned i = 0; i < VIEWS + 2; i++)
        send_number(ch[0], i, 8);
    for (unsigned i = 0; i < VIEWS; i++) {
        views[i].size = sizeof views[i];
        CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &views[i]), 0);
    }
    views[VIEWS].size = sizeof views[VIEWS];
    CHECK_INT(naru_borrow(ch[1], NARU_FOREVER, &views[VIEWS]), -EBUSY);
    CHECK_CONTAINS(naru_explain(), "256");
    CHECK_INT(naru_recv(ch[1], copy, sizeof copy, NARU_FOREVER), 8);
    naru_release(&views[VIEWS / 2]);
    CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &views[VIEWS / 2]), 0);
    check_number(&views[VIEWS / 2], VIEWS + 1, 8);
    for (unsigned i = 0; i < VIEWS; i++)
        naru_release(&views[i]);
    close_pair(ch);
}

TEST(nothing_overtakes_a_loan_in_the_ring)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    struct naru_message m = NARU_INIT(struct naru_message);
    struct iovec piece = {(char[]){"abc"}, 3};
    struct naru_channel *ch[2];
    char copy[8];

    open_pair("shm:", ch);
    m.iov = &piece;
    m.iov_count = 1;
    CHECK_INT(naru_loan(ch[0], 8, NARU_NOWAIT, &loan), 0);
    memcpy(loan.data, "12345678", 8);
    CHECK_INT(naru_send(ch[0], "abc", 3, NARU_FOREVER), -EBUSY);
    CHECK_CONTAINS(naru_explain(), "loan");
    CHECK_INT(naru_send(ch[0], "abc", 3, NARU_NOWAIT), -EBUSY);
    CHECK_INT(naru_send_message(ch[0], &m, NARU_NOWAIT), -EBUSY);
    CHECK_INT(naru_send_batch(ch[0], &m, 1, NARU_NOWAIT), -EBUSY);
    CHECK_INT(naru_recv(ch[1], copy, sizeof copy, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_commit(&loan, 8, NULL), 0);
    CHECK_INT(naru_send(ch[0], "abc", 3, NARU_FOREVER), 0);
    CHECK_INT(naru_recv(ch[1], copy, sizeof copy, NARU_FOREVER), 8);
    CHECK(memcmp(copy, "12345678", 8) == 0);
    CHECK_INT(naru_recv(ch[1], copy, sizeof copy, NARU_FOREVER), 3);
    close_pair(ch);
}

TEST(a_forked_child_gives_back_nothing_of_its_parents)
{
    struct naru_view view = NARU_INIT(struct naru_view);
    struct naru_channel *ch[2];
    char payload[1500];
    int pid;

    memset(payload, 1, sizeof payload);
    open_pair("shm:?ring=4k", ch);
    send_number(ch[0], 1, 1500);
    send_number(ch[0], 1, 1500);
    CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &view), 0);
    CHECK_INT(naru_send(ch[0], payload, sizeof payload, NARU_NOWAIT), -EAGAIN);
    pid = test_fork();
    if (pid == 0) {
        naru_release(&view);
        close_pair(ch);
        test_child_end();
    }
    test_join(pid);
    CHECK_INT(naru_send(ch[0], payload, sizeof payload, NARU_NOWAIT), -EAGAIN);
    check_number(&view, 1, 1500);
    naru_release(&view);
    CHECK_INT(naru_send(ch[0], payload, sizeof payload, NARU_NOWAIT), 0);
    close_pair(ch);
}

TEST(a_commit_to_a_receiver_that_left_says_so_and_ends_the_loan)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    struct naru_channel *ch[2];
    char copy[8];

    open_pair("shm:", ch);
    CHECK_INT(naru_recv(ch[1], copy, sizeof copy, NARU_NOWAIT), -EAGAIN); /* it is this process's now */
    CHECK_INT(naru_loan(ch[0], 8, NARU_NOWAIT, &loan), 0);
    ch[1] = naru_channel_close(ch[1]);
    CHECK_INT(naru_commit(&loan, 8, NULL), -EPIPE);
    CHECK_INT(naru_commit(&loan, 8, NULL), -EINVAL);
    CHECK_INT(naru_loan(ch[0], 8, NARU_NOWAIT, &loan), -EPIPE);
    ch[0] = naru_channel_close(ch[0]);
}

/* --- what comes between a loan of the short way and its commit --- */

enum { SMALL = 100, LARGE = 300 * 1000, WARM = 20 };

/* Messages that are passed until there is a short way for all of them. */
static void warm_up(struct naru_channel *ch[2], size_t size)
{
    struct naru_view view = NARU_INIT(struct naru_view);

    for (unsigned i = 0; i < WARM; i++) {
        send_number(ch[0], i, size);
        CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &view), 0);
        check_number(&view, i, size);
        naru_release(&view);
    }
}

static void expect(struct naru_channel *ch, unsigned number, size_t size)
{
    struct naru_view view = NARU_INIT(struct naru_view);

    CHECK_INT(naru_borrow(ch, NARU_FOREVER, &view), 0);
    check_number(&view, number, size);
    naru_release(&view);
}

static struct naru_loan lend(struct naru_channel *ch[2], const char *url, size_t size)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);

    open_pair(url, ch);
    warm_up(ch, size);
    CHECK_INT(naru_loan(ch[0], size, NARU_NOWAIT, &loan), 0);
    CHECK_INT(loan.capacity, size);
    CHECK(ch[0]->short_way_then != 0);
    memset(loan.data, 77, size);
    return loan;
}

static const char *size_name(size_t index)
{
    static const char *const names[] = {"in the ring", "in the pool"};

    return index < 2 ? names[index] : NULL;
}

static size_t size_of(size_t index)
{
    return index ? LARGE : SMALL;
}

TEST_EACH(a_loan_is_committed_once_and_cancelled_never_after, size_name)
{
    struct naru_channel *ch[2];
    struct naru_loan loan = lend(ch, "shm:", size_of(index)), copy = loan;

    CHECK_INT(naru_commit(&loan, size_of(index) + 1, NULL), -EINVAL);
    CHECK_INT(naru_commit(&loan, size_of(index) - 1, NULL), 0);
    CHECK(loan.data == NULL && loan.capacity == 0);
    CHECK_INT(naru_commit(&loan, 1, NULL), -EINVAL);
    CHECK_INT(naru_commit(&copy, 1, NULL), -EINVAL);
    naru_loan_cancel(&copy);
    expect(ch[1], 77, size_of(index) - 1);
    send_number(ch[0], 5, size_of(index));
    expect(ch[1], 5, size_of(index));
    close_pair(ch);
}

TEST_EACH(a_loan_that_is_cancelled_leaves_its_place_to_the_next, size_name)
{
    struct naru_channel *ch[2];
    struct naru_loan loan = lend(ch, "shm:", size_of(index));

    for (unsigned i = 0; i < 1000; i++) {
        naru_loan_cancel(&loan);
        CHECK_INT(naru_loan(ch[0], size_of(index), NARU_NOWAIT, &loan), 0);
        CHECK_INT(naru_loan(ch[0], 1, NARU_NOWAIT, &(struct naru_loan)NARU_INIT(struct naru_loan)), -EBUSY);
    }
    memset(loan.data, 3, 10);
    CHECK_INT(naru_commit(&loan, 10, NULL), 0);
    expect(ch[1], 3, 10);
    CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &(struct naru_view)NARU_INIT(struct naru_view)), -EAGAIN);
    close_pair(ch);
}

TEST_EACH(other_messages_are_sent_between_a_loan_and_its_commit_or_refused, size_name)
{
    struct naru_channel *ch[2];
    struct naru_loan loan = lend(ch, "shm:", size_of(index));
    char copy[8];

    for (int i = 0; i < 3; i++) {
        CHECK_INT(naru_send(ch[0], "abc", 3, NARU_FOREVER), index ? 0 : -EBUSY);
        if (index)
            CHECK_INT(naru_recv(ch[1], copy, sizeof copy, NARU_FOREVER), 3);
    }
    CHECK_INT(naru_commit(&loan, size_of(index), NULL), 0);
    expect(ch[1], 77, size_of(index));
    warm_up(ch, size_of(index));
    close_pair(ch);
}

TEST_EACH(a_descriptor_that_is_asked_for_meanwhile_shows_the_message, size_name)
{
    struct naru_channel *ch[2];
    struct naru_loan loan = lend(ch, "shm:", size_of(index));
    struct pollfd ready = {.fd = naru_channel_fd(ch[1]), .events = POLLIN};

    CHECK(naru_channel_fd(ch[0]) >= 0);
    CHECK_INT(poll(&ready, 1, 0), 0);
    CHECK_INT(naru_commit(&loan, size_of(index), NULL), 0);
    CHECK_INT(poll(&ready, 1, 60000), 1);
    expect(ch[1], 77, size_of(index));
    CHECK_INT(poll(&ready, 1, 0), 0);
    warm_up(ch, size_of(index));
    close_pair(ch);
}

TEST_EACH(what_is_finished_between_a_loan_and_its_commit_is_not_sent, size_name)
{
    struct naru_channel *ch[2];
    struct naru_loan loan = lend(ch, "shm:", size_of(index));

    CHECK_INT(naru_channel_finish(ch[0]), 0);
    CHECK_INT(naru_commit(&loan, size_of(index), NULL), -EPIPE);
    CHECK_INT(naru_borrow(ch[1], NARU_FOREVER, &(struct naru_view)NARU_INIT(struct naru_view)), -EPIPE);
    close_pair(ch);
}

TEST_EACH(a_loan_that_is_out_when_its_channel_is_closed_is_not_sent, size_name)
{
    struct naru_channel *ch[2];

    (void)lend(ch, "shm:", size_of(index));
    ch[0] = naru_channel_close(ch[0]);
    CHECK_INT(naru_recv(ch[1], NULL, 0, NARU_FOREVER), -EPIPE);
    ch[1] = naru_channel_close(ch[1]);
}

TEST_EACH(a_receiver_that_leaves_between_a_loan_and_its_commit_is_noticed, size_name)
{
    struct naru_channel *ch[2];
    struct naru_loan loan = lend(ch, "shm:", size_of(index));

    ch[1] = naru_channel_close(ch[1]);
    CHECK_INT(naru_commit(&loan, size_of(index), NULL), -EPIPE);
    CHECK_INT(naru_commit(&loan, size_of(index), NULL), -EINVAL);
    CHECK_INT(naru_loan(ch[0], size_of(index), NARU_NOWAIT, &loan), -EPIPE);
    ch[0] = naru_channel_close(ch[0]);
}

TEST_EACH(a_forked_child_commits_nothing_of_its_parents, size_name)
{
    struct naru_channel *ch[2];
    struct naru_loan loan = lend(ch, "shm:", size_of(index));
    int pid = test_fork();

    if (pid == 0) {
        CHECK_INT(naru_commit(&loan, 1, NULL), -ECHILD);
        CHECK_INT(naru_loan(ch[0], 1, NARU_NOWAIT, &loan), -ECHILD);
        CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &(struct naru_view)NARU_INIT(struct naru_view)), -ECHILD);
        close_pair(ch);
        test_child_end();
    }
    test_join(pid);
    CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &(struct naru_view)NARU_INIT(struct naru_view)), -EAGAIN);
    CHECK_INT(naru_commit(&loan, size_of(index), NULL), 0);
    expect(ch[1], 77, size_of(index));
    close_pair(ch);
}

TEST_EACH(a_commit_with_a_priority_goes_there, size_name)
{
    struct naru_message meta = NARU_INIT(struct naru_message);
    struct naru_channel *ch[2];
    struct naru_loan loan = lend(ch, "shm:?lanes=2", size_of(index));
    struct naru_view view = NARU_INIT(struct naru_view);

    meta.priority = 1;
    CHECK_INT(naru_commit(&loan, size_of(index), &meta), 0);
    CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &view), 0);
    CHECK_INT(view.priority, 1);
    check_number(&view, 77, size_of(index));
    naru_release(&view);
    warm_up(ch, size_of(index));
    close_pair(ch);
}

/* The ring has no room for the description of what was lent. */
TEST(a_commit_waits_for_room_as_its_loan_may)
{
    struct naru_channel *ch[2];
    struct naru_loan loan = lend(ch, "shm:?ring=4k&pool=4M", LARGE);
    char small[8];
    unsigned sent = 0;

    while (naru_send(ch[0], small, sizeof small, NARU_NOWAIT) == 0)
        sent++;
    CHECK_INT(naru_commit(&loan, LARGE, NULL), -EAGAIN);
    CHECK_INT(naru_commit(&loan, LARGE, NULL), -EAGAIN);
    while (sent-- > 0)
        CHECK_INT(naru_recv(ch[1], small, sizeof small, NARU_FOREVER), sizeof small);
    CHECK_INT(naru_commit(&loan, LARGE, NULL), 0);
    expect(ch[1], 77, LARGE);
    warm_up(ch, LARGE);
    close_pair(ch);
}

/* By threads, for ThreadSanitizer, and with both sides spinning, so that the short ways meet. */
enum { STREAMED = 20000 };

static void *borrow_all(void *end)
{
    struct naru_view view = NARU_INIT(struct naru_view), held = NARU_INIT(struct naru_view);

    for (unsigned i = 0; i < STREAMED; i++) {
        uint32_t number;

        CHECK_INT(naru_borrow(end, NARU_FOREVER, &view), 0);
        memcpy(&number, view.data, sizeof number);
        CHECK_INT(number, i);
        CHECK_INT(view.length, LARGE - i % 1000);
        naru_release(&held);
        held = view; /* one is always out */
    }
    naru_release(&held);
    return NULL;
}

TEST(a_stream_of_loans_arrives_whole_and_in_order)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    struct naru_channel *ch[2];
    pthread_t receiver;

    open_pair("shm:", ch);
    CHECK_INT(pthread_create(&receiver, NULL, borrow_all, ch[1]), 0);
    for (uint32_t i = 0; i < STREAMED; i++) {
        CHECK_INT(naru_loan(ch[0], LARGE, NARU_FOREVER, &loan), 0);
        memcpy(loan.data, &i, sizeof i);
        CHECK_INT(naru_commit(&loan, LARGE - i % 1000, NULL), 0);
    }
    CHECK_INT(naru_flush(ch[0], NARU_DONE, NARU_S(60)), 0);
    CHECK_INT(pthread_join(receiver, NULL), 0);
    close_pair(ch);
}
