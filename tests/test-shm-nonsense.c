/* SPDX-License-Identifier: MIT */
/*
 * A hostile peer over shared memory, one chosen attack at a time, and what the other side says to it
 * (test-shm-hostile.c has the random ones). Both ends are in one process, which writes into the one's memory
 * what only that one can write.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel/channel.h"
#include "channel/shm/shm.h"
#include "naru/naru.h"
#include "runner.h"

static struct shm_link *link_of(struct naru_channel *ch)
{
    return &((struct shm *)ch->state)->link;
}

static struct shm_link *open_pair(struct naru_channel *ch[2])
{
    CHECK_INT(naru_channel_pair("shm:?ring=4k", NULL, ch), 0);
    CHECK_INT(naru_send(ch[1], "first", 5, NARU_NOWAIT), 0); /* the attacker's end has an owner */
    return link_of(ch[1]);
}

static void close_pair(struct naru_channel *ch[2])
{
    for (int i = 0; i < 2; i++)
        ch[i] = naru_channel_close(ch[i]);
}

static void expect_protocol_error(struct naru_channel *ch)
{
    struct naru_view view = NARU_INIT(struct naru_view);
    char buffer[100];

    for (int i = 0; i < 2; i++) {
        CHECK_INT(naru_recv(ch, buffer, sizeof buffer, i ? NARU_FOREVER : NARU_NOWAIT), -EPROTO);
        CHECK_INT(naru_send(ch, "x", 1, i ? NARU_FOREVER : NARU_NOWAIT), -EPROTO);
        CHECK_INT(naru_borrow(ch, NARU_S(60), &view), -EPROTO);
        CHECK_INT(naru_flush(ch, NARU_TAKEN, NARU_S(60)), -EPROTO);
    }
    CHECK(test_is_readable(naru_channel_fd(ch)));
}

TEST(a_header_of_nonsense_is_a_protocol_error)
{
    static const uint64_t words[] = {1,
                                     UINT64_MAX,
                                     (uint64_t)RECORD_DATA << 56 | 4096,
                                     (uint64_t)RECORD_DATA << 56 | 2033,
                                     (uint64_t)RECORD_DATA << 56 | UINT32_MAX,
                                     (uint64_t)(RECORD_DATA + 100) << 56 | 5,
                                     (uint64_t)RECORD_DATA << 56 | UINT64_C(1) << 40,
                                     (uint64_t)RECORD_DATA << 56 | UINT64_C(254) << 32};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        struct naru_channel *ch[2];
        struct shm_link *l = open_pair(ch);
        char buffer[100];

        atomic_store(ring_header(l->tx.data, l->tx.mask, l->tx.position), words[i]);
        CHECK_INT(naru_recv(ch[0], buffer, sizeof buffer, NARU_FOREVER), 5);
        CHECK_INT(naru_recv(ch[0], buffer, sizeof buffer, NARU_FOREVER), -EPROTO);
        CHECK_CONTAINS(naru_explain(), "naru cannot have written");
        atomic_store(ring_header(l->tx.data, l->tx.mask, l->tx.position), 0); /* too late */
        expect_protocol_error(ch[0]);
        close_pair(ch);
    }
}

TEST(a_position_of_nonsense_is_a_protocol_error)
{
    static const uint64_t positions[] = {8000, UINT64_MAX - 7, 9, UINT64_C(1) << 63};

    for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
        struct naru_channel *ch[2];
        struct shm_link *l = open_pair(ch);
        char buffer[1000] = {0};
        int r;

        atomic_store(&l->page->lane[0].taken, positions[i]);
        while ((r = naru_send(ch[0], buffer, sizeof buffer, NARU_S(60))) == 0)
            ;
        CHECK_INT(r, -EPROTO);
        atomic_store(&l->page->lane[0].taken, 0);
        expect_protocol_error(ch[0]);
        close_pair(ch);
    }
}

TEST(what_cannot_have_been_received_is_a_protocol_error)
{
    static const uint64_t positions[] = {24, 8000, INT64_MAX};

    for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
        struct naru_channel *ch[2];
        struct shm_link *l = open_pair(ch);

        CHECK_INT(naru_send(ch[0], "12345678", 8, NARU_NOWAIT), 0); /* 16 bytes of the ring */
        atomic_store(&l->page->lane[0].received, UINT64_MAX - 7);   /* of an earlier time: means nothing */
        CHECK_INT(naru_flush(ch[0], NARU_TAKEN, NARU_NOWAIT), -EAGAIN);
        atomic_store(&l->page->lane[0].received, positions[i]);
        CHECK_INT(naru_flush(ch[0], NARU_TAKEN, NARU_NOWAIT), -EPROTO);
        expect_protocol_error(ch[0]);
        close_pair(ch);
    }
}

