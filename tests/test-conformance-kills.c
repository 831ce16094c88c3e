/* SPDX-License-Identifier: MIT */
/*
 * Random kills: a sender is killed with SIGKILL at a random moment, over and over, over every mechanism. Each
 * send that it saw accepted is noted in shared memory; where the mechanism promises to survive its sender,
 * all of these must arrive, in order and whole, and then the end; nothing else may.
 */
#include "mechanism.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* More than 1,000 in one run, however few variants there are. */
static unsigned kills_per_variant(void)
{
    unsigned variants = 0;

    while (each_variant(variants))
        variants++;
    return 1100 / variants + 1;
}

static void send_for_ever(const struct link *link, struct naru_channel *ch, _Atomic uint64_t *accepted)
{
    for (uint64_t i = 0;; i++) {
        PUT(link, ch, i);
        atomic_store(accepted, i + 1);
    }
}

static void pause_us(uint64_t us)
{
    const struct timespec pause = {.tv_nsec = (long)us * 1000};

    nanosleep(&pause, NULL);
}

/*
 * Whether this is the last line of a sender killed inside it. A line without its newline at the end of a
 * stream is a message, as for text tools, where nobody can tell that its sender was killed: ?frame=len32 is
 * for those who must know.
 */
static bool is_cut_line(const struct link *link, uint64_t number, long long length)
{
    return (link->variant->traits & TEXT) && link_can(link, NARU_CAN_FRAME) && !link_knows_death(link) &&
           length < (long long)message_size(link, number);
}

/* Receives until the end, or, where it cannot be seen, until nothing is left. How many arrived. */
static uint64_t receive_all(const struct link *link, struct naru_channel *ch, uint64_t number,
                            long long *ret_end)
{
    uint8_t buffer[MESSAGE_MAX];
    bool sees = link_can(link, NARU_CAN_SEE_CLOSE);

    for (;; number++) {
        long long r = naru_recv(ch, buffer, sizeof buffer, sees ? NARU_S(WAIT_LONG_S) : NARU_NOWAIT);

        if (r < 0) {
            *ret_end = r;
            return number;
        }
        if (!link_can(link, NARU_CAN_BE_RELIABLE) && (size_t)r >= 8) { /* some may be missing, not mixed up */
            long long said = message_number(link, buffer, (size_t)r);

            CHECK(said >= (long long)number);
            number = (uint64_t)said;
        }
        if (is_cut_line(link, number, r)) {
            *ret_end = naru_recv(ch, buffer, sizeof buffer, NARU_S(WAIT_LONG_S));
            CHECK(*ret_end < 0);
            return number;
        }
        message_check(__FILE__, __LINE__, link, number, buffer, r);
    }
}

static void expect_killed(const struct link *link, long long end)
{
    if (!link_can(link, NARU_CAN_SEE_CLOSE))
        CHECK_INT(end, -EAGAIN);
    else if (end == -EPROTO) /* killed between the two halves of a frame */
        CHECK(link_can(link, NARU_CAN_FRAME));
    else if (link_knows_death(link))
        CHECK_INT(end, -EOWNERDEAD);
    else
        CHECK(says_gone(link, end));
}

/* One sender, killed; how far it had come is left to chance. Returns how many sends were accepted. */
static uint64_t kill_one_sender(size_t index, bool receives_meanwhile)
{
    _Atomic uint64_t *accepted = test_shared(sizeof *accepted);
    struct naru_channel *ch;
    struct link link;
    uint64_t arrived = 0;
    long long end;
    int pid;

    link_open(&link, index, NULL);
    pid = test_fork();
    if (pid == 0)
        send_for_ever(&link, link_far(&link), accepted);
    ch = link_near(&link);
    if (receives_meanwhile && link_can(&link, NARU_CAN_BE_RELIABLE))
        for (uint64_t some = test_random() % 300; arrived < some; arrived++)
            TAKE(&link, ch, arrived);
    else if (receives_meanwhile) /* what may be lost is not waited for; that it has begun is */
        WAIT_UNTIL(atomic_load(accepted) > 0);
    pause_us(test_random() % 500);
    kill_unreaped(pid);
    arrived = receive_all(&link, ch, arrived, &end);
    if (link_can(&link, NARU_CAN_SURVIVE_SENDER)) {
        CHECK(arrived >= *accepted);
        CHECK(arrived <= *accepted + 1); /* one may have been accepted and not yet noted */
    }
    expect_killed(&link, end);
    test_kill(pid);
    naru_channel_close(ch);
    link_close(&link);
    return *accepted;
}

TEST_EACH(what_was_accepted_survives_the_killed_sender, each_variant)
{
    unsigned kills = kills_per_variant();
    uint64_t total = 0;

    for (unsigned i = 0; i < kills; i++)
        total += kill_one_sender(index, i % 2);
    CHECK(total > 0); /* it was not killed before it had begun each time */
}

TEST(a_run_kills_at_least_a_thousand_senders)
{
    unsigned variants = 0;

    while (each_variant(variants))
        variants++;
    CHECK(kills_per_variant() * variants >= 1000);
}

/* Receivers die as well: the sender is told within its wait, or goes on where nobody can tell. */
static void kill_one_receiver(size_t index)
{
    struct naru_channel *ch;
    struct link link;
    uint8_t buffer[MESSAGE_MAX];
    int pid, r = 0;

    link_open(&link, index, NULL);
    pid = test_fork();
    if (pid == 0) {
        link.opened = false;
        ch = link_far(&link);
        if (!link_can(&link, NARU_CAN_DUPLEX))
            for (;;)
                pause();
        PUT(&link, ch, 0); /* who it is, where there are no connections */
        for (;;)
            CHECK_OK(naru_recv(ch, buffer, sizeof buffer, NARU_FOREVER));
    }
    ch = link_near(&link);
    if (link_can(&link, NARU_CAN_DUPLEX)) {
        uint64_t limit = test_random() % 400;

        TAKE(&link, ch, 0);
        for (uint64_t i = 0; i < limit; i++)
            PUT(&link, ch, i);
        kill_unreaped(pid);
        for (uint64_t i = limit; r == 0 && link_can(&link, NARU_CAN_SEE_RECEIVER); i++) {
            message_make(&link, i, buffer, message_size(&link, i));
            r = naru_send(ch, buffer, message_size(&link, i), NARU_S(WAIT_LONG_S));
        }
        if (link_can(&link, NARU_CAN_SEE_RECEIVER))
            CHECK(says_gone(&link, r));
        if (link_can(&link, NARU_CAN_SEE_RECEIVER) && link_knows_death(&link))
            CHECK_INT(r, -EOWNERDEAD);
    }
    test_kill(pid);
    naru_channel_close(ch);
    link_close(&link);
}

TEST_EACH(the_accepting_end_learns_that_the_connecting_end_was_killed, each_variant)
{
    for (int i = 0; i < 15; i++)
        kill_one_receiver(index);
}
