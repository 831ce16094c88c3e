/* SPDX-License-Identifier: MIT */
/* The pool: where chunks lie, how they come back, and what is made of returns and descriptions that no code
 * of ours can have written. */
#include "shm/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "naru/error.h"
#include "runner.h"

enum { PAGES = 64, POOL = PAGES * SHM_PAGE, SMALL_RING = 4096 };

/* Both sides, each with its own mapping, and the receiver's page. */
struct bank {
    struct sealed own, theirs;
    struct shm_page *page;
    struct pool pool;
    struct pool_reader reader;
};

static void open_bank(struct bank *b, size_t size)
{
    int fd;

    CHECK_INT(sealed_make("test", "test", SHM_PAGE, SMALL_RING, size, &b->own, &fd), 0);
    CHECK_INT(sealed_attach("test", fd, SHM_PAGE, SMALL_RING, size, &b->theirs), 0);
    CHECK_INT(close(fd), 0);
    b->page = aligned_alloc(SHM_PAGE, SHM_PAGE);
    CHECK(b->page != NULL);
    memset(b->page, 0, SHM_PAGE);
    pool_init(&b->pool, &b->own, b->page);
    pool_reader_init(&b->reader, &b->theirs, b->page);
}

static void close_bank(struct bank *b)
{
    sealed_deinit(&b->own);
    sealed_deinit(&b->theirs);
    free(b->page);
}

static unsigned take(struct bank *b, uint64_t length)
{
    unsigned slot = SHM_RETURNS;

    CHECK_INT(pool_find(&b->pool, length), RING_OK);
    CHECK_INT(pool_take(&b->pool, length, &slot), 0);
    CHECK(slot < SHM_RETURNS);
    return slot;
}

static struct shm_chunk pass(struct bank *b, uint64_t length, uint8_t fill)
{
    unsigned slot = take(b, length);
    struct shm_chunk sent, got = {0, 0};

    memset(pool_data(&b->pool, slot), fill, length);
    sent = pool_send(&b->pool, slot, (uint32_t)length);
    CHECK_INT(pool_read(&b->reader, (const uint8_t *)&sent, &got), RING_OK);
    CHECK_INT(pool_reach(&b->reader, &got), 0);
    return got;
}

static void check_filled(const struct bank *b, const struct shm_chunk *chunk, uint8_t fill)
{
    const uint8_t *data = b->reader.base + shm_chunk_offset(*chunk);

    for (uint32_t i = 0; i < chunk->length; i++)
        CHECK_INT(data[i], fill);
}

/* Bytes of the memory that are reserved, in pages. */
static unsigned resident(const struct bank *b)
{
    unsigned char pages[PAGES];
    unsigned count = 0;

    CHECK_INT(mincore(sealed_pool(&b->own), POOL, pages), 0);
    for (unsigned i = 0; i < PAGES; i++)
        count += pages[i] & 1;
    return count;
}

TEST(every_size_from_a_byte_to_the_whole_pool_is_read_as_written)
{
    static const uint32_t sizes[] = {1,           2,        4095,  4096,     4097,         8191,
                                     8192,        8193,     30000, POOL / 2, POOL / 2 + 1, POOL - 4096,
                                     POOL - 4095, POOL - 1, POOL};
    struct bank b;

    open_bank(&b, POOL);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct shm_chunk chunk = pass(&b, sizes[i], (uint8_t)(i + 1));

        CHECK_INT(chunk.length, sizes[i]);
        /* What is in the caches already is used again, by turns if it is of as many pages. */
        CHECK(shm_chunk_offset(chunk) <= (sizes[i] <= 2 * SHM_PAGE ? 4 * SHM_PAGE : 0));
        check_filled(&b, &chunk, (uint8_t)(i + 1));
        pool_return(&b.reader, shm_chunk_token(chunk));
    }
    close_bank(&b);
}

TEST(nothing_is_reserved_before_it_is_reached)
{
    struct shm_chunk first, second;
    struct bank b;

    open_bank(&b, POOL);
    CHECK_INT(resident(&b), 0);
    first = pass(&b, 3 * SHM_PAGE, 1);
    CHECK_INT(resident(&b), 3);
    second = pass(&b, 1, 2);
    CHECK_INT(resident(&b), 4);
    pool_return(&b.reader, shm_chunk_token(first));
    first = pass(&b, 2 * SHM_PAGE, 3);
    CHECK_INT(resident(&b), 4);
    CHECK_INT(shm_chunk_offset(second), 3 * SHM_PAGE);
    close_bank(&b);
}

