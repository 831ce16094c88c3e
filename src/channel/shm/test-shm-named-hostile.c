/* SPDX-License-Identifier: MIT */
/*
 * Peers of shm+posix: and shm+sysv: that write what they like. They share fate with us: messages may be lost
 * or be nonsense. But whatever stands in the segment, nothing outside of it is read or written (run this
 * under AddressSanitizer), no call runs for ever, and the name serves whoever comes next.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel/shm/named.h"
#include "channel/shm/test-shm-named.h"

enum { RING = 8192 };

static const char *const urls[] = {"shm+posix:/hostile?ring=8k", "shm+sysv:0x686f7374?ring=8k"};

static const char *each_kind(size_t index)
{
    return index < sizeof urls / sizeof *urls ? urls[index] : NULL;
}

static void check_still_serves(struct naru_listener *l, const char *url)
{
    struct naru_channel *far = connect_to(url), *near = accept_from(l);

    check_carries(far, near);
    naru_channel_close(far);
    naru_channel_close(near);
}

/* --- at random --- */

/* Where a peer can write: all of it. */
struct target {
    uint8_t *base;
    size_t length;
};

static void targets_of(struct naru_channel *ch, struct target ret[3])
{
    struct shm *shm = ch->state;

    ret[0] = (struct target){(uint8_t *)shm->seat->memory.header, 1024};
    ret[1] = (struct target){shm->link.own.base, SHM_PAGE + RING};
    ret[2] = (struct target){shm->link.theirs.base, SHM_PAGE + RING};
}

static uint64_t nasty_word(void)
{
    switch (test_random() % 8) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return record_word(RECORD_DATA, (uint32_t)(test_random() % (RING + 64)));
    case 3:
        return record_word(RECORD_CHUNK, sizeof(struct shm_chunk));
    case 4:
        return test_random() % (4 * RING) & ~UINT64_C(7);
    case 5:
        return test_random() % 4;
    case 6:
        return record_word_with_fds(RECORD_DATA, test_random() % 300, (uint32_t)(test_random() % RING));
    default:
        return test_random();
    }
}

/* The words of the first lines are what the other side reads most. */
static void scribble(const struct target targets[3])
{
    const struct target *t = &targets[test_random() % 3];
    size_t reach = test_random() % 2 ? t->length : 1024;
    size_t at = (size_t)(test_random() % (reach / 8)) * 8;

    atomic_store_explicit((_Atomic uint64_t *)(void *)(t->base + at), nasty_word(), memory_order_relaxed);
}

static _Noreturn void be_hostile(const char *url)
{
    struct naru_channel *ch = connect_to(url);
    struct target targets[3];

    targets_of(ch, targets);
    for (int i = 0; i < 20; i++) /* so that there is something to spoil */
        if (naru_send(ch, "honest", 7, NARU_NOWAIT) < 0)
            break;
    for (;;)
        scribble(targets);
}

/* Whatever a call may say of such a peer. */
static void check_answer(long long r)
{
    if (r < 0 && r != -EPROTO && r != -EAGAIN && r != -ETIMEDOUT && r != -EPIPE && r != -EOWNERDEAD &&
        r != -EMSGSIZE)
        test_fail(__FILE__, __LINE__, "%lld: %s", r, naru_explain());
}

/* AddressSanitizer sees nothing of what is mapped beside the segment. */
static void check_inside(struct naru_channel *ch, const struct naru_view *view)
{
    const struct sealed *theirs = &((struct shm *)ch->state)->link.theirs;
    const uint8_t *data = view->data, *end = theirs->base + sealed_mapped(theirs);

    CHECK(data >= sealed_ring(theirs) && data <= end && view->length <= (size_t)(end - data));
}

static void use(struct naru_channel *ch, struct naru_view *view, bool *borrowed)
{
    static uint8_t bytes[RING];
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    int64_t timeout = test_random() % 2 ? NARU_NOWAIT : NARU_US(100);
    int r;

    switch (test_random() % 6) {
    case 0:
    case 1:
        check_answer(naru_recv(ch, bytes, test_random() % sizeof bytes, timeout));
        break;
    case 2:
        check_answer(naru_send(ch, bytes, test_random() % (RING / 2 - 16), timeout));
        break;
    case 3:
        r = naru_loan(ch, test_random() % (RING / 2 - 16), timeout, &loan);
        check_answer(r);
        if (r == 0) {
            memset(loan.data, 'l', loan.capacity);
            check_answer(naru_commit(&loan, loan.capacity, NULL));
        }
        break;
    case 4:
        if (*borrowed) {
            for (size_t i = 0; i < view->length; i += 61)
                bytes[0] ^= ((const uint8_t *)view->data)[i];
            naru_release(view);
        }
        r = naru_borrow(ch, timeout, view);
        check_answer(r);
        *borrowed = r == 0;
        if (r == 0)
            check_inside(ch, view);
        break;
    default:
        check_answer(naru_flush(ch, NARU_TAKEN, timeout));
        break;
    }
}

