/* SPDX-License-Identifier: MIT */
/* Channels of shm: that a child adopts while its parent has views of them: whose they are then, and that no
 * room is lost. */
#include <errno.h>
#include <string.h>

#include "channel/shm/shm.h"
#include "naru/naru.h"
#include "runner.h"

enum { SMALL = 500, LARGE = 3000, VIEWS = 2, MESSAGES = 200 };

static const int64_t patience = NARU_S(60);

/* Where the messages lie; two views are half of the room there, or all of it. */
static const struct {
    const char *label, *url;
    size_t size;
    unsigned lane;
} kinds[] = {
    {"ring", "shm:?ring=4k", 2 * SMALL, 0},
    {"lane", "shm:?ring=4k&lanes=2", 2 * SMALL, 1},
    {"pool", "shm:?ring=4k&pool=8k", LARGE, 0},
};

/* In which order the child does what: a and b release a view, A adopts. */
static const char *const orders[] = {"Aab", "Aba", "abA", "baA", "aAb", "bAa"};

enum { KINDS = sizeof kinds / sizeof *kinds, ORDERS = sizeof orders / sizeof *orders };

static const char *each_order(size_t index)
{
    return index < (size_t)KINDS * ORDERS
               ? test_format("%s, %s", kinds[index / ORDERS].label, orders[index % ORDERS])
               : NULL;
}

static void open_kept(size_t kind, struct naru_channel *ch[2])
{
    struct naru_options options = NARU_INIT(struct naru_options);

    options.keep_on_fork = 1;
    CHECK_INT(naru_channel_pair(kinds[kind].url, &options, ch), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_channel_adopt(ch[i]), 0);
}

static void put(struct naru_channel *ch, size_t kind, int number)
{
    struct naru_message m = NARU_INIT(struct naru_message);
    char bytes[LARGE];
    struct iovec piece = {bytes, kinds[kind].size};

    memset(bytes, number, kinds[kind].size);
    m.iov = &piece;
    m.iov_count = 1;
    m.priority = kinds[kind].lane;
    CHECK_INT(naru_send_message(ch, &m, patience), 0);
}

static void check_view(const struct naru_view *view, size_t kind, int number)
{
    const unsigned char *bytes = view->data;

    CHECK_INT(view->length, kinds[kind].size);
    CHECK_INT(bytes[0], number & 0xff);
    CHECK_INT(bytes[view->length - 1], number & 0xff);
}

/* Borrows what was sent from that number on, each message while the one before is still out. */
static void borrow_all(struct naru_channel *ch, size_t kind, int number)
{
    struct naru_view views[2] = {NARU_INIT(struct naru_view), NARU_INIT(struct naru_view)};

    for (; number < MESSAGES; number++) {
        CHECK_INT(naru_borrow(ch, patience, &views[number % 2]), 0);
        check_view(&views[number % 2], kind, number);
        if (number > VIEWS)
            check_view(&views[!(number % 2)], kind, number - 1);
        naru_release(&views[!(number % 2)]);
    }
    naru_release(&views[!(number % 2)]);
}

static void act(char action, struct naru_channel *ch, struct naru_view *views)
{
    if (action == 'A')
        CHECK_INT(naru_channel_adopt(ch), 0);
    else
        naru_release(&views[action - 'a']);
}

TEST_EACH(views_are_the_adopters_and_their_room_comes_back, each_order)
{
    struct naru_view views[VIEWS] = {NARU_INIT(struct naru_view), NARU_INIT(struct naru_view)};
    size_t kind = index / ORDERS;
    struct naru_channel *ch[2];
    struct test_gate adopted;
    int pid;

    test_gate_init(&adopted);
    open_kept(kind, ch);
    for (int i = 0; i < VIEWS; i++) {
        put(ch[0], kind, i);
        CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &views[i]), 0);
    }
    pid = test_fork();
    if (pid == 0) {
        ch[0] = naru_channel_close(ch[0]);
        for (int i = 0; i < VIEWS; i++)
            check_view(&views[i], kind, i);
        for (int i = 0; i < 3; i++)
            act(orders[index % ORDERS][i], ch[1], views);
        test_gate_open(&adopted);
        borrow_all(ch[1], kind, VIEWS);
        ch[1] = naru_channel_close(ch[1]);
        test_child_end();
    }
    test_gate_wait(&adopted);
    ch[1] = naru_channel_close(ch[1]);
    for (int i = 0; i < VIEWS; i++) /* its copies say nothing once the channel is closed */
        naru_release(&views[i]);
    for (int i = VIEWS; i < MESSAGES; i++)
        put(ch[0], kind, i);
    CHECK_INT(naru_flush(ch[0], NARU_DONE, patience), 0);
    test_join(pid);
    ch[0] = naru_channel_close(ch[0]);
}

static const char *each_kind(size_t index)
{
    return index < KINDS ? kinds[index].label : NULL;
}

/* The child takes what stands in the ring, with views of before the fork out. */
TEST_EACH(an_adopter_receives_on_while_it_has_its_parents_views, each_kind)
{
    struct naru_view view = NARU_INIT(struct naru_view);
    struct naru_channel *ch[2];
    char copy[LARGE];
    int pid;

    open_kept(index, ch);
    put(ch[0], index, 0);
    put(ch[0], index, 1);
    CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &view), 0);
    pid = test_fork();
    if (pid == 0) {
        ch[0] = naru_channel_close(ch[0]);
        CHECK_INT(naru_channel_adopt(ch[1]), 0);
        CHECK_INT(naru_recv(ch[1], copy, sizeof copy, patience), (long long)kinds[index].size);
        CHECK_INT(copy[0], 1);
        check_view(&view, index, 0);
        ch[1] = naru_channel_close(ch[1]);
        check_view(&view, index, 0); /* of a channel that is closed, as ever */
        naru_release(&view);
        test_child_end();
    }
    ch[1] = naru_channel_close(ch[1]);
    naru_release(&view);
    test_join(pid);
    ch[0] = naru_channel_close(ch[0]);
}

/* Nobody's memory is lost, which the sanitizers see, and nothing is said. */
TEST_EACH(who_does_not_adopt_releases_copies, each_kind)
{
    struct naru_view views[VIEWS] = {NARU_INIT(struct naru_view), NARU_INIT(struct naru_view)};
    struct naru_channel *ch[2];
    int pid;

    open_kept(index, ch);
    for (int i = 0; i < VIEWS; i++) {
        put(ch[0], index, i);
        CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &views[i]), 0);
    }
    pid = test_fork();
    if (pid == 0) {
        naru_release(&views[1]);
        for (int i = 0; i < 2; i++)
            ch[i] = naru_channel_close(ch[i]);
        check_view(&views[0], index, 0);
        naru_release(&views[0]);
        test_child_end();
    }
    test_join(pid);
    CHECK_INT(naru_flush(ch[0], NARU_DONE, NARU_NOWAIT), -EAGAIN);
    for (int i = 0; i < VIEWS; i++) {
        check_view(&views[i], index, i);
        naru_release(&views[i]);
    }
    CHECK_INT(naru_flush(ch[0], NARU_DONE, NARU_NOWAIT), 0);
    for (int i = 0; i < 2; i++)
        ch[i] = naru_channel_close(ch[i]);
}
