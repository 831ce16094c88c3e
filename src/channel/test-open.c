/* SPDX-License-Identifier: MIT */
/* What becomes of channels in forked children, and of interruptions that nobody waited for. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel/channel.h"
#include "naru/naru.h"
#include "runner.h"

TEST(closing_in_a_child_leaves_the_descriptors_alone_that_it_opened_since)
{
    struct naru_listener *listener;
    struct naru_channel *channel, *accepted;
    char url[256];
    int child;

    (void)snprintf(url, sizeof url, "unix:%s/socket", test_directory());
    CHECK_INT(naru_listen(url, NULL, &listener), 0);
    CHECK_INT(naru_connect(url, NULL, NARU_S(60), &channel), 0);
    CHECK_INT(naru_accept(listener, NARU_S(60), &accepted), 0);
    child = test_fork();
    if (child == 0) {
        int mine[8];

        /* The numbers that the fork freed are handed out again. */
        for (int i = 0; i < 8; i++)
            CHECK((mine[i] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0);
        (void)naru_channel_close(channel);
        (void)naru_channel_close(accepted);
        (void)naru_listener_close(listener);
        for (int i = 0; i < 8; i++)
            CHECK(fcntl(mine[i], F_GETFD) >= 0);
        _exit(0);
    }
    test_join(child);
    CHECK_INT(naru_send(channel, "still here", 10, NARU_S(60)), 0);
    (void)naru_channel_close(channel);
    (void)naru_channel_close(accepted);
    (void)naru_listener_close(listener);
}

TEST(a_thousand_interruptions_end_one_wait)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ends[2];
    char got[8];

    options.interruptible = 1;
    CHECK_INT(naru_channel_pair("unix:", &options, ends), 0);
    for (int i = 0; i < 1000; i++)
        CHECK_INT(naru_interrupt(ends[0]), 0);
    CHECK_INT(naru_recv(ends[0], got, sizeof got, NARU_FOREVER), -ECANCELED);
    CHECK_INT(naru_recv(ends[0], got, sizeof got, NARU_MS(1)), -ETIMEDOUT);
    (void)naru_channel_close(ends[0]);
    (void)naru_channel_close(ends[1]);
}

TEST(after_the_receiver_left_inside_a_message_a_small_one_fails_too)
{
    enum { LARGE = 1000 * 1000 };
    struct naru_channel *ends[2];
    char *large = calloc(1, LARGE);

    CHECK(large);
    CHECK_INT(naru_channel_pair("unix:", NULL, ends), 0);
    CHECK_INT(naru_send(ends[0], large, LARGE, NARU_NOWAIT), -EINPROGRESS);
    ends[1] = naru_channel_close(ends[1]);
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_send(ends[0], "x", 1, NARU_S(60)), -EPIPE);
    (void)naru_channel_close(ends[0]);
    free(large);
}

/* TEST-NET-1 of RFC 5737, which is nobody's. */
TEST(an_address_of_another_machine_is_none_to_listen_at)
{
    static const char *const urls[] = {"tcp://192.0.2.1:0", "udp://192.0.2.1:0"};

    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        struct naru_listener *l = NULL;

        CHECK_INT(naru_listen(urls[i], NULL, &l), -EADDRNOTAVAIL);
        CHECK_CONTAINS(naru_explain(), "this machine has no such address");
        CHECK(l == NULL);
    }
}

TEST(options_that_no_kernel_call_could_take_are_refused)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ends[2];

    options.buffer = (size_t)1 << 32; /* an int would make 0 of it */
    CHECK_INT(naru_channel_pair("unix:", &options, ends), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "buffer (up to 1073741824)");
    options.buffer = 0;
    options.mode = 01777;
    CHECK_INT(naru_channel_pair("unix:", &options, ends), -EINVAL);
    options.mode = 0;
    options.frame = (enum naru_frame) - 1;
    CHECK_INT(naru_channel_pair("unix:", &options, ends), -EINVAL);
}

static const char *const lenders[] = {"pipe:", "unix:?type=seqpacket", "shm:", "shm:?lanes=2", NULL};

static const char *each_lender(size_t index)
{
    return lenders[index];
}