TEST(a_full_pool_says_so_until_something_comes_back)
{
    struct shm_chunk half[2];
    struct bank b;

    open_bank(&b, POOL);
    half[0] = pass(&b, POOL / 2, 1);
    half[1] = pass(&b, POOL / 2, 2);
    CHECK_INT(pool_find(&b.pool, 1), RING_FULL);
    pool_return(&b.reader, shm_chunk_token(half[0]));
    CHECK_INT(pool_find(&b.pool, POOL / 2 + 1), RING_FULL);
    CHECK_INT(pool_find(&b.pool, POOL / 2), RING_OK);
    pool_return(&b.reader, shm_chunk_token(half[1]));
    CHECK_INT(pool_find(&b.pool, POOL), RING_OK); /* the two gaps are one */
    close_bank(&b);
}

TEST(no_more_chunks_are_out_than_returns_have_words)
{
    struct shm_chunk chunks[SHM_RETURNS];
    struct bank b;

    open_bank(&b, (SHM_RETURNS + 1) * SHM_PAGE);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < SHM_RETURNS; i++)
            chunks[i] = pass(&b, 1, 1);
        CHECK_INT(pool_find(&b.pool, 1), RING_FULL);
        for (unsigned i = 0; i < SHM_RETURNS; i++)
            pool_return(&b.reader, shm_chunk_token(chunks[i * 7 % SHM_RETURNS]));
        CHECK_INT(pool_find(&b.pool, 1), RING_OK);
        CHECK_INT(b.pool.sent, 0);
    }
    close_bank(&b);
}

enum { TOUCHED = 0, UNTOUCHED = 1 };

/* As a loan is made: the short way, or the long one. As if nobody (somebody) could have read all of them in
 * the meantime. */
static struct shm_chunk lend_as(struct bank *b, uint64_t length, int how)
{
    unsigned slot;

    b->pool.then = how == UNTOUCHED ? INT64_MAX : 0;
    if (!pool_take_kept(&b->pool, length, &slot) && !pool_take_again(&b->pool, length, &slot))
        slot = take(b, length);
    return pool_send(&b->pool, slot, (uint32_t)length);
}

static struct shm_chunk lend(struct bank *b, uint64_t length)
{
    return lend_as(b, length, TOUCHED);
}

TEST(chunks_of_one_size_take_turns_and_the_page_is_looked_at_once_a_turn)
{
    uint64_t seen = 0;
    unsigned looks = 0;
    struct bank b;

    open_bank(&b, POOL);
    for (unsigned i = 0; i < 100 * POOL_TURN; i++) {
        struct shm_chunk chunk = lend(&b, 1 + i % SHM_PAGE);

        CHECK(shm_chunk_offset(chunk) < POOL_TURN * SHM_PAGE);
        looks += b.pool.seen != seen;
        seen = b.pool.seen;
        pool_return(&b.reader, shm_chunk_token(chunk));
    }
    CHECK(looks <= 100 + POOL_TURN); /* while the first turn lasts, each time */
    CHECK_INT(resident(&b), POOL_TURN);
    close_bank(&b);
}

TEST(what_is_kept_is_there_for_another_size)
{
    struct bank b;

    open_bank(&b, POOL);
    for (unsigned i = 0; i < POOL_TURN; i++)
        pool_return(&b.reader, shm_chunk_token(lend(&b, POOL / POOL_TURN)));
    CHECK_INT(shm_chunk_offset(lend(&b, POOL)), 0);
    CHECK_INT(pool_find(&b.pool, 1), RING_FULL);
    close_bank(&b);
}

TEST(a_turn_that_was_longer_than_is_needed_becomes_shorter)
{
    struct shm_chunk out[PAGES];
    struct bank b;

    open_bank(&b, POOL);
    for (unsigned i = 0; i < PAGES; i++)
        out[i] = lend(&b, 1);
    CHECK_INT(b.pool.used, PAGES);
    for (unsigned i = 0; i < PAGES; i++)
        pool_return(&b.reader, shm_chunk_token(out[i]));
    for (unsigned i = 0; i < PAGES * PAGES; i++)
        pool_return(&b.reader, shm_chunk_token(lend(&b, 1)));
    CHECK_INT(b.pool.used, POOL_TURN);
    close_bank(&b);
}

