/* SPDX-License-Identifier: MIT */
/* naru/shm.h: shared variables in memory of the program's own. What a cell is and does is in cell.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "naru/shm.h"
#include "shm/public.h"
#include "shm/validate.h"

static_assert(sizeof(struct cell) <= sizeof(struct naru_cell), "a handle holds it");

static const struct cell *cell_of(const struct naru_cell *cell)
{
    return (const struct cell *)(const void *)cell;
}

size_t naru_cell_size(size_t capacity, unsigned slots)
{
    return (size_t)cell_bytes(capacity, slots);
}

int naru_cell_init(void *memory, size_t bytes, size_t capacity, unsigned slots)
{
    uint64_t need = cell_bytes(capacity, slots);
    int r = public_check_address("cell", memory);

    if (r < 0)
        return r;
    if (need == 0)
        return error_set(
            EINVAL, "cell at %p: %u slots of %zu bytes; expected 2 to %d slots of 1 to %" PRIu64 " bytes",
            memory, slots, capacity, CELL_SLOTS_MOST, CELL_CAPACITY_MOST);
    if (bytes < need)
        return error_set(EINVAL, "cell at %p: %zu bytes are too few; it takes %" PRIu64, memory, bytes, need);
    cell_init(memory, capacity, slots);
    return 0;
}

int naru_cell_attach(void *memory, size_t bytes, struct naru_cell *ret_cell)
{
    int r = public_check_address("cell", memory);

    if (r < 0)
        return r;
    if (!cell_attach(memory, bytes, (struct cell *)(void *)ret_cell))
        return error_set(
            EPROTO,
            "there is no cell of layout %d in the %zu bytes at %p: it was never initialised, was "
            "overwritten, or is larger",
            CELL_LAYOUT, bytes, memory);
    return 0;
}

static int broken(const struct cell *c)
{
    return error_set(EPROTO,
                     "cell at %p: it holds what no cell holds; somebody has overwritten it: naru_cell_init() "
                     "makes it anew",
                     (void *)c->page);
}

int64_t naru_cell_put(struct naru_cell *cell, const void *data, size_t len)
{
    const struct cell *c = cell_of(cell);
    uint64_t version;

    if (__builtin_expect(len > c->capacity, 0))
        return error_set(EMSGSIZE, "cell at %p: a value of %zu bytes, of which it takes %" PRIu64 " at most",
                         (void *)c->page, len, c->capacity);
    version = cell_put(c, data, len);
    return __builtin_expect(version == 0, 0) ? broken(c) : (int64_t)version;
}

static int none(const struct cell *c, enum cell_state state)
{
    if (state == CELL_OVERTAKEN)
        return error_set(EAGAIN,
                         "cell at %p: its writer was quicker than this reader %d times in a row; give it "
                         "more slots",
                         (void *)c->page, CELL_TRIES);
    if (state == CELL_EMPTY)
        return error_expected(ENODATA);
    return broken(c);
}

ssize_t naru_cell_get(const struct naru_cell *cell, void *buf, size_t cap, uint64_t *ret_version)
{
    const struct cell *c = cell_of(cell);
    struct cell_value value;
    enum cell_state state = cell_get(c, buf, cap, &value);

    if (__builtin_expect(state != CELL_OK, 0))
        return none(c, state);
    if (__builtin_expect(value.length > cap, 0))
        return error_set(EMSGSIZE, "cell at %p: the value has %" PRIu64 " bytes, the buffer %zu",
                         (void *)c->page, value.length, cap);
    if (ret_version)
        *ret_version = value.version;
    return (ssize_t)value.length;
}

uint64_t naru_cell_version(const struct naru_cell *cell)
{
    return cell_version(cell_of(cell));
}

struct awaited {
    const struct cell *cell;
    uint64_t version;
};

static int look_for_newer(void *argument)
{
    const struct awaited *awaited = argument;

    return cell_version(awaited->cell) > awaited->version ? 0 : -EAGAIN;
}

int naru_cell_wait(struct naru_cell *cell, uint64_t version, int64_t timeout_ns)
{
    struct awaited awaited = {cell_of(cell), version};

    return doze_until(&awaited.cell->page->asleep, look_for_newer, &awaited, timeout_ns);
}

void naru_cell_wake(struct naru_cell *cell)
{
    doze_wake(&cell_of(cell)->page->asleep);
}

static uint64_t read_version(const void *cell)
{
    return naru_cell_version(cell);
}

static int look_at_cell(const char *where, const void *cell, size_t bytes)
{
    (void)bytes;
    return validate_cell(where, cell);
}

int naru_cell_validate(const void *memory, size_t bytes)
{
    static const struct public_look look = {read_version, look_at_cell};
    struct naru_cell cell;
    int r = naru_cell_attach((void *)(uintptr_t)memory, bytes, &cell); /* which does not write */

    return r < 0 ? r : public_validate("cell", memory, &look, &cell, bytes);
}
