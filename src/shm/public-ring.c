/* SPDX-License-Identifier: MIT */
/* naru/shm.h: rings in memory of the program's own. What a ring is and does is in flat.h and ring.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/sized.h"
#include "naru/shm.h"
#include "shm/doze.h"
#include "shm/flat.h"
#include "shm/public.h"
#include "shm/validate.h"

#define NOWHERE UINT64_MAX /* no position: they are multiples of 8 */

struct writer {
    struct flat_page *page;
    struct ring_writer ring;
    uint64_t reserved_at, reserved; /* bytes; a put in between leaves that position behind */
};

struct reader {
    struct flat_page *page;
    struct ring_reader ring;
    uint64_t peeked_at;
    uint32_t peeked; /* bytes */
};

static_assert(sizeof(struct writer) <= sizeof(struct naru_ring_writer), "a handle holds it");
static_assert(sizeof(struct reader) <= sizeof(struct naru_ring_reader), "a handle holds it");

static struct writer *writer_of(struct naru_ring_writer *writer)
{
    return (struct writer *)(void *)writer;
}

static struct reader *reader_of(struct naru_ring_reader *reader)
{
    return (struct reader *)(void *)reader;
}

/* --- making and attaching --- */

static bool is_capacity(size_t capacity)
{
    return capacity >= FLAT_CAPACITY_LEAST && capacity <= FLAT_CAPACITY_MOST &&
           (capacity & (capacity - 1)) == 0;
}

size_t naru_ring_size(size_t capacity)
{
    return is_capacity(capacity) ? sizeof(struct flat_page) + capacity : 0;
}

int naru_ring_init(void *memory, size_t bytes)
{
    size_t capacity = FLAT_CAPACITY_LEAST;
    int r = public_check_address("ring", memory);

    if (r < 0)
        return r;
    if (bytes < naru_ring_size(capacity))
        return error_set(EINVAL, "ring at %p: %zu bytes are too few; the smallest takes %zu", memory, bytes,
                         naru_ring_size(capacity));
    while (is_capacity(2 * capacity) && naru_ring_size(2 * capacity) <= bytes)
        capacity *= 2;
    flat_init(memory, capacity);
    return 0;
}

static int check_ring(const void *memory, size_t bytes, uint64_t *ret_capacity)
{
    int r = public_check_address("ring", memory);

    if (r < 0)
        return r;
    *ret_capacity = flat_check(memory, bytes);
    if (*ret_capacity == 0)
        return error_set(
            EPROTO,
            "there is no ring of layout %d in the %zu bytes at %p: it was never initialised, was "
            "overwritten, or is larger",
            FLAT_LAYOUT, bytes, memory);
    return 0;
}

static int broken(const struct flat_page *page)
{
    return error_set(EPROTO,
                     "ring at %p: it holds what no ring holds; somebody has overwritten it: "
                     "naru_ring_init() makes it anew",
                     (const void *)page);
}

int naru_ring_attach_writer(void *memory, size_t bytes, struct naru_ring_writer *ret_writer)
{
    uint64_t capacity, taken, end;
    struct flat_page *page = memory;
    struct writer *w = writer_of(ret_writer);
    int r = check_ring(memory, bytes, &capacity);

    if (r < 0)
        return r;
    if (flat_find_end(page, capacity, &taken, &end) != RING_OK)
        return broken(page);
    w->page = page;
    ring_writer_init(&w->ring, flat_ring(page), capacity, &page->taken);
    w->ring.position = end;
    w->ring.taken = taken;
    w->reserved_at = NOWHERE;
    w->reserved = 0;
    atomic_store_explicit(&page->written, end, memory_order_relaxed); /* for naru_ring_info() alone */
    return 0;
}

