/* SPDX-License-Identifier: MIT */
/*
 * A peer over shared memory that is mad or hostile: it writes what it likes wherever it can write, which is
 * its own memory alone, and does what it likes with the sockets. The other side calls everything there is;
 * AddressSanitizer and the runner's time limit see what must not be. No call may fail but in the ways that
 * are said, and what is broken stays so. test-shm-nonsense.c has chosen attacks, one by one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel/channel.h"
#include "channel/shm/shm.h"
#include "channel/socket-io.h"
#include "naru/naru.h"
#include "runner.h"

enum { SESSIONS = 25, ATTACKS = 4000, CALLS = 3000, VIEWS = 6, LONG = 70000 };

static struct shm_link *link_of(struct naru_channel *ch)
{
    return &((struct shm *)ch->state)->link;
}

/* --- the attacker --- */

static uint64_t dice(uint64_t sides)
{
    return test_random() % sides;
}

/* Values that arithmetic goes wrong with, and some that look right. */
static uint64_t nasty(uint64_t near)
{
    switch (dice(8)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return near + 8 * dice(600);
    case 3:
        return near - 8 * dice(600);
    case 4:
        return near + dice(64);
    case 5:
        return UINT64_C(1) << dice(64);
    case 6:
        return dice(4);
    default:
        return test_random();
    }
}

static uint64_t header(uint64_t ring)
{
    switch (dice(7)) {
    case 0:
        return 0;
    case 1:
        return record_word(RECORD_DATA, (uint32_t)nasty(record_max(ring)));
    case 2:
        return record_word((enum record_kind)dice(256), (uint32_t)dice(100));
    case 3:
        return record_word(RECORD_DATA, (uint32_t)dice(LONG));
    case 4: /* with descriptors that came, or did not */
        return record_word_with_fds(dice(2) ? RECORD_DATA : RECORD_CHUNK, dice(dice(2) ? 3 : 300),
                                    dice(2) ? sizeof(struct shm_chunk) : (uint32_t)dice(100));
    default:
        return record_word(RECORD_DATA, (uint32_t)dice(dice(2) ? 80 : record_max(ring) + 1));
    }
}

/* Any word of the page that may have a meaning, whichever fields layout.h has: those at the beginnings of
 * lines most often. */
static void attack_page(struct shm_page *page)
{
    uint64_t line = dice(offsetof(struct shm_page, reserved) / SHM_LINE), word = dice(1 + dice(SHM_LINE / 4));
    unsigned char *at = (unsigned char *)page + line * SHM_LINE;

    if (line == offsetof(struct shm_page, end) / SHM_LINE && dice(20))
        return; /* often would end each session at once */
    if (dice(2))
        atomic_store((_Atomic uint32_t *)(void *)(at + word * 4), (uint32_t)nasty(1));
    else
        atomic_store((_Atomic uint64_t *)(void *)(at + word / 2 * 8), nasty(1));
}

