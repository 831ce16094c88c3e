/* SPDX-License-Identifier: MIT */
/*
 * Rings and cells in memory of the program's own (naru/shm.h), whatever stands in it: the input is what is
 * behind the words that say what it is, and those words' sizes. What must hold besides not crashing, in a
 * block of just the size:
 *
 *   - naru_ring_validate() accepts a ring if and only if a writer can attach to it, and then a reader gets
 * message after message up to where that writer goes on, which then puts another;
 *   - naru_cell_validate() accepts no cell that a reader does not; a value that is put is the value that is
 * got.
 */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "naru/shm.h"
#include "shm/cell.h"
#include "shm/flat.h"

enum { CAPACITY = 512, CELL = 24, SLOTS = 3 };

static uint8_t *block(size_t bytes)
{
    uint8_t *memory = aligned_alloc(SHM_LINE, (bytes + SHM_LINE - 1) / SHM_LINE * SHM_LINE);

    CHECK(memory);
    memset(memory, 0, bytes);
    return memory;
}

static void read_ring(uint8_t *memory, size_t bytes)
{
    struct naru_ring_info info = {.size = sizeof info};
    struct naru_ring_writer writer;
    struct naru_ring_reader reader;
    bool valid = naru_ring_validate(memory, bytes) == 0;
    uint8_t buffer[CAPACITY];
    uint64_t sum = 0;
    ssize_t n;

    CHECK((naru_ring_attach_writer(memory, bytes, &writer) == 0) == valid);
    if (naru_ring_attach_reader(memory, bytes, &reader) < 0) {
        CHECK(!valid);
        return;
    }
    CHECK(naru_ring_info(memory, bytes, &info) == 0 && info.used <= info.capacity);
    for (n = 0; n >= 0 && sum <= CAPACITY;) {
        n = naru_ring_take(&reader, buffer, sizeof buffer);
        sum += n >= 0 ? RECORD_HEADER + (uint64_t)n : 0;
    }
    if (!valid)
        return;
    CHECK(n == -EAGAIN);
    CHECK(naru_ring_put(&writer, "last", 4) == 0);
    CHECK(naru_ring_take(&reader, buffer, sizeof buffer) == 4 && memcmp(buffer, "last", 4) == 0);
    CHECK(naru_ring_validate(memory, bytes) == 0);
}

static void fuzz_ring(const uint8_t *data, size_t size)
{
    size_t bytes = naru_ring_size(CAPACITY), rest = bytes - sizeof(struct flat_page);
    uint8_t *memory = block(bytes);
    struct flat_page *page = (struct flat_page *)(void *)memory;

    CHECK(naru_ring_init(memory, bytes) == 0);
    if (size > 0)
        atomic_store(&page->taken, UINT64_C(0) - CAPACITY + 4 * (uint64_t)data[0]);
    if (size > 1)
        memcpy(memory + sizeof *page, data + 1, size - 1 < rest ? size - 1 : rest);
    read_ring(memory, bytes);
    free(memory);
}

static void fuzz_cell(const uint8_t *data, size_t size)
{
    size_t bytes = naru_cell_size(CELL, SLOTS), rest = bytes - offsetof(struct cell_page, version);
    uint8_t *memory = block(bytes), buffer[CELL];
    struct naru_cell cell;
    int64_t put;
    ssize_t n;

    CHECK(naru_cell_init(memory, bytes, CELL, SLOTS) == 0);
    memcpy(memory + bytes - rest, data, size < rest ? size : rest);
    CHECK(naru_cell_attach(memory, bytes, &cell) == 0);
    n = naru_cell_get(&cell, buffer, sizeof buffer, NULL);
    CHECK(n <= CELL && n != -EAGAIN);
    if (naru_cell_validate(memory, bytes) == 0)
        CHECK(n >= 0 || n == -ENODATA);
    put = naru_cell_put(&cell, "value", 5);
    if (put < 0) /* no version can follow the one before */
        CHECK(put == -EPROTO);
    else
        CHECK(naru_cell_get(&cell, buffer, sizeof buffer, NULL) == 5 && memcmp(buffer, "value", 5) == 0);
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] % 2)
        fuzz_cell(data + 1, size - 1);
    else if (size > 0)
        fuzz_ring(data + 1, size - 1);
    return 0;
}
