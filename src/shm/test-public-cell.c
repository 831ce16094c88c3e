/* SPDX-License-Identifier: MIT */
/* Cells as naru/shm.h has them: what is refused, and readers of other processes who sleep for the next value.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "naru/error.h"
#include "naru/shm.h"
#include "runner.h"
#include "shm/cell.h"

TEST(what_is_no_cell_is_refused)
{
    static _Alignas(64) uint8_t memory[1024];
    struct naru_cell cell;

    CHECK_INT(naru_cell_size(0, 2), 0);
    CHECK_INT(naru_cell_size(8, 2), 320);
    CHECK_INT(naru_cell_init(memory + 8, 512, 8, 2), -EINVAL);
    CHECK_INT(naru_cell_init(NULL, 512, 8, 2), -EINVAL);
    CHECK_INT(naru_cell_init(memory, 512, 8, 1), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "expected 2 to 64 slots");
    CHECK_INT(naru_cell_init(memory, 319, 8, 2), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "319 bytes are too few; it takes 320");
    CHECK_INT(naru_cell_attach(memory, 1024, &cell), -EPROTO);
    CHECK_INT(naru_cell_init(memory, 320, 8, 2), 0);
    CHECK_INT(naru_cell_attach(memory, 319, &cell), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "never initialised");
    CHECK_INT(naru_cell_attach(memory, 320, &cell), 0);
}

TEST(values_are_put_and_got)
{
    static _Alignas(64) uint8_t memory[1024];
    uint64_t version = 7;
    struct naru_cell cell;
    char value[16];

    CHECK_INT(naru_cell_init(memory, sizeof memory, 10, 2), 0);
    CHECK_INT(naru_cell_attach(memory, sizeof memory, &cell), 0);
    CHECK_INT(naru_cell_get(&cell, value, sizeof value, &version), -ENODATA);
    CHECK_INT(naru_cell_version(&cell), 0);
    CHECK_INT(naru_cell_wait(&cell, 0, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_cell_put(&cell, "0123456789a", 11), -EMSGSIZE);
    CHECK_INT(naru_cell_put(&cell, "0123456789", 10), 1);
    CHECK_INT(naru_cell_get(&cell, value, 9, &version), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "the value has 10 bytes, the buffer 9");
    CHECK_INT(version, 7);
    CHECK_INT(naru_cell_get(&cell, value, sizeof value, &version), 10);
    CHECK(memcmp(value, "0123456789", 10) == 0 && version == 1);
    CHECK_INT(naru_cell_put(&cell, NULL, 0), 2);
    CHECK_INT(naru_cell_get(&cell, value, sizeof value, NULL), 0);
    CHECK_INT(naru_cell_wait(&cell, 1, NARU_FOREVER), 0);
    CHECK_INT(naru_cell_wait(&cell, 2, NARU_MS(5)), -ETIMEDOUT);
    atomic_store(&((struct cell_page *)(void *)memory)->version, 5);
    CHECK_INT(naru_cell_get(&cell, value, sizeof value, NULL), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "somebody has overwritten it");
}

/* Told as they stand they would be taken for errors, or for none. */
TEST(a_version_that_nobody_gets_to_is_no_version)
{
    static const uint64_t bad[] = {UINT64_MAX, UINT64_MAX - 1, UINT64_C(1) << 63};
    static _Alignas(64) uint8_t memory[1024];
    struct cell_page *page = (struct cell_page *)(void *)memory;
    uint64_t last = INT64_MAX, version;
    struct naru_cell cell;
    char value[16];

    CHECK_INT(naru_cell_init(memory, sizeof memory, 10, 2), 0);
    CHECK_INT(naru_cell_attach(memory, sizeof memory, &cell), 0);
    atomic_store(&page->version, last - 1);
    CHECK_INT(naru_cell_put(&cell, "last", 4), INT64_MAX);
    CHECK_INT(naru_cell_get(&cell, value, sizeof value, &version), 4);
    CHECK(version == last);
    CHECK_INT(naru_cell_put(&cell, "more", 4), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "somebody has overwritten it");
    CHECK_INT(naru_cell_get(&cell, value, sizeof value, &version), 4); /* nothing was stored */
    CHECK(memcmp(value, "last", 4) == 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct cell c;

        CHECK(cell_attach(memory, sizeof memory, &c));
        atomic_store(&page->version, bad[i]);
        atomic_store(&cell_slot_of(&c, bad[i])->version, bad[i]);
        CHECK_INT(naru_cell_put(&cell, "more", 4), -EPROTO);
        CHECK_INT(naru_cell_get(&cell, value, sizeof value, NULL), -EPROTO);
        CHECK_INT(naru_cell_validate(memory, sizeof memory), -EPROTO);
        CHECK_CONTAINS(naru_explain(), "is one that nobody gets to");
    }
}

/* A mapping of the same bytes that cannot be written. */
TEST(a_reader_may_map_it_for_reading_only)
{
    int fd = memfd_create("cell", MFD_CLOEXEC);
    struct naru_cell writer, reader;
    void *mine, *theirs;
    char value[8];

    CHECK(fd >= 0);
    CHECK_INT(ftruncate(fd, 4096), 0);
    mine = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    theirs = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(mine != MAP_FAILED && theirs != MAP_FAILED);
    CHECK_INT(naru_cell_init(mine, 4096, sizeof value, 2), 0);
    CHECK_INT(naru_cell_attach(mine, 4096, &writer), 0);
    CHECK_INT(naru_cell_attach(theirs, 4096, &reader), 0);
    CHECK_INT(naru_cell_put(&writer, "value", 6), 1);
    CHECK_INT(naru_cell_get(&reader, value, sizeof value, NULL), 6);
    CHECK_STR(value, "value");
    CHECK_INT(munmap(mine, 4096), 0);
    CHECK_INT(munmap(theirs, 4096), 0);
    close(fd);
}

/* Two processes follow a third one's value; each sleeps until there is a newer one, and says how far it is.
 */
TEST(readers_in_other_processes_sleep_for_the_next_value)
{
    enum { VALUES = 200 };
    uint8_t *memory = test_shared(4096);
    _Atomic uint64_t *seen = (_Atomic uint64_t *)(void *)(memory + 2048);
    struct naru_cell cell;
    int readers[2];

    CHECK_INT(naru_cell_init(memory, 2048, 32, 3), 0);
    CHECK_INT(naru_cell_attach(memory, 2048, &cell), 0);
    for (int i = 0; i < 2; i++) {
        readers[i] = test_fork();
        if (readers[i] > 0)
            continue;
        for (uint64_t version = 0; version < VALUES; seen[i] = version) {
            uint64_t value[4];

            CHECK_INT(naru_cell_wait(&cell, version, NARU_FOREVER), 0);
            CHECK_INT(naru_cell_get(&cell, value, sizeof value, &version), sizeof value);
            CHECK(value[0] == version && value[3] == version);
        }
        test_child_end();
    }
    for (uint64_t v = 1; v <= VALUES; v++) {
        if (v % 50 == 0) /* now and then nobody but sleepers is there */
            for (int i = 0; i < 2; i++)
                test_wait_asleep(readers[i]);
        CHECK_INT(naru_cell_put(&cell, (uint64_t[]){v, v, v, v}, 32), v);
        naru_cell_wake(&cell);
        while (seen[0] < v || seen[1] < v)
            (void)sched_yield(); /* for who may have this CPU alone */
    }
    for (int i = 0; i < 2; i++)
        test_join(readers[i]);
}