static void attack_words(struct naru_channel *ch)
{
    struct shm_link *l = link_of(ch);
    uint64_t ring = l->own.ring, at = dice(ring / 8);
    unsigned lane = (unsigned)dice(l->lanes_out);
    const struct ring_writer *tx = shm_link_tx(l, lane);
    struct shm_lane *progress = &l->page->lane[dice(l->lanes_in)];
    _Atomic uint64_t *words = (_Atomic uint64_t *)(void *)sealed_ring_at(&l->own, lane);

    switch (dice(12)) {
    case 0:
        atomic_store(dice(2) ? &progress->taken : &progress->received, nasty(l->rx.position));
        break;
    case 1:
        atomic_store(&l->page->receiver_asleep, (uint32_t)nasty(7) | (dice(2) ? WAKEUP_LOOP : 0));
        atomic_store(&l->page->sender_asleep, (uint32_t)nasty(7));
        break;
    case 2:
        if (dice(20) == 0) /* often would end each session at once */
            atomic_store(&l->page->end, (uint32_t)nasty(1));
        break;
    case 3:
        atomic_store((_Atomic uint64_t *)(void *)(l->own.base + 8 * dice(l->own.plain / 8)), test_random());
        break;
    case 4: /* what the victim reads next, perhaps while it does */
        at = (tx->position & tx->mask) / 8;
        for (int i = 0; i < 50; i++)
            atomic_store(&words[at], header(ring));
        break;
    case 5:
        for (uint64_t i = 0; i < ring / 8; i += 1 + dice(16))
            atomic_store(&words[i], header(ring));
        break;
    case 6: /* a message in the pool, or what came back of ours */
        at = (tx->position & tx->mask) / 8;
        atomic_store(&words[(at + 1) % (ring / 8)],
                     (dice(2) ? nasty(l->own.pool) : SHM_PAGE * dice(100)) << 32 |
                         (uint32_t)(dice(2) ? dice(LONG) : nasty(l->own.pool)));
        atomic_store(&words[at], record_word(RECORD_CHUNK, sizeof(struct shm_chunk)));
        break;
    case 7:
        for (uint64_t n = dice(2 * SHM_RETURNS), i = dice(10); i > 0; i--, n++)
            atomic_store(&l->page->returns[n % SHM_RETURNS],
                         dice(4) ? shm_return(n, (uint32_t)dice(dice(2) ? 10 : SHM_PAGE))
                                 : (uint32_t)nasty(0));
        break;
    case 8: /* both at once, as whoever fences says, and does not */
        atomic_store(&l->page->sender_fences, (uint32_t)nasty(1));
        atomic_store(&l->page->receiver_fences, (uint32_t)nasty(1));
        break;
    case 9:
        attack_page(l->page);
        break;
    default:
        atomic_store(&words[at], dice(2) ? header(ring) : test_random());
        break;
    }
}