TEST(an_end_of_nonsense_is_a_protocol_error)
{
    struct naru_channel *ch[2];
    struct shm_link *l = open_pair(ch);

    atomic_store(&l->page->end, 77);
    expect_protocol_error(ch[0]);
    close_pair(ch);
}

TEST(an_end_that_is_taken_back_is_a_protocol_error)
{
    struct naru_channel *ch[2];
    struct shm_link *l = open_pair(ch);
    char buffer[100];

    CHECK_INT(naru_channel_finish(ch[1]), 0);
    CHECK_INT(naru_recv(ch[0], buffer, sizeof buffer, NARU_FOREVER), 5);
    CHECK_INT(naru_recv(ch[0], buffer, sizeof buffer, NARU_FOREVER), -EPIPE);
    atomic_store(&l->page->end, 0);
    expect_protocol_error(ch[0]);
    close_pair(ch);
}

/* Fills its ring with good headers. */
static void fill_with_headers(struct shm_link *l)
{
    for (uint64_t at = 0; at < l->own.ring; at += 16)
        atomic_store(ring_header(l->tx.data, l->tx.mask, at), record_word(RECORD_DATA, 8));
}

/* Likewise; both stand `before` bytes from the next 4 GiB. */
static void make_endless(struct naru_channel *ch[2], uint64_t before)
{
    struct shm_link *l = link_of(ch[1]), *victim = link_of(ch[0]);
    uint64_t position = (UINT64_C(1) << 32) - before;

    victim->rx.position = position;
    atomic_store(&victim->page->lane[0].taken, position);
    l->tx.position = l->tx.taken = position;
    fill_with_headers(l);
}

/* By each way of receiving. How many came before what is not a message. */
enum { WAYS = 3, MOST = 1000 * 1000 };

static int count_messages(struct naru_channel *ch, int way, long long *ret_end)
{
    struct naru_view view = NARU_INIT(struct naru_view);
    char buffer[100];
    long long r = 0;
    int count = 0;

    for (; r >= 0 && count < MOST; count++) {
        if (way == 2)
            r = naru_borrow(ch, NARU_FOREVER, &view);
        else
            r = naru_recv(ch, buffer, sizeof buffer, way ? NARU_S(60) : NARU_FOREVER);
        if (way == 2 && r == 0)
            naru_release(&view);
    }
    *ret_end = r;
    return count - 1;
}

enum { RECORDS = 4096 / 16, BEFORE = 10000 };

/* Who receives "until the end" comes to one: its bells hang up without a word, as of who is killed. */
TEST(a_ring_without_end_ends_with_its_writer)
{
    for (int way = 0; way < WAYS; way++) {
        struct naru_channel *ch[2];
        long long end;

        (void)open_pair(ch);
        make_endless(ch, BEFORE * 16);
        CHECK_INT(shutdown(ch[1]->rfd, SHUT_WR), 0);
        CHECK_INT(shutdown(ch[1]->wfd, SHUT_WR), 0);
        CHECK_INT(count_messages(ch[0], way, &end), BEFORE + RECORDS);
        CHECK_INT(end, -EPROTO);
        close_pair(ch);
    }
}

/* Who has said that it sends no more is believed for what the ring can hold, whether it lives or not. The
 * short ways (0 and 2) do not look at what it says until they ask whether there is anybody. */
TEST(a_ring_without_end_ends_with_what_its_writer_says)
{
    for (int said = SHM_FINISHED; said <= SHM_CLOSED; said++)
        for (int way = 0; way < WAYS; way++) {
            struct naru_channel *ch[2];
            struct shm_link *l = open_pair(ch);
            long long end;

            make_endless(ch, BEFORE * 16);
            atomic_store(&l->page->end, (uint32_t)said);
            CHECK_INT(count_messages(ch[0], way, &end), way == 1 ? RECORDS : BEFORE);
            CHECK_INT(end, -EPROTO);
            close_pair(ch);
        }
}

