/* SPDX-License-Identifier: MIT */
/* Sealed memory, mapped with its ring twice. */
#include "segment/sealed.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/mapping.h"
#include "segment/publish.h"

enum { SEALS = F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

int sealed_check_sizes(const char *what, uint64_t plain, uint64_t ring)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

    if (plain == 0 || plain % page != 0 || plain > SIZE_MAX / 4)
        return error_set(EINVAL, "%s: %" PRIu64 " is not a whole number of pages of %" PRIu64 " bytes", what,
                         plain, page);
    if (ring < page || (ring & (ring - 1)) != 0 || ring > SIZE_MAX / 4)
        return error_set(EINVAL, "%s: a ring of %" PRIu64 " bytes is not a power of two from %" PRIu64 " on",
                         what, ring, page);
    return 0;
}

/* Bytes of the file before the pool. */
static size_t before_pool(const struct sealed *memory)
{
    return memory->plain + memory->ring * (memory->more + 1);
}

/* Maps all parts, each ring twice. A mapping reaches from its place to the end of all: what follows a ring's
 * second copy there is what follows the ring in the file, the next ring or the pool. */
static bool map_parts(struct sealed *m, int protection, int fd)
{
    size_t all = sealed_mapped(m);

    m->base = mmap(NULL, all, protection, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (m->base == MAP_FAILED)
        return false;
    for (size_t i = 0; i <= m->more; i++) {
        uint8_t *again = sealed_ring_at(m, i) + m->ring;

        if (mmap(again, (size_t)(m->base + all - again), protection, MAP_SHARED | MAP_NORESERVE | MAP_FIXED,
                 fd, (off_t)(m->plain + i * m->ring)) == MAP_FAILED) {
            int code = errno;

            (void)munmap(m->base, all);
            errno = code;
            return false;
        }
    }
    return true;
}

/* Whether that says what this process lacks, or may not do: then it is not for what a peer has passed. */
static bool is_our_own(int code)
{
    return code == ENOMEM || code == EAGAIN || code == ENFILE || code == EPERM || code == ENOSYS;
}

static int map_failed(const char *what, size_t bytes, int protection, int code)
{
    if (!(protection & PROT_WRITE) && !is_our_own(code))
        return error_set(EPROTO, "%s: the peer passed memory that cannot be mapped: %s", what,
                         error_text(code));
    return error_set(mapping_code(code),
                     "%s: cannot map %zu bytes of shared memory: %s; less does with a smaller ?ring=, and %s",
                     what, bytes, mapping_text(code),
                     protection & PROT_WRITE ? "?pool=, for what is sent"
                                             : "?max-message= and ?pool=, for what is received");
}

static int map(const char *what, int fd, int protection, struct sealed *memory)
{
    struct sealed m = *memory;

    if (!map_parts(&m, protection, fd))
        return map_failed(what, sealed_mapped(&m), protection, errno);
    memory->base = m.base;
    return 0;
}

/* Whether the kernel reserves memory on demand without a signal (Linux 5.14). */
static bool can_populate(void)
{
    return madvise(NULL, 0, MADV_POPULATE_READ) == 0; /* an advice it knows not is EINVAL, of any length */
}

/* Reserves what is used from the beginning, and lengthens the file by what may be. */
static int reserve(int fd, const struct sealed *memory)
{
    size_t first = before_pool(memory), all = first + memory->pool;
    bool by_use = can_populate();
    int r = by_use ? 0 : publish_reserve(fd, all);

    if (r == 0) /* also then: what is only reserved has to be zeroed by who first looks at it */
        r = publish_write_zeros(fd, first);
    return r < 0 || memory->pool == 0 || !by_use ? r : publish_lengthen(fd, all);
}

/* 0 or the errno. EINVAL: an older kernel, where all was reserved at once. */
static int populate(uint8_t *from, size_t length, bool write)
{
    int r;

    do
        r = madvise(from, length, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
    while (r < 0 && errno == EINTR);
    return r < 0 ? errno : 0;
}

int sealed_populate(const struct sealed *memory, size_t from, size_t to, bool write)
{
    int code = populate(sealed_pool(memory) + from, to - from, write);

    return code == 0 || code == EINVAL ? 0 : -ENOMEM;
}

/* A call that kernels of our age have and allow anybody. */
static const char *advice(int code)
{
    return code == EPERM || code == ENOSYS
               ? "; a sandbox (seccomp) forbids the call: allow it there, or use unix: instead of shm:"
               : "";
}

static int explain_reserve(const char *what, size_t bytes, int code)
{
    if (code == EPERM || code == ENOSYS)
        return error_set(code, "%s: cannot reserve shared memory (%s): %s%s", what,
                         can_populate() ? "pwritev" : "fallocate", error_text(code), advice(code));
    return error_set(code, "%s: no room for %zu bytes of shared memory: %s%s", what, bytes, error_text(code),
                     code == EFBIG
                         ? "; this process's limit counts for it, too (ulimit -f); less does with a "
                           "smaller ?ring= and ?pool="
                         : "");
}

/* So that nobody can do more than read, and nothing goes away underneath. */
static int seal(const char *what, int fd)
{
    if (fcntl(fd, F_ADD_SEALS, SEALS) == 0)
        return 0;
    if (errno == EINVAL)
        return error_set(EINVAL, "%s: this kernel cannot seal shared memory (Linux 5.1 can): %s", what,
                         error_text(EINVAL));
    return error_set(errno, "%s: cannot seal shared memory (F_ADD_SEALS): %s%s", what, error_text(errno),
                     advice(errno));
}

int sealed_make(const char *what, const char *label, size_t plain, size_t ring, size_t pool,
                struct sealed *ret_memory, int *ret_fd)
{
    return sealed_make_more(what, label, plain, ring, 0, pool, ret_memory, ret_fd);
}

int sealed_make_more(const char *what, const char *label, size_t plain, size_t ring, size_t more, size_t pool,
                     struct sealed *ret_memory, int *ret_fd)
{
    struct sealed memory = {.plain = plain, .ring = ring, .more = more, .pool = pool};
    FD_CLEANUP int fd = -1;
    int r = sealed_check_sizes(what, plain, ring);

    if (r < 0)
        return r;
    fd = memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return error_set(errno, "%s: memfd_create: %s%s", what, error_text(errno), advice(errno));
    r = reserve(fd, &memory);
    if (r < 0)
        return explain_reserve(what, before_pool(&memory) + pool, -r);
    r = map(what, fd, PROT_READ | PROT_WRITE, &memory);
    if (r < 0)
        return r;
    r = seal(what, fd);
    if (r < 0) {
        sealed_deinit(&memory);
        return r;
    }
    *ret_memory = memory;
    *ret_fd = fd_steal(&fd);
    return 0;
}

static int not_reserved(const char *what, uint64_t bytes)
{
    return error_set(EPROTO, "%s: the peer passed %" PRIu64 " bytes of memory, not all of them reserved",
                     what, bytes);
}

/* Whether as much is reserved as has to be, wherever: what of page and rings is not, reach() finds. Of the
 * pool nothing needs to be where sealed_populate() asks first. lseek(2) (SEEK_HOLE) would tell all of it, but
 * for a lock that the memory's maker may hold as long as it likes, by fallocate(2), or by a write(2) from a
 * page that never comes (before Linux 6.15): whoever waits for that lock no signal ends. 0 or explained:
 * -EPROTO; or another errno, where this process may not ask. */
static int check_reserved(const char *what, const struct stat *status, const struct sealed *memory)
{
    uint64_t first = before_pool(memory), all = first + memory->pool;
    uint64_t reserved = (uint64_t)status->st_blocks * 512; /* stat(2): blocks are of 512 bytes */
    bool by_use = memory->pool > 0 && can_populate();
    int refused = by_use || memory->pool == 0 || errno == EINVAL ? 0 : errno; /* EINVAL: an older kernel */

    if (reserved >= (by_use ? first : all))
        return 0;
    if (refused && reserved >= first)
        return error_set(refused, "%s: cannot reserve memory when it is used (madvise): %s%s", what,
                         error_text(refused), advice(refused));
    return not_reserved(what, first);
}

/* Maps page and rings: a hole in them is filled here, where a lack of memory is an error, and no SIGBUS. What
 * is there stays, as nobody can punch holes (F_SEAL_FUTURE_WRITE). 0 or explained. */
static int reach(const char *what, const struct sealed *memory)
{
    for (size_t i = 0; i <= memory->more; i++) {
        uint8_t *begin = i == 0 ? memory->base : sealed_ring_at(memory, i);
        size_t length = i == 0 ? memory->plain + memory->ring : memory->ring;
        int code = populate(begin, length, false);

        if (code == ENOMEM)
            return error_set(ENOMEM, "%s: the machine has no memory for %zu bytes of the peer's", what,
                             length);
        if (code == EFAULT) /* it would have been SIGBUS */
            return not_reserved(what, before_pool(memory));
        if (code != 0) /* an older kernel, or a sandbox: it is enough that the pool was checked as well */
            return 0;
    }
    return 0;
}

/* The seals say nothing of it: whoever has a descriptor opens another by /proc/self/fd as it likes. Where
 * this process may not ask, mmap(2) tells. */
static bool is_readable(int fd)
{
    int flags = fcntl(fd, F_GETFL), mode = flags & O_ACCMODE;

    return flags < 0 || mode == O_RDONLY || mode == O_RDWR;
}

int sealed_attach(const char *what, int fd, size_t plain, size_t ring, uint64_t pool_most,
                  struct sealed *ret_memory)
{
    return sealed_attach_more(what, fd, plain, ring, 0, pool_most, SIZE_MAX, ret_memory);
}

int sealed_attach_more(const char *what, int fd, size_t plain, size_t ring, size_t more, uint64_t pool_most,
                       size_t mapped_most, struct sealed *ret_memory)
{
    struct sealed memory = {.plain = plain, .ring = ring, .more = more};
    size_t first = before_pool(&memory);
    int r = sealed_check_sizes(what, plain, ring), seals;
    struct statfs system;
    struct stat status;

    if (r < 0)
        return r;
    seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 && (errno == EPERM || errno == ENOSYS)) /* EINVAL, EBADF: what came has none */
        return error_set(errno, "%s: cannot ask for the seals of memory (F_GET_SEALS): %s%s", what,
                         error_text(errno), advice(errno));
    if (seals < 0 || fstatfs(fd, &system) < 0 || fstat(fd, &status) < 0 || system.f_type != TMPFS_MAGIC)
        return error_set(EPROTO, "%s: the peer passed something that is not a memfd of ordinary pages", what);
    if (!is_readable(fd))
        return error_set(EPROTO, "%s: the peer passed memory that is not open for reading", what);
    if (seals & F_SEAL_WRITE)
        return error_set(EPROTO, "%s: the peer passed memory that nobody can write", what);
    if ((seals & SEALS) != SEALS)
        return error_set(EPROTO,
                         "%s: the peer passed memory that is not sealed: it could be cut short underneath us",
                         what);
    if ((uint64_t)status.st_size < first || (uint64_t)status.st_size - first > pool_most)
        return error_set(EPROTO, "%s: the peer passed %lld bytes of memory and announced %zu", what,
                         (long long)status.st_size, first);
    memory.pool = (size_t)status.st_size - first;
    if (memory.pool % (size_t)sysconf(_SC_PAGESIZE) != 0)
        return error_set(EPROTO, "%s: the peer passed memory that is not whole pages", what);
    r = check_reserved(what, &status, &memory);
    if (r < 0)
        return r;
    if (memory.pool > mapped_most)
        memory.pool = mapped_most;
    r = map(what, fd, PROT_READ, &memory);
    if (r == 0)
        r = reach(what, &memory);
    if (r < 0)
        sealed_deinit(&memory);
    else
        *ret_memory = memory;
    return r;
}

void sealed_deinit(struct sealed *memory)
{
    if (memory->base)
        (void)munmap(memory->base, sealed_mapped(memory));
    memory->base = NULL;
}