int naru_ring_attach_reader(void *memory, size_t bytes, struct naru_ring_reader *ret_reader)
{
    uint64_t capacity;
    struct flat_page *page = memory;
    struct reader *reader = reader_of(ret_reader);
    int r = check_ring(memory, bytes, &capacity);

    if (r < 0)
        return r;
    reader->page = page;
    ring_reader_init(&reader->ring, flat_ring(page), capacity, &page->taken);
    /* relaxed: our own; who was the reader before is gone, or handed over in an order of its own */
    reader->ring.position = atomic_load_explicit(&page->taken, memory_order_relaxed);
    reader->peeked_at = NOWHERE;
    reader->peeked = 0;
    return reader->ring.position % RECORD_HEADER == 0 ? 0 : broken(page);
}

/* --- writing --- */

static int too_long(const struct writer *w, size_t len)
{
    return error_set(EMSGSIZE, "ring at %p: a message of %zu bytes, of which it takes %" PRIu64 " at most",
                     (void *)w->page, len, record_max(w->ring.mask + 1));
}

/* Of an attempt that had no room. */
static int refused(const struct writer *w, enum ring_state state)
{
    return state == RING_FULL ? error_expected(EAGAIN) : broken(w->page);
}

static void tell_written(struct writer *w)
{
    /* relaxed: nobody relies on it */
    atomic_store_explicit(&w->page->written, w->ring.position, memory_order_relaxed);
}

int naru_ring_put(struct naru_ring_writer *writer, const void *data, size_t len)
{
    struct writer *w = writer_of(writer);
    enum ring_state state;

    if (__builtin_expect(len > record_max(w->ring.mask + 1), 0))
        return too_long(w, len);
    state = flat_put(&w->ring, data, (uint32_t)len);
    if (__builtin_expect(state != RING_OK, 0))
        return refused(w, state);
    tell_written(w);
    return 0;
}

int naru_ring_reserve(struct naru_ring_writer *writer, size_t len, void **ret_data)
{
    struct writer *w = writer_of(writer);
    enum ring_state state;
    uint8_t *payload;

    w->reserved_at = NOWHERE;
    if (len > record_max(w->ring.mask + 1))
        return too_long(w, len);
    state = flat_reserve(&w->ring, len, &payload);
    if (state != RING_OK)
        return refused(w, state);
    w->reserved_at = w->ring.position;
    w->reserved = len;
    *ret_data = payload;
    return 0;
}

int naru_ring_commit(struct naru_ring_writer *writer, size_t len)
{
    struct writer *w = writer_of(writer);

    if (w->reserved_at != w->ring.position || len > w->reserved)
        return error_set(EINVAL, "ring at %p: %zu bytes to commit, and %" PRIu64 " are reserved",
                         (void *)w->page, len,
                         w->reserved_at == w->ring.position ? w->reserved : UINT64_C(0));
    ring_commit(&w->ring, RECORD_DATA, (uint32_t)len);
    tell_written(w);
    return 0;
}

/* --- reading --- */

/* Of an attempt that found nothing. */
static int found_none(const struct reader *r, enum ring_state state)
{
    return state == RING_EMPTY ? error_expected(EAGAIN) : broken(r->page);
}

ssize_t naru_ring_take(struct naru_ring_reader *reader, void *buf, size_t cap)
{
    struct reader *r = reader_of(reader);
    struct ring_record record;
    enum ring_state state = flat_peek(&r->ring, &record);

    if (__builtin_expect(state != RING_OK, 0))
        return found_none(r, state);
    if (__builtin_expect(record.length > cap, 0))
        return error_set(EMSGSIZE, "ring at %p: the message has %" PRIu32 " bytes, the buffer %zu",
                         (void *)r->page, record.length, cap);
    copy_payload(buf, record.data, record.length);
    ring_release(&r->ring, record.length);
    return (ssize_t)record.length;
}

ssize_t naru_ring_peek(struct naru_ring_reader *reader, const void **ret_data)
{
    struct reader *r = reader_of(reader);
    struct ring_record record;
    enum ring_state state = flat_peek(&r->ring, &record);

    if (state != RING_OK)
        return found_none(r, state);
    r->peeked_at = r->ring.position;
    r->peeked = record.length;
    *ret_data = record.data;
    return (ssize_t)record.length;
}

