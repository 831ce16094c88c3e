/* SPDX-License-Identifier: MIT */
/*
 * What cannot be is told, and in which words: one test for each thing that validate.h looks at. That what our
 * code leaves is found to be right is what the tests by kill points ask of it, after each kill.
 */
#include "shm/validate.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "naru/error.h"
#include "naru/shm.h"
#include "runner.h"

enum { RING = 4096, POOL = 16 * SHM_PAGE };

/* Both sides of a connection that nobody uses. */
struct pair {
    struct shm_link link[2];
    struct pool pool;
};

static void open_pair(struct pair *p)
{
    struct sealed own[2] = {{0}, {0}}, theirs[2] = {{0}, {0}};

    for (int i = 0; i < 2; i++) {
        int fd = -1;

        CHECK_INT(shm_link_make("shm:", RING, POOL, &own[i], &fd), 0);
        CHECK_INT(shm_link_attach("shm:", fd, RING, SHM_POOL_MOST, &theirs[!i]), 0);
        close(fd);
    }
    for (int i = 0; i < 2; i++)
        shm_link_init(&p->link[i], &own[i], &theirs[i], -1, -1);
    pool_init(&p->pool, &p->link[0].own, p->link[0].their_page);
}

static void close_pair(struct pair *p)
{
    for (int i = 0; i < 2; i++)
        shm_link_deinit(&p->link[i]);
}

static void send(struct pair *p, enum record_kind kind, const void *data, uint32_t length)
{
    CHECK_INT(ring_put(&p->link[0].tx, kind, data, length), RING_OK);
}

/* Side 1 looks at what side 0 has sent. */
static void expect_wrong(struct pair *p, int side, const char *words)
{
    CHECK_INT(validate_link("shm:", &p->link[side]), -EPROTO);
    CHECK_CONTAINS(naru_explain(), words);
}

TEST(a_link_that_is_used_is_valid_on_both_sides)
{
    static const uint8_t data[RING];
    struct pair p;
    struct sealed *theirs = &p.link[1].theirs;

    open_pair(&p);
    for (int i = 0; i < 2000; i++) {
        struct ring_record record;
        uint8_t *payload;

        if (test_random() % 2 && ring_reserve(&p.link[0].tx, 500, &payload) == RING_OK)
            send(&p, RECORD_DATA, data, (uint32_t)test_random() % 500);
        else if (ring_peek(&p.link[1].rx, &record) == RING_OK)
            ring_release(&p.link[1].rx, record.length);
        CHECK_INT(validate_link("shm:", &p.link[0]), 0);
        CHECK_INT(validate_link("shm:", &p.link[1]), 0);
    }
    (void)munmap(sealed_pool(theirs) + SHM_PAGE, theirs->pool - SHM_PAGE); /* who maps less of the pool */
    theirs->pool = SHM_PAGE;
    CHECK_INT(validate_link("shm:", &p.link[1]), 0);
    close_pair(&p);
}

TEST(headers_that_are_none)
{
    struct pair p;

    open_pair(&p);
    send(&p, RECORD_DATA, "12345678", 8);
    atomic_store(ring_header(p.link[0].tx.data, RING - 1, 16), record_word(RECORD_DATA, RING));
    expect_wrong(&p, 1, "shm:: at 16 is no record, by its header 0x100000000001000");
    atomic_store(ring_header(p.link[0].tx.data, RING - 1, 16), UINT64_C(9) << 56);
    expect_wrong(&p, 1, "at 16 is no record");
    atomic_store(ring_header(p.link[0].tx.data, RING - 1, 16), record_word(RECORD_DATA, 0));
    CHECK_INT(validate_link("shm:", &p.link[1]), 0); /* so it may be: a record more */
    expect_wrong(&p, 0, "what was sent ends at 32, and not at 16");
    for (uint64_t at = 0; at < RING; at += 16)
        atomic_store(ring_header(p.link[0].tx.data, RING - 1, at), record_word(RECORD_DATA, 0));
    expect_wrong(&p, 1, "the records from 0 on fill more than a ring of 4096 bytes, with no header of 0");
    close_pair(&p);
}

TEST(positions_that_cannot_be)
{
    struct pair p;

    open_pair(&p);
    send(&p, RECORD_DATA, "12345678", 8);
    ring_release(&p.link[1].rx, 8 + 16); /* further than there is anything */
    expect_wrong(&p, 0, "the peer has taken up to 32 of 16");
    atomic_store(p.link[1].rx.taken, 4);
    expect_wrong(&p, 0, "the position 4 is no multiple of 8");
    atomic_store(p.link[1].rx.taken, 8); /* in the middle of a record */
    expect_wrong(&p, 0, "at 8 is no record");
    close_pair(&p);
}