TEST_EACH(a_peer_that_writes_garbage_everywhere_harms_nothing_else, each_kind)
{
    enum { ROUNDS = 30, CALLS = 300 };
    struct naru_listener *l = listen_at(urls[index]);

    for (int round = 0; round < ROUNDS; round++) {
        struct naru_view view = NARU_INIT(struct naru_view);
        struct naru_channel *near;
        bool borrowed = false;
        int peer = test_fork();

        if (peer == 0)
            be_hostile(urls[index]);
        near = accept_from(l);
        for (int i = 0; i < CALLS; i++)
            use(near, &view, &borrowed);
        test_kill(peer);
        for (int i = 0; i < CALLS; i++) /* and what it left */
            use(near, &view, &borrowed);
        naru_channel_close(near);
        if (borrowed)
            naru_release(&view);
    }
    check_still_serves(l, urls[index]);
    naru_listener_close(l);
}

/* --- chosen --- */

TEST_EACH(a_header_that_is_none_ends_the_connection, each_kind)
{
    static const uint64_t words[] = {1,
                                     UINT64_MAX,
                                     (uint64_t)RECORD_DATA << 56 | RING,
                                     (uint64_t)RECORD_DATA << 56 | UINT32_MAX,
                                     (uint64_t)(RECORD_DATA + 100) << 56 | 5,
                                     (uint64_t)RECORD_DATA << 56 | UINT64_C(1) << 32,
                                     (uint64_t)RECORD_CHUNK << 56 | UINT64_C(253) << 32 | 8};
    struct naru_listener *l = listen_at(urls[index]);

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        struct naru_channel *far = connect_to(urls[index]), *near = accept_from(l);
        struct shm_link *link = &((struct shm *)far->state)->link;
        char byte;

        atomic_store(ring_header(link->tx.data, link->tx.mask, 0), words[i]);
        CHECK_INT(naru_recv(near, &byte, 1, NARU_FOREVER), -EPROTO);
        CHECK_INT(naru_send(near, "x", 1, NARU_FOREVER), -EPROTO);
        naru_channel_close(far);
        naru_channel_close(near);
    }
    naru_listener_close(l);
}

/* What we wrote ourselves is nothing to go by either. */
TEST_EACH(our_own_words_overwritten_are_not_believed, each_kind)
{
    struct naru_listener *l = listen_at(urls[index]);
    struct naru_channel *far = connect_to(urls[index]), *near = accept_from(l);
    struct shm_link *link = &((struct shm *)near->state)->link;
    char text[8];

    for (uint64_t i = 0; i < 100; i++) {
        memset((uint8_t *)link->page + SHM_LINE, (int)(i * 37), SHM_PAGE - SHM_LINE);
        atomic_store(&link->page->end, SHM_GOES_ON);
        atomic_store(&link->page->lane[0].taken, link->rx.position);
        CHECK_INT(naru_send(far, "words", 6, NARU_NOWAIT), 0);
        CHECK_INT(naru_recv(near, text, sizeof text, NARU_FOREVER), 6);
        CHECK_STR(text, "words");
        CHECK_INT(naru_send(near, "back", 5, NARU_NOWAIT), 0);
        CHECK_INT(naru_recv(far, text, sizeof text, NARU_FOREVER), 5);
    }
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}

/* What stands under the name, as a listener may have written it. */
static void lie(const char *name, size_t at, uint32_t word)
{
    struct naru_segment *segment = NULL;

    CHECK_INT(naru_segment_open(name, 0, NULL, &segment), 0);
    memcpy((uint8_t *)naru_segment_data(segment) + at, &word, sizeof word);
    naru_segment_close(segment);
}

TEST_EACH(a_segment_that_lies_of_itself_is_refused_or_used_within_its_bounds, each_kind)
{
    const char *name = test_format("%.*s", (int)strcspn(urls[index], "?"), urls[index]);

    for (size_t i = 0; i < 4 * (offsetof(struct shm_shared, joined) / 4); i++) {
        uint32_t words[] = {0, UINT32_MAX, (uint32_t)test_random(), 1U << (test_random() % 32)};
        struct naru_channel *far = NULL;
        struct naru_listener *l = listen_at(urls[index]);
        int r;

        lie(name, i / 4 * 4, words[i % 4]);
        r = naru_connect(name, NULL, NARU_NOWAIT, &far);
        if (r == 0) { /* a word that may be so, or means nothing */
            static uint8_t bytes[RING];

            while ((r = naru_send(far, bytes, 1000, NARU_NOWAIT)) == 0)
                ;
            check_answer(r);
            naru_channel_close(far);
        } else if (r != -EPROTO && r != -EINVAL && r != -EAGAIN && r != -EEXIST) {
            test_fail(__FILE__, __LINE__, "word %#x at %zu: %d: %s", words[i % 4], i / 4 * 4, r,
                      naru_explain());
        }
        naru_listener_close(l);
    }
    naru_listener_close(listen_at(urls[index]));
}