int naru_ring_release(struct naru_ring_reader *reader)
{
    struct reader *r = reader_of(reader);

    if (r->peeked_at != r->ring.position)
        return error_set(EINVAL, "ring at %p: there is no message that was peeked at", (void *)r->page);
    ring_release(&r->ring, r->peeked);
    return 0;
}

/* --- waiting --- */

static int look_for_message(void *argument)
{
    struct reader *r = argument;
    struct ring_record record;
    enum ring_state state = flat_peek(&r->ring, &record);

    return state == RING_OK ? 0 : state == RING_EMPTY ? -EAGAIN : broken(r->page);
}

struct room {
    struct writer *writer;
    size_t length;
};

static int look_for_room(void *argument)
{
    struct room *room = argument;
    uint8_t *payload;
    enum ring_state state = flat_reserve(&room->writer->ring, room->length, &payload);

    return state == RING_OK ? 0 : state == RING_FULL ? -EAGAIN : broken(room->writer->page);
}

int naru_ring_wait_message(struct naru_ring_reader *reader, int64_t timeout_ns)
{
    struct reader *r = reader_of(reader);

    return doze_until(&r->page->reader_asleep, look_for_message, r, timeout_ns);
}

int naru_ring_wait_room(struct naru_ring_writer *writer, size_t len, int64_t timeout_ns)
{
    struct room room = {writer_of(writer), len};

    room.writer->reserved_at = NOWHERE; /* looking may move on to the ring's beginning */
    if (len > record_max(room.writer->ring.mask + 1))
        return too_long(room.writer, len);
    return doze_until(&room.writer->page->writer_asleep, look_for_room, &room, timeout_ns);
}

void naru_ring_wake_reader(struct naru_ring_writer *writer)
{
    doze_wake(&writer_of(writer)->page->reader_asleep);
}

void naru_ring_wake_writer(struct naru_ring_reader *reader)
{
    doze_wake(&reader_of(reader)->page->writer_asleep);
}

/* --- how it stands --- */

int naru_ring_info(const void *memory, size_t bytes, struct naru_ring_info *ret_info)
{
    struct naru_ring_info info = NARU_INIT(struct naru_ring_info);
    const struct flat_page *page = memory;
    int r = SIZED_CHECK("naru_ring_info()", "info", naru_ring_info, ret_info);

    if (r == 0)
        r = check_ring(memory, bytes, &info.capacity);
    if (r < 0)
        return r;
    info.max_message = record_max(info.capacity);
    /* `taken` first: acquire, so that `written` is no older, as the writer tells it before the reader takes
     * it ...
     */
    info.taken = atomic_load_explicit(&page->taken, memory_order_acquire);
    info.written = atomic_load_explicit(&page->written, memory_order_relaxed);
    /* ... unless it was killed in between, or has put more since. */
    info.used = info.written - info.taken;
    if (info.used > INT64_MAX)
        info.used = 0;
    if (info.used > info.capacity)
        info.used = info.capacity;
    info.written = info.taken + info.used;
    info.size = ret_info->size;
    *ret_info = info;
    return 0;
}

/* What was taken meanwhile may have been overwritten while it was looked at. */
static uint64_t read_taken(const void *page)
{
    return atomic_load_explicit(&((const struct flat_page *)page)->taken, memory_order_acquire);
}

static int look_at_ring(const char *where, const void *page, size_t bytes)
{
    return validate_flat(where, page, bytes);
}

int naru_ring_validate(const void *memory, size_t bytes)
{
    static const struct public_look look = {read_taken, look_at_ring};
    int r = public_check_address("ring", memory);

    if (r < 0)
        return r;
    if (bytes < sizeof(struct flat_page)) { /* there is no count to be read */
        char where[64];

        (void)snprintf(where, sizeof where, "ring at %p", memory);
        return validate_flat(where, memory, bytes);
    }
    return public_validate("ring", memory, &look, memory, bytes);
}
