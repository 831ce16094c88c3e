/* SPDX-License-Identifier: MIT */
/* A link's two sides in one process: what is attached, who is rung for what, and what an end may say. */
#include "shm/link.h"

#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner-syscalls.h"
#include "runner.h"

enum { RING = 16 * 1024 };

struct sides {
    struct shm_link links[2];
    int sockets[2][2]; /* of receivers, and of senders: [side] */
};

static void open_sides(struct sides *s)
{
    struct sealed own[2], theirs[2];
    int fds[2];

    for (int i = 0; i < 2; i++) {
        CHECK_INT(shm_link_make("shm:", RING, 0, &own[i], &fds[i]), 0);
        CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s->sockets[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_INT(shm_link_attach("shm:", fds[!i], RING, 0, &theirs[i]), 0);
        shm_link_init(&s->links[i], &own[i], &theirs[i], s->sockets[0][i], s->sockets[1][i]);
        CHECK(!own[i].base && !theirs[i].base); /* taken */
        shm_link_claim(&s->links[i]);
    }
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void close_sides(struct sides *s)
{
    for (int i = 0; i < 2; i++) {
        shm_link_deinit(&s->links[i]);
        (void)close(s->sockets[i][0]);
        (void)close(s->sockets[i][1]);
    }
}

static void put(struct shm_link *l, uint32_t number)
{
    uint8_t *payload = NULL;

    CHECK_INT(ring_reserve(&l->tx, sizeof number, &payload), RING_OK);
    memcpy(payload, &number, sizeof number);
    ring_commit(&l->tx, RECORD_DATA, sizeof number);
    waker_published(&l->their_receiver);
}

static void take(struct shm_link *l, uint32_t number)
{
    struct ring_record record = {0};

    CHECK_INT(ring_peek(&l->rx, &record), RING_OK);
    CHECK_INT(record.length, sizeof number);
    CHECK(memcmp(record.data, &number, sizeof number) == 0);
    ring_release(&l->rx, record.length);
    waker_published(&l->their_sender);
}

TEST(both_sides_send_and_wake_the_right_sleeper)
{
    struct sides s;

    open_sides(&s);
    for (uint32_t i = 0; i < 2000; i++) { /* over the end of the ring */
        struct shm_link *from = &s.links[i & 1], *to = &s.links[!(i & 1)];

        sleeper_arm(&to->receiver);
        put(from, i);
        CHECK_INT(sleeper_take(&to->receiver), 0);
        CHECK_INT(sleeper_take(&to->sender), -EAGAIN);
        sleeper_arm(&from->sender);
        take(to, i);
        CHECK_INT(sleeper_take(&from->sender), 0);
        CHECK_INT(sleeper_take(&from->receiver), -EAGAIN);
    }
    CHECK(s.links[0].page->lane[0].taken == s.links[1].tx.position);
    close_sides(&s);
}

TEST(a_waker_fences_exactly_where_it_could_not_register)
{
    struct sides s;

    open_sides(&s);
    CHECK(!s.links[0].their_receiver.fences && !s.links[0].their_sender.fences);
    test_refuse_call(SYS_membarrier, ENOSYS);
    shm_link_claim(&s.links[0]);
    CHECK(s.links[0].their_receiver.fences == WAKER_ALWAYS && s.links[0].their_sender.fences == WAKER_ALWAYS);
    close_sides(&s);
}

static void spoil(void (*spoiler)(struct shm_page *))
{
    struct sealed own, theirs = {.plain = 7};
    int fd = -1;

    CHECK_INT(shm_link_make("shm:", RING, 0, &own, &fd), 0);
    CHECK_INT(shm_link_attach("shm:", fd, 2 * RING, 0, &theirs), -EPROTO);
    spoiler((struct shm_page *)(void *)own.base);
    CHECK_INT(shm_link_attach("shm:", fd, RING, 0, &theirs), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "not laid out");
    CHECK(theirs.plain == 7);
    sealed_deinit(&own);
    (void)close(fd);
}

static void spoil_magic(struct shm_page *page)
{
    page->magic ^= 1;
}

static void spoil_layout(struct shm_page *page)
{
    page->layout++;
}

static void spoil_line(struct shm_page *page)
{
    page->line = 128;
}

static void spoil_ring(struct shm_page *page)
{
    page->ring *= 2;
}

TEST(memory_of_another_layout_is_refused)
{
    spoil(spoil_magic);
    spoil(spoil_layout);
    spoil(spoil_line);
    spoil(spoil_ring);
}

/* Who has finished goes on receiving: its sender's bell is the other thread's to ring. */
TEST(ends_ring_whom_they_concern)
{
    struct sides s;
    struct shm_link *a, *b;

    open_sides(&s);
    a = &s.links[0], b = &s.links[1];
    sleeper_arm(&b->receiver);
    sleeper_arm(&b->sender);
    CHECK_INT(shm_link_their_end(b), SHM_GOES_ON);
    put(a, 1);
    CHECK_INT(sleeper_take(&b->receiver), 0);
    sleeper_arm(&b->receiver);
    shm_link_end(a, SHM_FINISHED);
    CHECK_INT(shm_link_their_end(b), SHM_FINISHED);
    CHECK_INT(sleeper_take(&b->receiver), 0);
    CHECK_INT(sleeper_take(&b->sender), -EAGAIN);
    take(b, 1); /* what was sent before is there */
    put(b, 2);
    take(a, 2);
    CHECK_INT(sleeper_take(&b->sender), 0);
    sleeper_arm(&b->receiver);
    sleeper_arm(&b->sender);
    shm_link_end(a, SHM_CLOSED);
    CHECK_INT(shm_link_their_end(b), SHM_CLOSED);
    CHECK_INT(sleeper_take(&b->receiver), 0);
    CHECK_INT(sleeper_take(&b->sender), 0);
    CHECK(!b->broken && !b->gone);
    close_sides(&s);
}

TEST(an_end_cannot_be_taken_back_and_must_be_one)
{
    static const uint32_t nonsense[] = {3, 1000, UINT32_MAX};
    struct sides s;

    open_sides(&s);
    shm_link_end(&s.links[0], SHM_FINISHED);
    CHECK_INT(shm_link_their_end(&s.links[1]), SHM_FINISHED);
    CHECK(!s.links[1].broken);
    atomic_store(&s.links[0].page->end, SHM_GOES_ON);
    CHECK_INT(shm_link_their_end(&s.links[1]), SHM_CLOSED);
    CHECK(s.links[1].broken);
    close_sides(&s);
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        open_sides(&s);
        atomic_store(&s.links[0].page->end, nonsense[i]);
        CHECK_INT(shm_link_their_end(&s.links[1]), SHM_CLOSED);
        CHECK(s.links[1].broken);
        close_sides(&s);
    }
}

TEST(the_short_ways_end_with_what_stands_against_them)
{
    static void (*const end[])(struct shm_link *) = {shm_link_lose, shm_link_break};
    struct sides s;
    struct shm_link *l = &s.links[1];

    open_sides(&s);
    CHECK(shm_link_may_send(l) && shm_link_may_receive(l));
    shm_link_end(&s.links[0], SHM_FINISHED);
    CHECK(!shm_link_may_send(l)); /* until it is known */
    CHECK_INT(shm_link_their_end(l), SHM_FINISHED);
    CHECK(shm_link_may_send(l) && shm_link_may_receive(l));
    shm_link_end(&s.links[0], SHM_CLOSED);
    CHECK(!shm_link_may_send(l));
    CHECK_INT(shm_link_their_end(l), SHM_CLOSED);
    CHECK(!shm_link_may_send(l) && shm_link_may_receive(l));
    close_sides(&s);
    for (size_t i = 0; i < sizeof end / sizeof *end; i++) {
        open_sides(&s);
        end[i](l);
        CHECK(!shm_link_may_send(l) && !shm_link_may_receive(l));
        shm_link_go_on(l); /* though the other side is asked after all, or says something else */
        atomic_store(&s.links[0].page->end, SHM_FINISHED);
        (void)shm_link_their_end(l);
        CHECK(!shm_link_may_send(l) && !shm_link_may_receive(l));
        atomic_store(&s.links[0].page->end, (uint32_t)SHM_NO_END);
        CHECK(!shm_link_may_send(l));
        close_sides(&s);
    }
}

TEST(who_receives_much_asks_from_time_to_time_whether_there_is_anybody)
{
    struct sides s;
    struct shm_link *l = &s.links[1];

    open_sides(&s);
    l->rx.position = SHM_FAR - 8;
    CHECK(shm_link_may_receive(l));
    l->rx.position = SHM_FAR;
    CHECK(!shm_link_may_receive(l));
    shm_link_go_on(l);
    CHECK(shm_link_may_receive(l));
    l->rx.position = 3 * SHM_FAR - 8;
    shm_link_go_on(l);
    CHECK(shm_link_may_receive(l));
    l->rx.position = 3 * SHM_FAR;
    CHECK(!shm_link_may_receive(l));
    close_sides(&s);
}

static void *watch_the_end(void *argument)
{
    struct shm_link *l = argument;
    enum shm_end last = SHM_GOES_ON;

    while (last != SHM_CLOSED) {
        enum shm_end end = shm_link_their_end(l);

        CHECK(end >= last);
        last = end;
    }
    return NULL;
}

/* The one that sends and the one that receives may find it out at the same time. */
TEST(two_threads_learn_of_an_honest_end)
{
    for (int round = 0; round < 200; round++) {
        pthread_t threads[2];
        struct sides s;

        open_sides(&s);
        for (int i = 0; i < 2; i++)
            CHECK_INT(pthread_create(&threads[i], NULL, watch_the_end, &s.links[1]), 0);
        shm_link_end(&s.links[0], SHM_FINISHED);
        shm_link_end(&s.links[0], SHM_CLOSED);
        for (int i = 0; i < 2; i++)
            CHECK_INT(pthread_join(threads[i], NULL), 0);
        CHECK(!s.links[1].broken);
        close_sides(&s);
    }
}