TEST_EACH(a_struct_of_unknown_size_is_not_written_to, each_lender)
{
    struct naru_gather_from from = {.number = 7};
    struct naru_view view = {.length = 7};
    struct naru_loan loan = {.capacity = 7};
    struct naru_channel *ends[2];
    struct naru_gather *g;
    char byte;

    CHECK_INT(naru_channel_pair(lenders[index], NULL, ends), 0);
    CHECK_INT(naru_loan(ends[0], 1, NARU_NOWAIT, &loan), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "loan.size is 0, not sizeof(struct naru_loan); start from NARU_INIT()");
    CHECK_INT(naru_borrow(ends[1], NARU_NOWAIT, &view), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "view.size is 0, not sizeof(struct naru_view); start from NARU_INIT()");
    CHECK_INT(loan.capacity, 7);
    CHECK_INT(view.length, 7);
    CHECK_INT(naru_send(ends[0], "a", 1, NARU_NOWAIT), 0);
    CHECK_INT(naru_gather_new(&g), 0);
    CHECK_INT(naru_gather_add(g, ends[1], NULL), 0);
    CHECK_INT(naru_gather_recv(g, &byte, 1, NARU_NOWAIT, &from), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "from.size is 0");
    CHECK_INT(from.number, 7);
    CHECK_INT(naru_gather_recv(g, &byte, 1, NARU_NOWAIT, NULL), 1); /* and nothing was lost by that */
    (void)naru_gather_close(g);
    (void)naru_channel_close(ends[0]);
}

static const char *const takers[] = {"pipe:", "unix:", "unix:?type=seqpacket", NULL};

static const char *each_taker(size_t index)
{
    return takers[index];
}

TEST_EACH(what_the_receiver_left_unread_is_not_called_taken, each_taker)
{
    struct naru_channel *ends[2];
    char byte;

    CHECK_INT(naru_channel_pair(takers[index], NULL, ends), 0);
    CHECK_INT(naru_send(ends[0], "a", 1, NARU_NOWAIT), 0);
    (void)naru_channel_close(ends[1]);
    CHECK_INT(naru_flush(ends[0], NARU_TAKEN, NARU_FOREVER), -EPIPE);
    CHECK(naru_recv(ends[0], &byte, 1, NARU_NOWAIT) == -EPIPE);
    CHECK_INT(naru_flush(ends[0], NARU_TAKEN, NARU_FOREVER), -EPIPE); /* and stays so */
    (void)naru_channel_close(ends[0]);
}

TEST_EACH(what_was_received_before_the_close_is_called_taken, each_taker)
{
    struct naru_channel *ends[2];
    char byte;

    CHECK_INT(naru_channel_pair(takers[index], NULL, ends), 0);
    CHECK_INT(naru_send(ends[0], "a", 1, NARU_NOWAIT), 0);
    CHECK_INT(naru_recv(ends[1], &byte, 1, NARU_NOWAIT), 1);
    (void)naru_channel_close(ends[1]);
    CHECK_INT(naru_flush(ends[0], NARU_TAKEN, NARU_FOREVER), 0);
    (void)naru_channel_close(ends[0]);
}

static void *receive_one(void *ch)
{
    char byte;

    CHECK_INT(naru_recv(ch, &byte, 1, NARU_S(60)), 1);
    return NULL;
}

/* Both find an end that nobody owns; one of them takes it. In a child it must be closed all the same. */
TEST(two_threads_may_be_the_first_users_of_an_end_together)
{
    for (int round = 0; round < 200; round++) {
        struct naru_channel *ends[2];
        pthread_t receiver;
        int child;

        CHECK_INT(naru_channel_pair("unix:", NULL, ends), 0);
        CHECK_INT(naru_send(ends[1], "a", 1, NARU_NOWAIT), 0);
        CHECK_INT(pthread_create(&receiver, NULL, receive_one, ends[0]), 0);
        CHECK_INT(naru_send(ends[0], "b", 1, NARU_NOWAIT), 0);
        CHECK_INT(pthread_join(receiver, NULL), 0);
        if (round == 0) {
            child = test_fork();
            if (child == 0) {
                CHECK_INT(ends[0]->rfd, -1);
                (void)naru_channel_close(ends[0]);
                (void)naru_channel_close(ends[1]);
                _exit(0);
            }
            test_join(child);
        }
        (void)naru_channel_close(ends[0]);
        (void)naru_channel_close(ends[1]);
    }
}