TEST(more_take_turns_while_nobody_can_have_touched_them)
{
    enum { OUT = POOL_TURN - 2 };
    struct shm_chunk out[OUT];
    struct bank b;

    open_bank(&b, POOL);
    for (unsigned i = 0; i < PAGES * PAGES; i++)
        pool_return(&b.reader, shm_chunk_token(lend_as(&b, 1, UNTOUCHED)));
    CHECK_INT(b.pool.used, POOL_TURN); /* nothing is out for long */
    for (unsigned i = 0; i < PAGES * PAGES; i++) {
        if (i >= OUT)
            pool_return(&b.reader, shm_chunk_token(out[i % OUT]));
        out[i % OUT] = lend_as(&b, 1, UNTOUCHED);
    }
    CHECK_INT(b.pool.used, POOL_TURN_MOST);
    for (unsigned i = 0; i < OUT; i++)
        pool_return(&b.reader, shm_chunk_token(out[i]));
    for (unsigned i = 0; i < PAGES * PAGES; i++)
        pool_return(&b.reader, shm_chunk_token(lend(&b, 1)));
    CHECK_INT(b.pool.used, POOL_TURN);
    close_bank(&b);
}

TEST(large_chunks_do_not_take_turns)
{
    enum { LARGE = POOL_TURN_BYTES };
    struct bank b;

    open_bank(&b, 2 * LARGE);
    for (unsigned i = 0; i < 4; i++) {
        struct shm_chunk chunk = lend(&b, LARGE);

        CHECK_INT(shm_chunk_offset(chunk), 0);
        pool_return(&b.reader, shm_chunk_token(chunk));
    }
    CHECK_INT(b.pool.reached, LARGE);
    close_bank(&b);
}

TEST(chunks_that_are_out_never_overlap_in_any_order)
{
    enum { OUT = 20 };
    struct shm_chunk chunks[OUT];
    bool out[OUT] = {false};
    struct bank b;

    open_bank(&b, POOL);
    for (unsigned i = 0; i < 5000; i++) {
        size_t k = test_random() % OUT;
        uint64_t length = 1 + test_random() % (10 * SHM_PAGE);

        if (out[k]) {
            check_filled(&b, &chunks[k], (uint8_t)k);
            pool_return(&b.reader, shm_chunk_token(chunks[k]));
            out[k] = false;
        } else if (pool_find(&b.pool, length) == RING_OK) {
            chunks[k] = pass(&b, length, (uint8_t)k);
            out[k] = true;
        }
    }
    close_bank(&b);
}

TEST(a_loan_that_is_cancelled_leaves_its_gap)
{
    struct bank b;
    unsigned slot;

    open_bank(&b, POOL);
    slot = take(&b, POOL);
    CHECK_INT(pool_find(&b.pool, 1), RING_FULL);
    pool_cancel(&b.pool, slot);
    CHECK_INT(pool_find(&b.pool, POOL), RING_OK);
    close_bank(&b);
}

/* Each begins with a pool that has sent one chunk. */
static void check_refused(void (*forge)(struct bank *b, uint32_t token))
{
    struct shm_chunk chunk, other;
    struct bank b;

    open_bank(&b, POOL);
    other = pass(&b, 1, 1);
    chunk = pass(&b, 1, 1);
    pool_return(&b.reader, shm_chunk_token(other));
    CHECK_INT(pool_find(&b.pool, 1), RING_OK);
    forge(&b, shm_chunk_token(chunk));
    CHECK_INT(pool_find(&b.pool, 1), RING_BROKEN);
    close_bank(&b);
}

static void return_twice(struct bank *b, uint32_t token)
{
    pool_return(&b->reader, token);
    pool_return(&b->reader, token);
}

static void return_twice_in_turn(struct bank *b, uint32_t token)
{
    (void)pass(b, 1, 1);
    pool_return(&b->reader, token);
    CHECK_INT(pool_find(&b->pool, 1), RING_OK);
    pool_return(&b->reader, token);
}

/* After its slot went out again. */
static void return_an_old_one(struct bank *b, uint32_t token)
{
    pool_return(&b->reader, token);
    for (unsigned i = 0; i <= POOL_TURN && !(i > 0 && pool_is_out(&b->pool, token % SHM_RETURNS)); i++)
        (void)pass(b, 1, 1);
    CHECK_INT(b->pool.slots[token % SHM_RETURNS].out, (token + 0x100) % SHM_PAGE);
    pool_return(&b->reader, token);
}

static void return_another(struct bank *b, uint32_t token)
{
    pool_return(&b->reader, token ^ 0x100);
}

static void return_a_loan(struct bank *b, uint32_t token)
{
    (void)token;
    pool_return(&b->reader, b->pool.slots[take(b, 1)].token);
}

/* Of another time around the ring of returns than this one and the last. */
static void return_ahead(struct bank *b, uint32_t token)
{
    atomic_store(&b->page->returns[b->pool.seen], shm_return(SHM_RETURNS + b->pool.seen, token));
}

static void return_at_random(struct bank *b, uint32_t token)
{
    atomic_store(&b->page->returns[b->pool.seen], UINT32_MAX - token);
}