/* A send of who connects again drops what two listeners ago nobody received, and counts it. */
TEST(a_ring_without_end_holds_up_nobody_who_connects_again)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    const char *url = test_format("shm://%s/s?ring=4k", test_directory());
    struct naru_channel *far, *near[2];
    struct naru_listener *l;

    CHECK_INT(naru_listen(url, NULL, &l), 0);
    CHECK_INT(naru_connect(test_format("%s&reconnect=yes", url), NULL, NARU_S(60), &far), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(naru_send(far, "x", 1, NARU_S(60)), 0);
        CHECK_INT(naru_accept(l, NARU_S(60), &near[i]), 0);
        fill_with_headers(link_of(near[i]));
        atomic_store(&link_of(near[i])->page->end, SHM_CLOSED);
        CHECK_INT(naru_send(far, "x", 1, NARU_S(60)), -EPIPE);
    }
    CHECK_INT(naru_channel_info(far, &info), 0);
    CHECK_INT(info.dropped, RECORDS);
    far = naru_channel_close(far);
    for (int i = 0; i < 2; i++)
        near[i] = naru_channel_close(near[i]);
    l = naru_listener_close(l);
}

static const enum naru_stage stages[] = {NARU_TAKEN, NARU_DONE};

static const char *each_stage(size_t index)
{
    return index < 2 ? test_format("stage %d", (int)stages[index]) : NULL;
}

/* A bell that is full of bytes, as of who rings all the while, is left so: it is not all read first. */
TEST_EACH(a_flush_ends_at_its_limit_whoever_rings, each_stage)
{
    static const char bytes[5000];
    struct naru_channel *ch[2];
    int sent = 0, left = 0;

    (void)open_pair(ch);
    CHECK_INT(naru_send(ch[0], "x", 1, NARU_NOWAIT), 0);
    while (send(ch[1]->wfd, bytes, sizeof bytes, MSG_DONTWAIT) == sizeof bytes)
        sent += (int)sizeof bytes;
    CHECK_INT(naru_flush(ch[0], stages[index], 1), -ETIMEDOUT);
    CHECK_INT(ioctl(ch[0]->wfd, FIONREAD, &left), 0);
    CHECK(left > sent / 2);
    close_pair(ch);
}

/* Each send finds another ticket, and rings a bell that nobody hears: of either kind, or a socket because of
 * the other kind's want. */
static const struct {
    const char *name;
    uint32_t kind;
    bool lost;
} bells[] = {{"the socket", 0, false}, {"for a loop", WAKEUP_LOOP, false}, {"for want", WAKEUP_LOOP, true}};

static const char *each_bell(size_t index)
{
    return index < sizeof bells / sizeof *bells ? bells[index].name : NULL;
}

TEST_EACH(a_bell_that_is_full_holds_up_no_sender, each_bell)
{
    struct naru_channel *ch[2];
    struct shm_link *l = open_pair(ch);

    if (bells[index].lost)
        link_of(ch[0])->their_receiver.loop_fd = -1;
    for (uint32_t i = 1; i < 20000; i++) {
        atomic_store(&l->page->receiver_asleep, i | bells[index].kind);
        CHECK_INT(naru_send(ch[0], "x", 1, NARU_FOREVER), 0);
        atomic_store(&l->page->lane[0].taken, link_of(ch[0])->tx.position);
    }
    close_pair(ch);
}

/* Since Linux 6.5; the number that x86, Arm, RISC-V and most others have (asm-generic/socket.h). */
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

static int lowest_free_descriptor(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    CHECK(fd >= 0);
    CHECK_INT(close(fd), 0);
    return fd;
}

/* Who connects may keep copies of the bells that it passes, and ask the kernel for a pidfd beside each byte.
 */
TEST(a_bell_that_brings_pidfds_takes_no_descriptor)
{
    static const int on = 1;
    struct naru_channel *ch[2];
    char buffer[100];
    bool brings;
    int lowest;

    (void)open_pair(ch);
    brings = setsockopt(ch[0]->rfd, SOL_SOCKET, SO_PASSPIDFD, &on, sizeof on) == 0;
    CHECK_INT(naru_recv(ch[0], buffer, sizeof buffer, NARU_FOREVER), 5);
    lowest = lowest_free_descriptor();
    for (int i = 0; i < 20 && brings; i++) {
        CHECK_INT(send(ch[1]->rfd, "x", 1, MSG_NOSIGNAL), 1);
        CHECK_INT(naru_recv(ch[0], buffer, sizeof buffer, NARU_NOWAIT), -EAGAIN);
        CHECK_INT(lowest_free_descriptor(), lowest);
    }
    close_pair(ch);
    if (!brings)
        test_skip("no SO_PASSPIDFD before Linux 6.5");
}