TEST(pages_that_do_not_say_what_they_are)
{
    struct pair p;

    open_pair(&p);
    atomic_store(&p.link[0].page->end, 3);
    expect_wrong(&p, 0, "our end is 3, which is none");
    expect_wrong(&p, 1, "the peer's end is 3, which is none");
    atomic_store(&p.link[0].page->end, SHM_CLOSED);
    CHECK_INT(validate_link("shm:", &p.link[1]), 0);
    p.link[0].page->layout++;
    expect_wrong(&p, 1, "the peer's page does not say what it is");
    p.link[0].page->layout--;
    p.link[0].page->pool++;
    expect_wrong(&p, 0, "our page does not say what it is");
    close_pair(&p);
}

TEST(chunks_that_cannot_be)
{
    struct shm_chunk chunk = {.place = 2 * SHM_PAGE, .length = SHM_PAGE + 1};
    struct pair p;

    open_pair(&p);
    send(&p, RECORD_CHUNK, &chunk, sizeof chunk);
    CHECK_INT(validate_link("shm:", &p.link[1]), 0);
    chunk.place = 4 * SHM_PAGE;
    send(&p, RECORD_CHUNK, &chunk, sizeof chunk);
    CHECK_INT(validate_link("shm:", &p.link[1]), 0);
    chunk = (struct shm_chunk){.place = 3 * SHM_PAGE, .length = 1}; /* the first one's second page */
    send(&p, RECORD_CHUNK, &chunk, sizeof chunk);
    expect_wrong(&p, 1,
                 "the record at 32 describes a chunk at 12288 of the pool that overlaps another at 8192");
    ring_release(&p.link[1].rx, sizeof chunk); /* that is not there any more */
    CHECK_INT(validate_link("shm:", &p.link[1]), 0);
    chunk = (struct shm_chunk){.place = POOL - SHM_PAGE, .length = SHM_PAGE + 1};
    send(&p, RECORD_CHUNK, &chunk, sizeof chunk);
    expect_wrong(&p, 1, "the record at 48 describes no chunk of a pool of 65536 bytes");
    close_pair(&p);
}

static void expect_pool(struct pair *p, const char *words)
{
    CHECK_INT(validate_pool("shm:", &p->pool), -EPROTO);
    CHECK_CONTAINS(naru_explain(), words);
}

TEST(pools_that_cannot_be)
{
    unsigned a, b;
    struct pair p;

    open_pair(&p);
    CHECK_INT(pool_find(&p.pool, 5000), RING_OK);
    CHECK_INT(pool_take(&p.pool, 5000, &a), 0);
    CHECK_INT(pool_find(&p.pool, 1), RING_OK);
    CHECK_INT(pool_take(&p.pool, 1, &b), 0);
    (void)pool_send(&p.pool, a, 5000);
    CHECK_INT(validate_pool("shm:", &p.pool), 0);

    p.pool.slots[b].offset -= SHM_PAGE;
    expect_pool(&p, "the pool's slot 1 overlaps another, or the pool's end");
    p.pool.slots[b].offset = POOL;
    expect_pool(&p, "the pool's slot 1 overlaps another, or the pool's end");
    p.pool.slots[b].offset = 2 * SHM_PAGE;
    p.pool.slots[b].used = false;
    expect_pool(&p, "the pool's slot 1 is listed, and not in use");
    p.pool.slots[b].used = true;
    p.pool.slots[7].used = true;
    expect_pool(&p, "the pool counts 2 chunks, 1 of them sent, and has 3 and 1");
    p.pool.slots[7].used = false;
    p.pool.slots[7].out = 7;
    expect_pool(&p, "the pool's slot 7 was sent, and is not in use");
    p.pool.slots[7].out = POOL_NOT_OUT;
    CHECK_INT(validate_pool("shm:", &p.pool), 0);
    pool_cancel(&p.pool, b);
    CHECK_INT(validate_pool("shm:", &p.pool), 0);
    p.pool.kept_bytes += SHM_PAGE;
    expect_pool(&p, "the pool's slot 1 is kept, and may not be");
    p.pool.kept_bytes -= SHM_PAGE;
    p.pool.kept[p.pool.kept_end++] = (uint8_t)b;
    expect_pool(&p, "the pool's slot 1 is kept, and may not be");
    p.pool.kept_end += SHM_RETURNS;
    expect_pool(&p, "the pool keeps 258 chunks");
    close_pair(&p);
}