TEST(returns_of_what_is_not_out_are_refused)
{
    check_refused(return_twice);
    check_refused(return_twice_in_turn);
    check_refused(return_an_old_one);
    check_refused(return_another);
    check_refused(return_a_loan);
    check_refused(return_ahead);
    check_refused(return_at_random);
}

/* Where a word stands from the last time around, or nothing ever did, nothing came back, whatever its token.
 */
TEST(words_of_the_last_time_around_are_no_returns)
{
    struct shm_chunk chunk;
    struct bank b;

    open_bank(&b, POOL);
    chunk = pass(&b, 1, 1);
    for (unsigned i = 0; i < 2 * SHM_RETURNS; i++) {
        atomic_store(&b.page->returns[i % SHM_RETURNS],
                     shm_return(b.pool.seen, shm_chunk_token(chunk)) - SHM_PAGE);
        CHECK_INT(pool_collect(&b.pool), RING_OK);
        CHECK_INT(b.pool.sent, 1);
        pool_return(&b.reader, shm_chunk_token(chunk));
        CHECK_INT(pool_collect(&b.pool), RING_OK);
        CHECK_INT(b.pool.sent, 0);
        chunk = pass(&b, 1, 1);
    }
    close_bank(&b);
}

/* Both counts of times around have 20 bits. */
TEST(returns_go_on_when_their_count_of_times_around_begins_anew)
{
    enum { BEFORE = 3 };
    uint64_t n = ((UINT64_C(1) << 20) - 1) * SHM_RETURNS - BEFORE;
    struct bank b;

    open_bank(&b, POOL);
    for (uint64_t i = 0; i < SHM_RETURNS; i++) /* as they would have been left */
        atomic_store(&b.page->returns[(n - 1 - i) % SHM_RETURNS], shm_return(n - 1 - i, 0));
    b.pool.seen = b.reader.returned = n;
    for (unsigned i = 0; i < 2 * SHM_RETURNS; i++) {
        struct shm_chunk chunk = pass(&b, 1, 1);

        CHECK_INT(pool_collect(&b.pool), RING_OK);
        CHECK_INT(b.pool.sent, 1);
        pool_return(&b.reader, shm_chunk_token(chunk));
        CHECK_INT(pool_collect(&b.pool), RING_OK);
        CHECK_INT(b.pool.sent, 0);
    }
    close_bank(&b);
}

TEST(descriptions_beyond_the_pool_are_refused)
{
    static const struct shm_chunk wrong[] = {
        {1, POOL},       {POOL, SHM_PAGE},         {POOL + 1, 0},   {UINT32_MAX, 0},
        {1, UINT32_MAX}, {UINT32_MAX, UINT32_MAX}, {0, UINT32_MAX}, {SHM_PAGE + 1, POOL - SHM_PAGE}};
    static const struct shm_chunk right[] = {
        {0, POOL}, {SHM_PAGE, POOL - SHM_PAGE}, {POOL, 0}, {SHM_PAGE, POOL - SHM_PAGE + SHM_TOKEN}};
    struct shm_chunk got;
    struct bank b;

    open_bank(&b, POOL);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK(!pool_is_reached(&b.reader, &wrong[i]));
        CHECK_INT(pool_read(&b.reader, (const uint8_t *)&wrong[i], &got), RING_BROKEN);
    }
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        CHECK_INT(pool_read(&b.reader, (const uint8_t *)&right[i], &got), RING_OK);
        CHECK_INT(pool_reach(&b.reader, &got), 0); /* though the sender never reserved it */
        check_filled(&b, &got, 0);
    }
    close_bank(&b);
}

TEST(memory_is_not_attached_whose_pool_is_larger_than_agreed_or_whose_ring_is_not_reserved)
{
    struct sealed own, theirs;
    int fd;

    CHECK_INT(sealed_make("test", "test", SHM_PAGE, SMALL_RING, POOL, &own, &fd), 0);
    CHECK_INT(sealed_attach("test", fd, SHM_PAGE, SMALL_RING, 0, &theirs), -EPROTO);
    CHECK_INT(sealed_attach("test", fd, SHM_PAGE, SMALL_RING, POOL - SHM_PAGE, &theirs), -EPROTO);
    /* Taken for a longer ring, which then has holes. */
    CHECK_INT(sealed_attach("test", fd, SHM_PAGE, 2 * SMALL_RING, POOL, &theirs), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "reserved");
    CHECK_INT(sealed_attach("test", fd, SHM_PAGE, SMALL_RING, POOL, &theirs), 0);
    sealed_deinit(&theirs);
    sealed_deinit(&own);
    CHECK_INT(close(fd), 0);
}
