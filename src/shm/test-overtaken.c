/* SPDX-License-Identifier: MIT */
/*
 * What naru/shm.h says of memory that changes each time it is looked at: -EAGAIN, after a number of looks. No
 * second thread is quick enough each time. So the change is made from within the look: it reads a page that
 * may not be read, and the handler of that fault changes what was looked at, and bars another page for the
 * next look.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "naru/error.h"
#include "naru/shm.h"
#include "runner.h"
#include "shm/cell.h"
#include "shm/flat.h"

enum { PAGE = 4096, PAGES = 16, BYTES = PAGES * PAGE, LOOKS_LEAST = 50 };

static struct {
    uint8_t *memory;
    size_t pages[2]; /* barred by turns */
    void (*change)(int next);
    int changes;
} trap;

static void bar(size_t page, int protection)
{
    CHECK_INT(mprotect(trap.memory + page * PAGE, PAGE, protection), 0);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    size_t page = (size_t)((uint8_t *)info->si_addr - trap.memory) / PAGE;
    int next = page == trap.pages[0];

    (void)number;
    (void)context;
    if (page != trap.pages[!next])
        test_fail(__FILE__, __LINE__, "a fault at %p, which is no trap's", info->si_addr);
    bar(page, PROT_READ | PROT_WRITE);
    trap.change(next);
    trap.changes++;
    bar(trap.pages[next], PROT_NONE);
}

/* The first look comes to the first of the two pages. */
static void set_trap(size_t first, size_t second, void (*change)(int next))
{
    const struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};

    trap.pages[0] = first;
    trap.pages[1] = second;
    trap.change = change;
    CHECK_INT(sigaction(SIGSEGV, &action, NULL), 0);
    bar(first, PROT_NONE);
}

static void end_trap(void)
{
    for (int i = 0; i < 2; i++)
        bar(trap.pages[i], PROT_READ | PROT_WRITE);
    CHECK(trap.changes >= LOOKS_LEAST);
}

static void *make_memory(void)
{
    trap.memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(trap.memory != MAP_FAILED);
    return trap.memory;
}

/* --- cells: a value of three pages, in the pages 0 to 3, and another slot in the pages 3 to 6 --- */

enum { VALUE = 3 * PAGE };

static struct naru_cell cell;

static void make_cell(unsigned slots)
{
    static uint8_t value[VALUE];
    void *memory = make_memory();

    CHECK_INT(naru_cell_init(memory, BYTES, VALUE, slots), 0);
    CHECK_INT(naru_cell_attach(memory, BYTES, &cell), 0);
    for (unsigned i = 1; i <= slots; i++) {
        memset(value, (int)i, sizeof value);
        CHECK_INT(naru_cell_put(&cell, value, sizeof value), i);
    }
}

/* As many values are put as there are slots: all of them are of another version. */
static void overtake(int next)
{
    struct cell c;

    (void)next;
    CHECK(cell_attach(trap.memory, BYTES, &c));
    for (uint32_t i = 0; i < c.count; i++)
        atomic_fetch_add(&cell_slot_of(&c, i)->version, c.count);
    atomic_fetch_add(&c.page->version, c.count);
}

TEST(a_reader_that_is_overtaken_each_time_says_so)
{
    static uint8_t value[VALUE];
    uint64_t version = 7;

    make_cell(2); /* the second value is in the first slot */
    set_trap(1, 2, overtake);
    CHECK_INT(naru_cell_get(&cell, value, sizeof value, &version), -EAGAIN);
    CHECK_CONTAINS(naru_explain(), "quicker than this reader 100 times in a row; give it more slots");
    CHECK_INT(version, 7);
    end_trap();
    CHECK_INT(naru_cell_get(&cell, value, sizeof value, &version), sizeof value);
    CHECK(value[0] == 2 && value[VALUE - 1] == 2 && version == naru_cell_version(&cell));
}

TEST(a_cell_that_changes_at_each_look_cannot_be_judged)
{
    make_cell(3);
    set_trap(3, 6, overtake); /* where the second and the third slot begin */
    CHECK_INT(naru_cell_validate(trap.memory, BYTES), -EAGAIN);
    CHECK_CONTAINS(naru_explain(), "it changes faster than it can be looked at");
    end_trap();
    CHECK_INT(naru_cell_validate(trap.memory, BYTES), 0);
}

/* --- rings: nonsense where the reader stands, and each time it stands elsewhere --- */

static uint64_t beginning_of(size_t page)
{
    return page * PAGE - sizeof(struct flat_page);
}

static void stand_at(int next)
{
    struct flat_page *page = (struct flat_page *)(void *)trap.memory;

    atomic_store(&page->taken, beginning_of(trap.pages[next]));
}

TEST(a_ring_that_changes_at_each_look_cannot_be_judged)
{
    enum { CAPACITY = 8 * PAGE };
    uint8_t *memory = make_memory();
    uint64_t nonsense = UINT64_MAX;

    CHECK_INT(naru_ring_init(memory, naru_ring_size(CAPACITY)), 0);
    for (size_t page = 1; page <= 2; page++)
        memcpy(memory + page * PAGE, &nonsense, sizeof nonsense);
    set_trap(1, 2, stand_at);
    stand_at(0);
    CHECK_INT(naru_ring_validate(memory, naru_ring_size(CAPACITY)), -EAGAIN);
    CHECK_CONTAINS(naru_explain(), "it changes faster than it can be looked at");
    end_trap();
    CHECK_INT(naru_ring_validate(memory, naru_ring_size(CAPACITY)), -EPROTO); /* at rest it is nonsense */
}