TEST(tokens_that_cannot_be)
{
    struct shm_chunk chunks[2];
    _Atomic uint32_t *returns;
    struct pair p;

    open_pair(&p);
    for (unsigned i = 0, slot; i < 2; i++) {
        CHECK_INT(pool_find(&p.pool, 1), RING_OK);
        CHECK_INT(pool_take(&p.pool, 1, &slot), 0);
        chunks[i] = pool_send(&p.pool, slot, 1);
    }
    returns = p.link[1].page->returns;
    atomic_store(&returns[0], shm_return(0, shm_chunk_token(chunks[1])));
    CHECK_INT(validate_pool("shm:", &p.pool), 0);
    atomic_store(&returns[1], shm_return(1, shm_chunk_token(chunks[0])));
    CHECK_INT(validate_pool("shm:", &p.pool), 0);
    atomic_store(&returns[1], shm_return(1, shm_chunk_token(chunks[1])));
    expect_pool(&p, "the peer has given back token 1, which is not out");
    atomic_store(&returns[1], shm_return(1, shm_chunk_token(chunks[0]) + SHM_RETURNS));
    expect_pool(&p, "the peer has given back token 256, which is not out");
    atomic_store(&returns[1], shm_return(SHM_RETURNS + 1, shm_chunk_token(chunks[0])));
    expect_pool(&p, "the peer's returns hold what is none");
    close_pair(&p);
}

/* --- in memory of one's own --- */

TEST(rings_of_ones_own_that_cannot_be)
{
    static _Alignas(64) uint8_t memory[320 + 256];
    struct flat_page *page = (struct flat_page *)(void *)memory;
    struct naru_ring_writer writer;

    CHECK_INT(naru_ring_validate(memory + 1, sizeof memory - 1), -EINVAL);
    CHECK_INT(naru_ring_validate(memory, 10), -EPROTO);
    CHECK_INT(naru_ring_validate(memory, sizeof memory), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "does not begin with the page of a ring");
    CHECK_INT(naru_ring_init(memory, sizeof memory), 0);
    CHECK_INT(naru_ring_validate(memory, sizeof memory), 0);
    CHECK_INT(naru_ring_attach_writer(memory, sizeof memory, &writer), 0);
    while (naru_ring_put(&writer, "abc", 3) == 0)
        CHECK_INT(naru_ring_validate(memory, sizeof memory), 0);
    atomic_store(ring_header(flat_ring(page), 255, 240), record_word(RECORD_DATA, 8)); /* no 0 behind it */
    CHECK_INT(naru_ring_validate(memory, sizeof memory), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "the records from 0 on fill more than a ring of 256 bytes");
    atomic_store(ring_header(flat_ring(page), 255, 240), record_word(RECORD_DATA, 9)); /* over the end */
    CHECK_INT(naru_ring_validate(memory, sizeof memory), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "at 240 is no record");
    atomic_store(&page->taken, 12);
    CHECK_INT(naru_ring_validate(memory, sizeof memory), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "the position 12 is no multiple of 8");
}

TEST(cells_that_cannot_be)
{
    static _Alignas(64) uint8_t memory[1024];
    struct naru_cell cell;
    struct cell c;

    CHECK_INT(naru_cell_validate(memory, sizeof memory), -EPROTO);
    CHECK_INT(naru_cell_init(memory, sizeof memory, 40, 3), 0);
    CHECK_INT(naru_cell_attach(memory, sizeof memory, &cell), 0);
    CHECK(cell_attach(memory, sizeof memory, &c));
    for (int64_t v = 1; v < 20; v++) {
        CHECK_INT(naru_cell_validate(memory, sizeof memory), 0);
        CHECK_INT(naru_cell_put(&cell, "value", 5), v);
        atomic_store(&cell_slot_of(&c, (uint64_t)v + 1)->version, (uint64_t)v + 1); /* begun, and no more */
        CHECK_INT(naru_cell_validate(memory, sizeof memory), 0);
    }
    for (uint64_t i = 0; i < 3; i++) {
        uint64_t is = atomic_load(&cell_slot_of(&c, i)->version);

        atomic_store(&cell_slot_of(&c, i)->version, is + 3);
        CHECK_INT(naru_cell_validate(memory, sizeof memory), -EPROTO);
        CHECK_CONTAINS(naru_explain(), "was begun for version");
        atomic_store(&cell_slot_of(&c, i)->version, is);
        atomic_store(&cell_slot_of(&c, i)->length, 41);
        CHECK_INT(naru_cell_validate(memory, sizeof memory), -EPROTO);
        CHECK_CONTAINS(naru_explain(), "has 41 bytes of 40");
        atomic_store(&cell_slot_of(&c, i)->length, 40);
    }
    CHECK_INT(naru_cell_validate(memory, sizeof memory), 0);
}