/* What is in the ring is received; then it is gone, although it lives. */
TEST(bells_that_are_half_closed_are_the_end)
{
    for (int which = 0; which < 2; which++) {
        struct naru_channel *ch[2];
        char buffer[2000] = {0};
        int r = 0;

        (void)open_pair(ch);
        CHECK_INT(shutdown(which ? ch[1]->wfd : ch[1]->rfd, SHUT_WR), 0);
        CHECK_INT(naru_recv(ch[0], buffer, sizeof buffer, NARU_FOREVER), 5);
        if (which == 0)
            CHECK_INT(naru_recv(ch[0], buffer, sizeof buffer, NARU_FOREVER), -EPIPE);
        while (r == 0)
            r = naru_send(ch[0], buffer, sizeof buffer, NARU_FOREVER);
        CHECK_INT(r, -EPIPE);
        CHECK_INT(naru_recv(ch[0], buffer, sizeof buffer, NARU_FOREVER), -EPIPE);
        close_pair(ch);
    }
}

/* --- every word of the page --- */

/* What is looked at while a connection lasts. */
#define FIELD(name)                                                                                          \
    {                                                                                                        \
        offsetof(struct shm_page, name), sizeof(((struct shm_page *)0)->name)                                \
    }
static const struct {
    size_t begin, size;
} fields[] = {FIELD(sender_fences),
              FIELD(receiver_fences),
              FIELD(receiver_asleep),
              FIELD(sender_asleep),
              FIELD(end),
              FIELD(returns),
              FIELD(lane)};
#undef FIELD

static bool is_looked_at(size_t offset)
{
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (offset + 4 > fields[i].begin && offset < fields[i].begin + fields[i].size)
            return true;
    return false;
}

enum { CALLS = 11 };

/* All calls, with somebody whose page is what it is; what each gave. */
static void try_all(struct naru_channel *ch, long long results[CALLS])
{
    struct naru_view view = NARU_INIT(struct naru_view);
    char buffer[3000] = {0}; /* so many go by the pool */
    size_t i = 0;

    results[i++] = naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT);
    results[i++] = naru_send(ch, buffer, 1000, NARU_NOWAIT);
    results[i++] = naru_recv(ch, buffer, sizeof buffer, 1);
    results[i++] = naru_borrow(ch, NARU_NOWAIT, &view);
    results[i++] = naru_flush(ch, NARU_TAKEN, 1);
    results[i++] = naru_send(ch, buffer, sizeof buffer, 1);
    results[i++] = naru_flush(ch, NARU_DONE, NARU_NOWAIT);
    for (int sends = 0; sends < 4; sends++) /* the last finds no room */
        results[i++] = naru_send(ch, buffer, 1000, 1);
    CHECK_INT(i, CALLS);
}

/* With that value in that word of the peer's page. */
static void try_word(size_t offset, uint32_t value, long long results[CALLS])
{
    struct naru_channel *ch[2];
    struct shm_link *l = open_pair(ch);

    atomic_store((_Atomic uint32_t *)(void *)((unsigned char *)l->page + offset), value);
    try_all(ch[0], results);
    close_pair(ch);
    for (size_t i = 0; i < CALLS; i++)
        if (results[i] < 0 && results[i] != -EAGAIN && results[i] != -ETIMEDOUT && results[i] != -EPIPE)
            CHECK_INT(results[i], -EPROTO);
}

/* Whatever fields the page has: all of it, word by word. What is none of them changes nothing. */
TEST(any_word_of_the_page_may_be_anything)
{
    static const uint32_t values[] = {0, 1, 2, 8, UINT32_MAX, 1U << 31};
    long long usual[CALLS], results[CALLS];
    size_t others = 0;

    try_word(offsetof(struct shm_page, reserved), 0, usual);
    CHECK_INT(usual[0], 5);
    CHECK_INT(usual[CALLS - 1], -ETIMEDOUT);
    for (size_t offset = 0; offset < SHM_PAGE; offset += 4)
        for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
            try_word(offset, values[i], results);
            if (memcmp(results, usual, sizeof usual) == 0)
                continue;
            others++;
            if (!is_looked_at(offset))
                test_fail(__FILE__, __LINE__, "%u at byte %zu of the page is looked at, and is no field here",
                          values[i], offset);
        }
    CHECK(others > 10);
}