static void attack_bell(int fd)
{
    static char bytes[5000];

    switch (dice(64)) {
    case 0:
        (void)shutdown(fd, (int)dice(3));
        break;
    case 1:
        while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
            ;
        break;
    default:
        if (dice(2))
            (void)!send(fd, bytes, 1 + dice(sizeof bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
        else
            (void)!recv(fd, bytes, 1 + dice(sizeof bytes), MSG_DONTWAIT);
    }
}

/* What goes with descriptors: packets that no record tells of, and those that do not say what is right. */
static void attack_passage(struct naru_channel *ch)
{
    uint64_t packet[3] = {dice(2) ? link_of(ch)->tx.position : nasty(0), dice(3)};
    struct msghdr header = {.msg_iov = &(struct iovec){packet, 8 * (1 + dice(3))}, .msg_iovlen = 1};
    int fds[3] = {0, 1, 2};
    union socket_control control;

    socket_put_fds(&header, &control, fds, dice(4));
    (void)sendmsg(ch->side_fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Both sides hold it. What could make the attacker itself wait is done without waiting. */
static void attack_loop_bell(int fd)
{
    uint64_t number = dice(2) ? nasty(1) : UINT64_MAX - 1;

    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    if (dice(2))
        (void)!write(fd, &number, sizeof number);
    else
        (void)!read(fd, &number, sizeof number);
    if (dice(2))
        (void)fcntl(fd, F_SETFL, 0);
}

/* Now and then it does as it should, so that the victim gets somewhere. */
static void behave(struct naru_channel *ch)
{
    char buffer[1000];

    for (uint64_t i = dice(20); i > 0; i--)
        if (dice(2))
            (void)!naru_send(ch, buffer, dice(sizeof buffer), NARU_NOWAIT);
        else
            (void)!naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT);
}

static _Noreturn void attack(struct naru_channel *ch, uint64_t malice)
{
    (void)!naru_send(ch, "first", 5, NARU_NOWAIT);
    for (uint64_t i = dice(ATTACKS); i > 0; i--)
        if (dice(100) >= malice)
            behave(ch);
        else if (dice(8))
            attack_words(ch);
        else if (dice(6) == 0)
            attack_passage(ch);
        else if (dice(4) == 0)
            attack_loop_bell(dice(2) ? ch->loop_bell : ch->their_loop_bell);
        else
            attack_bell(dice(2) ? ch->rfd : ch->wfd);
    if (dice(2))
        (void)raise(SIGKILL);
    _exit(0);
}

/* --- the victim --- */

struct victim {
    struct naru_channel *ch;
    struct naru_view views[VIEWS];
    uint8_t buffer[LONG];
    bool broken; /* said -EPROTO */
    bool over;   /* the peer is gone, or broken */
    bool named;  /* it is known who has gone without a word */
    bool finished;
};

static void judge(struct victim *v, const char *call, long long r)
{
    switch (r) {
    case -EPROTO:
        v->broken = v->over = true;
        break;
    case -EOWNERDEAD:
        CHECK(v->named);
        v->over = true;
        break;
    case -EPIPE:
        v->over = v->over || !v->finished;
        break;
    case -EAGAIN:
    case -ETIMEDOUT:
    case -EMSGSIZE:
    case -EBUSY:
    case -ECANCELED:
        break;
    default:
        if (r < 0)
            test_fail(__FILE__, __LINE__, "%s: %lld: %s", call, r, naru_explain());
    }
}

static int64_t some_timeout(const struct victim *v)
{
    (void)v;
    switch (dice(8)) {
    case 0:
        return NARU_FOREVER; /* ends: the attacker does */
    case 1:
    case 2:
        return NARU_US(300);
    default:
        return NARU_NOWAIT;
    }
}

static size_t some_length(const struct victim *v)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    CHECK_INT(naru_channel_info(v->ch, &info), 0);
    return dice(2) ? dice(100) : dice((info.max_message < LONG ? info.max_message : LONG) + 1);
}

/* AddressSanitizer looks at copies; this looks at what is mapped. */
static void read_all(const void *data, size_t length)
{
    const volatile uint8_t *bytes = data;
    unsigned sum = 0;

    for (size_t i = 0; i < length; i++)
        sum += bytes[i];
    CHECK(sum <= 255 * length);
}

static void call_loan(struct victim *v)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    size_t length = some_length(v);
    int r = naru_loan(v->ch, length, some_timeout(v), &loan);

    judge(v, "loan", r);
    if (r < 0)
        return;
    memset(loan.data, 1, loan.capacity);
    if (dice(4) == 0) {
        naru_loan_cancel(&loan);
        return;
    }
    r = naru_commit(&loan, dice(loan.capacity + 1), NULL);
    judge(v, "commit", r);
    if (r == -EAGAIN || r == -ETIMEDOUT)
        naru_loan_cancel(&loan);
}

/* No message is longer than what it may lie in. */
static void check_length(const struct victim *v, long long length)
{
    const struct sealed *theirs = &link_of(v->ch)->theirs;

    CHECK(length <= (long long)record_max(theirs->ring) || length <= (long long)theirs->pool);
}

/* It lies in what that peer has written, and nobody else. */
static void check_inside(const struct victim *v, const struct naru_view *view)
{
    const struct sealed *theirs = &link_of(v->ch)->theirs;
    const uint8_t *data = view->data, *end = theirs->base + sealed_mapped(theirs);

    CHECK(data >= sealed_ring(theirs) && data <= end && view->length <= (size_t)(end - data));
}

static void call_borrow(struct victim *v)
{
    struct naru_view *view = &v->views[dice(VIEWS)];
    int r;

    naru_release(view);
    *view = (struct naru_view)NARU_INIT(struct naru_view);
    r = naru_borrow(v->ch, some_timeout(v), view);
    judge(v, "borrow", r);
    if (r < 0)
        return;
    check_length(v, (long long)view->length);
    check_inside(v, view);
    read_all(view->data, view->length);
}

static void call_batch(struct victim *v)
{
    struct iovec iov = {v->buffer, dice(300)};
    struct naru_message m[4];

    for (int i = 0; i < 4; i++)
        m[i] = (struct naru_message){.size = sizeof m[i], .iov = &iov, .iov_count = 1};
    judge(v, "batch", naru_send_batch(v->ch, m, 4, some_timeout(v)));
}

static void call_poll(struct victim *v)
{
    struct pollfd fd = {.fd = naru_channel_fd(v->ch), .events = POLLIN};

    CHECK(fd.fd >= 0);
    CHECK(poll(&fd, 1, (int)dice(2)) >= 0);
}

static void call_something(struct victim *v)
{
    long long r;

    switch (dice(v->over ? 8 : 200)) { /* the last few come seldom while it lives */
    case 0:
        judge(v, "flush",
              naru_flush(v->ch, dice(2) ? NARU_TAKEN : NARU_DONE, dice(2) ? NARU_NOWAIT : NARU_US(300)));
        break;
    case 1:
        call_poll(v); /* from now on the short ways are closed */
        break;
    case 2:
        v->finished = dice(8) == 0 || v->finished;
        if (v->finished)
            judge(v, "finish", naru_channel_finish(v->ch));
        break;
    case 3:
        (void)naru_interrupt(v->ch);
        break;
    case 4:
        call_batch(v);
        break;
    default:
        switch (dice(4)) {
        case 0:
            judge(v, "send", naru_send(v->ch, v->buffer, some_length(v), some_timeout(v)));
            break;
        case 1:
            r = naru_recv(v->ch, v->buffer, dice(4) ? sizeof v->buffer : dice(100), some_timeout(v));
            judge(v, "recv", r);
            check_length(v, r);
            break;
        case 2:
            call_loan(v);
            break;
        default:
            call_borrow(v);
        }
    }
}

/* Broken is broken, for both directions. */
static void check_broken(struct victim *v)
{
    struct naru_view view = NARU_INIT(struct naru_view);

    CHECK_INT(naru_recv(v->ch, v->buffer, sizeof v->buffer, NARU_FOREVER), -EPROTO);
    CHECK_INT(naru_borrow(v->ch, NARU_FOREVER, &view), -EPROTO);
    CHECK_INT(naru_send(v->ch, "x", 1, NARU_FOREVER), v->finished ? -EPIPE : -EPROTO);
    CHECK_CONTAINS(naru_explain(), v->finished ? "finish" : "naru cannot have written");
}

static void suffer(struct naru_channel *ch, int attacker, bool named)
{
    struct victim *v = calloc(1, sizeof *v);
    int after = 50; /* calls once it is over */

    CHECK(v != NULL);
    v->ch = ch;
    v->named = named;
    for (int i = 0; i < CALLS && after > 0; i++) {
        call_something(v);
        after -= v->over;
    }
    test_kill(attacker);
    if (v->broken)
        check_broken(v);
    for (size_t i = 0; i < VIEWS; i++) {
        read_all(v->views[i].data, v->views[i].length);
        if (dice(2))
            naru_release(&v->views[i]);
    }
    (void)naru_channel_close(ch);
    for (size_t i = 0; i < VIEWS; i++) { /* they outlive the channel */
        read_all(v->views[i].data, v->views[i].length);
        naru_release(&v->views[i]);
    }
    free(v);
}

enum meeting { PAIR, VICTIM_LISTENS, VICTIM_CONNECTS };

static const struct {
    const char *url;
    int interruptible;
    enum meeting meeting;
} ways[] = {{"shm:?ring=4k&wait=sleep", 0, PAIR},
            {"shm:?ring=16k", 0, PAIR},
            {"shm:?ring=4k&wait=spin", 0, PAIR},
            {"shm:?ring=128k", 1, PAIR},
            {"shm:?ring=4k&lanes=3", 0, PAIR},
            {"shm:?ring=4k&wait=spin&max-message=100", 1, PAIR},
            {"shm://listens?ring=4k&wait=sleep", 0, VICTIM_LISTENS},
            {"shm://listens?ring=16k&pool=128k", 1, VICTIM_LISTENS},
            {"shm://connects?ring=4k&wait=sleep", 0, VICTIM_CONNECTS},
            {"shm://connects?ring=16k&pool=128k", 1, VICTIM_CONNECTS}};

static const char *each_way(size_t index)
{
    return index < sizeof ways / sizeof *ways ? ways[index].url : NULL;
}

/* The attacker's own numbers. */
static void diverge(int session)
{
    for (int i = 0; i <= session; i++)
        (void)test_random();
}

/* Their ends, and the attacker's pid; both may be honest up to here. */
static int pair_with_attacker(size_t index, int session, uint64_t malice, const struct naru_options *options,
                              struct naru_channel **ret_ch)
{
    struct naru_channel *ch[2];
    int pid;

    CHECK_INT(naru_channel_pair(ways[index].url, options, ch), 0);
    pid = test_fork();
    if (pid == 0) {
        diverge(session);
        (void)naru_channel_close(ch[0]);
        attack(ch[1], malice);
    }
    (void)naru_channel_close(ch[1]);
    *ret_ch = ch[0];
    return pid;
}

static int listen_for_attacker(size_t index, int session, uint64_t malice, const struct naru_options *options,
                               struct naru_channel **ret_ch)
{
    struct naru_listener *l;
    int pid;

    CHECK_INT(naru_listen(ways[index].url, options, &l), 0);
    pid = test_fork();
    if (pid == 0) {
        struct naru_channel *ch;

        diverge(session);
        CHECK_INT(naru_connect(ways[index].url, NULL, NARU_FOREVER, &ch), 0);
        attack(ch, malice);
    }
    CHECK_INT(naru_accept(l, NARU_FOREVER, ret_ch), 0);
    (void)naru_listener_close(l);
    return pid;
}

static int connect_to_attacker(size_t index, int session, uint64_t malice, const struct naru_options *options,
                               struct naru_channel **ret_ch)
{
    int pid = test_fork(), r;

    if (pid == 0) {
        struct naru_listener *l;
        struct naru_channel *ch;

        diverge(session);
        CHECK_INT(naru_listen(ways[index].url, NULL, &l), 0);
        CHECK_INT(naru_accept(l, NARU_FOREVER, &ch), 0);
        (void)naru_listener_close(l); /* its name goes */
        attack(ch, malice);
    }
    r = naru_connect(ways[index].url, options, NARU_FOREVER, ret_ch);
    if (r == 0)
        return pid;
    /* It was fast: its page was nonsense already when it was looked at first. */
    CHECK_INT(r, -EPROTO);
    test_kill(pid);
    return connect_to_attacker(index, session, malice, options, ret_ch);
}

TEST_EACH(garbage_in_all_that_a_peer_can_write_harms_nobody, each_way)
{
    static int (*const meet[])(size_t, int, uint64_t, const struct naru_options *, struct naru_channel **) = {
        pair_with_attacker, listen_for_attacker, connect_to_attacker};
    struct naru_options options = NARU_INIT(struct naru_options);

    options.interruptible = ways[index].interruptible;
    for (int session = 0; session < SESSIONS; session++) {
        uint64_t malice = dice(2) ? 100 : 5 + dice(60);
        struct naru_channel *ch;
        int pid;

        (void)test_random(); /* the attacker goes on with numbers of its own */
        pid = meet[ways[index].meeting](index, session, malice, &options, &ch);
        suffer(ch, pid, ways[index].meeting != PAIR);
    }
}
