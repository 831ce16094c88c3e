/* SPDX-License-Identifier: MIT */
/* Sealed memory: that its reader can do nothing to it, and that nothing else is taken for it. */
#include "segment/sealed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner-syscalls.h"
#include "runner.h"

static size_t page(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* A page and a ring of four. */
static int make(struct sealed *memory)
{
    int fd = -1;

    CHECK_INT(sealed_make("shm:", "naru-test", page(), 4 * page(), 0, memory, &fd), 0);
    return fd;
}

TEST(sizes_that_cannot_be_mapped_are_refused)
{
    static const struct {
        uint64_t plain, ring; /* in pages, and 1/16 pages */
        int result;
    } cases[] = {{16, 16, 0},      {32, 64, 0},      {0, 16, -EINVAL},  {8, 16, -EINVAL}, {17, 16, -EINVAL},
                 {16, 0, -EINVAL}, {16, 8, -EINVAL}, {16, 48, -EINVAL}, {16, 17, -EINVAL}};
    const uint64_t most = UINT64_C(1) << 62;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_INT(sealed_check_sizes("shm:", cases[i].plain * page() / 16, cases[i].ring * page() / 16),
                  cases[i].result);
    CHECK_INT(sealed_check_sizes("shm:", page(), most), -EINVAL);
    CHECK_INT(sealed_check_sizes("shm:", page(), UINT64_C(1) << 63), -EINVAL);
    CHECK_INT(sealed_check_sizes("shm:", most, page()), -EINVAL);
    CHECK_INT(sealed_check_sizes("shm:", UINT64_MAX - page() + 1, page()), -EINVAL);
    CHECK_INT(sealed_check_sizes("shm:", page(), most / 2), 0); /* 2^61: everything added is in range */
}

/* Bytes are compared through volatile: the compiler takes the two addresses for two objects. */
TEST(the_ring_stands_twice_in_a_row_for_both_sides)
{
    struct sealed own, theirs;
    int fd = make(&own);
    size_t ring = own.ring;
    volatile uint8_t *written = sealed_ring(&own);
    const volatile uint8_t *read;

    CHECK_INT(sealed_attach("shm:", fd, own.plain, own.ring, 0, &theirs), 0);
    CHECK(theirs.base != own.base);
    close(fd);
    read = sealed_ring(&theirs);
    for (size_t i = 0; i < 2 * ring; i++)
        CHECK_INT(read[i], 0);
    for (size_t i = 0; i < ring; i++) {
        uint8_t byte = (uint8_t)(i * 7 + 1);

        written[i % 2 ? i : i + ring] = byte;
        CHECK_INT(written[i], byte);
        CHECK_INT(written[i + ring], byte);
        CHECK_INT(read[i], byte);
        CHECK_INT(read[i + ring], byte);
    }
    for (size_t i = 0; i < own.plain; i++)
        CHECK_INT(theirs.base[i], 0);
    own.base[own.plain - 1] = 9;
    CHECK_INT(theirs.base[own.plain - 1], 9);
    sealed_deinit(&own);
    sealed_deinit(&own);
    CHECK_INT(read[ring - 1], (uint8_t)((ring - 1) * 7 + 1)); /* the reader's lives on */
    sealed_deinit(&theirs);
}

static void expect_refused(long result)
{
    int code = errno;

    CHECK_INT(result, -1);
    CHECK(code == EPERM || code == EACCES);
}

static void expect_unwritable(int fd, size_t size)
{
    void *read_only;

    CHECK(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    CHECK(errno == EPERM || errno == EACCES);
    read_only = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(read_only != MAP_FAILED);
    expect_refused(mprotect(read_only, size, PROT_READ | PROT_WRITE));
    CHECK(madvise(read_only, size, MADV_REMOVE) < 0);
    CHECK_INT(munmap(read_only, size), 0);
    expect_refused(write(fd, "x", 1));
    expect_refused(pwrite(fd, "x", 1, (off_t)size - 1));
    expect_refused(ftruncate(fd, 0));
    expect_refused(ftruncate(fd, (off_t)size * 2));
    expect_refused(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)size));
    CHECK(fallocate(fd, 0, 0, (off_t)size * 2) < 0);
    CHECK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, (off_t)size) < 0);
    expect_refused(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
}

TEST(whoever_gets_the_descriptor_cannot_write_cut_or_punch)
{
    struct sealed own;
    int fd = make(&own), again;
    size_t size = own.plain + own.ring;
    const char *path = test_format("/proc/self/fd/%d", fd);
    volatile uint8_t *first = own.base;

    *first = 42;
    expect_unwritable(fd, size);
    again = open(path, O_RDWR | O_CLOEXEC);
    if (again >= 0)
        expect_unwritable(again, size);
    close(again);
    expect_refused(open(path, O_RDWR | O_TRUNC | O_CLOEXEC) < 0 ? -1 : 0);
    (void)fchmod(fd, 0777); /* modes are none of the seals' business, and change nothing */
    expect_unwritable(fd, size);
    CHECK_INT(*first, 42);
    *first = 43; /* the maker still writes */
    CHECK_INT(*first, 43);
    close(fd);
    sealed_deinit(&own);
}

TEST(a_readers_mapping_is_not_writable_either)
{
    struct sealed own, theirs;
    int fd = make(&own);

    CHECK_INT(sealed_attach("shm:", fd, own.plain, own.ring, 0, &theirs), 0);
    expect_refused(mprotect(theirs.base, theirs.plain, PROT_READ | PROT_WRITE));
    expect_refused(mprotect(sealed_ring(&theirs), theirs.ring, PROT_READ | PROT_WRITE));
    expect_refused(mprotect(sealed_ring(&theirs) + theirs.ring, theirs.ring, PROT_READ | PROT_WRITE));
    close(fd);
    sealed_deinit(&own);
    sealed_deinit(&theirs);
}

static void expect_not_taken(int fd, size_t plain, size_t ring, const char *why)
{
    struct sealed memory = {.plain = 7};

    CHECK_INT(sealed_attach("shm:", fd, plain, ring, 0, &memory), -EPROTO);
    CHECK_CONTAINS(naru_explain(), why);
    CHECK(memory.plain == 7 && !memory.base); /* untouched */
}

/* A memfd of that size with these seals. reserved: no holes. */
static int memfd(size_t size, unsigned flags, int seals, bool reserved)
{
    int fd = memfd_create("naru-test", flags | MFD_CLOEXEC | MFD_ALLOW_SEALING);

    CHECK(fd >= 0);
    CHECK_INT(ftruncate(fd, (off_t)size), 0);
    if (reserved)
        CHECK_INT(fallocate(fd, 0, 0, (off_t)size), 0);
    CHECK_INT(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

enum { ALL = F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

TEST(memory_without_all_seals_or_of_another_size_is_not_taken)
{
    static const int fewer[] = {0, ALL & ~F_SEAL_FUTURE_WRITE, ALL & ~F_SEAL_SHRINK, ALL & ~F_SEAL_GROW,
                                ALL & ~F_SEAL_SEAL};
    size_t size = 5 * page();
    struct sealed memory;
    int fd;

    for (size_t i = 0; i < sizeof fewer / sizeof *fewer; i++) {
        fd = memfd(size, 0, fewer[i], true);
        expect_not_taken(fd, page(), 4 * page(), "not sealed");
        close(fd);
    }
    fd = memfd(size, 0, ALL, true);
    expect_not_taken(fd, page(), 2 * page(), "announced");
    expect_not_taken(fd, page(), 8 * page(), "announced");
    expect_not_taken(fd, 2 * page(), 4 * page(), "announced");
    CHECK_INT(sealed_attach("shm:", fd, page(), 3 * page(), 0, &memory), -EINVAL);
    CHECK_INT(sealed_attach("shm:", fd, page(), 4 * page(), 0, &memory), 0);
    sealed_deinit(&memory);
    close(fd);
    fd = memfd(size, 0, ALL, false);
    expect_not_taken(fd, page(), 4 * page(), "reserved");
    close(fd);
}

static size_t resident(const struct sealed *memory, size_t pages)
{
    unsigned char there[64];
    size_t count = 0;

    CHECK(pages <= sizeof there && mincore(memory->base, pages * page(), there) == 0);
    for (size_t i = 0; i < pages; i++)
        count += there[i] & 1;
    return count;
}

/* As many are reserved as there are, but others: of the pool, or beyond the end. */
TEST(what_is_taken_has_no_holes_before_its_pool)
{
    for (int beyond = 0; beyond < 2; beyond++) {
        size_t size = (beyond ? 5 : 10) * page();
        int fd = memfd_create("naru-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        struct sealed memory;

        CHECK(fd >= 0);
        CHECK_INT(ftruncate(fd, (off_t)size), 0);
        CHECK_INT(fallocate(fd, FALLOC_FL_KEEP_SIZE, 5 * (off_t)page(), 5 * (off_t)page()), 0);
        CHECK_INT(fcntl(fd, F_ADD_SEALS, ALL), 0);
        CHECK_INT(sealed_attach("shm:", fd, page(), 4 * page(), SIZE_MAX, &memory), 0);
        CHECK_INT(resident(&memory, 5), 5);
        sealed_deinit(&memory);
        close(fd);
    }
}

/* By whatever of that fails later, this process would look short of something. */
TEST(memory_that_cannot_be_read_or_that_nobody_writes_is_not_taken)
{
    size_t size = 5 * page();
    int fd = memfd(size, 0, ALL, true), again;

    again = open(test_format("/proc/self/fd/%d", fd), O_WRONLY | O_CLOEXEC);
    CHECK(again >= 0);
    expect_not_taken(again, page(), 4 * page(), "not open for reading");
    close(again);
    again = open(test_format("/proc/self/fd/%d", fd), O_WRONLY | O_RDWR | O_CLOEXEC); /* neither: open(2) */
    CHECK(again >= 0);
    expect_not_taken(again, page(), 4 * page(), "not open for reading");
    close(again);
    close(fd);
    fd = memfd(size, 0, ALL | F_SEAL_WRITE, true);
    expect_not_taken(fd, page(), 4 * page(), "nobody can write");
    close(fd);
}

TEST(what_is_no_memfd_of_ordinary_pages_is_not_taken)
{
    const char *path = test_format("%s/file", test_directory()), *shm = "/dev/shm/naru-test-sealed";
    size_t size = 5 * page();
    int fds[2], fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    CHECK_INT(ftruncate(fd, (off_t)size), 0);
    expect_not_taken(fd, page(), 4 * page(), "not a memfd");
    close(fd);
    fd = open(shm, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600); /* a tmpfs file knows seals, and has one */
    CHECK(fd >= 0);
    CHECK_INT(unlink(shm), 0);
    CHECK_INT(ftruncate(fd, (off_t)size), 0);
    expect_not_taken(fd, page(), 4 * page(), "peer passed");
    close(fd);
    CHECK_INT(pipe2(fds, O_CLOEXEC), 0);
    expect_not_taken(fds[0], page(), 4 * page(), "not a memfd");
    close(fds[0]);
    close(fds[1]);
    expect_not_taken(-1, page(), 4 * page(), "not a memfd");
}

/* Huge pages cannot be mapped in pieces of ordinary ones, and run out. */
TEST(huge_pages_are_not_taken)
{
    enum { HUGE = 2 * 1024 * 1024 };
    int fd = memfd_create("naru-test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);

    if (fd < 0)
        test_skip("this kernel has no huge pages: errno %d", errno);
    CHECK_INT(ftruncate(fd, 2 * HUGE), 0);
    CHECK_INT(fcntl(fd, F_ADD_SEALS, ALL), 0);
    expect_not_taken(fd, HUGE, HUGE, "not a memfd of ordinary pages");
    close(fd);
}

/* --- where there is no room --- */

static void expect_no_memory(size_t ring, int code, const char *why)
{
    struct sealed memory = {.plain = 7};
    int fd = -7;

    CHECK_INT(sealed_make("shm:", "naru-test", page(), ring, 0, &memory, &fd), -code);
    CHECK_CONTAINS(naru_explain(), why);
    CHECK(fd == -7 && memory.plain == 7);
}

/* Lowers a limit, and gives back what it was. */
static struct rlimit lower(int resource, rlim_t to)
{
    struct rlimit before, now;

    CHECK_INT(getrlimit((__rlimit_resource_t)resource, &before), 0);
    now = (struct rlimit){to, before.rlim_max};
    CHECK_INT(setrlimit((__rlimit_resource_t)resource, &now), 0);
    return before;
}

TEST(a_limit_of_file_sizes_is_explained_and_kills_nobody)
{
    struct sealed memory;
    int fd;

    (void)lower(RLIMIT_FSIZE, 4 * page());
    expect_no_memory(4 * page(), EFBIG, "ulimit -f");
    (void)lower(RLIMIT_FSIZE, 5 * page());
    fd = make(&memory);
    sealed_deinit(&memory);
    close(fd);
}

TEST(more_than_the_machine_has_is_refused)
{
    expect_no_memory((size_t)1 << 50, ENOMEM, "no room for");
}

TEST(an_address_space_that_is_full_is_explained)
{
    struct rlimit before;
    struct sealed memory = {.base = NULL}, own;
    int fd = make(&own), r;

    before = lower(RLIMIT_AS, 0);
    r = sealed_attach("shm:", fd, own.plain, own.ring, 0, &memory);
    CHECK_INT(setrlimit(RLIMIT_AS, &before), 0);
    CHECK_INT(r, -ENOMEM);
    CHECK_CONTAINS(naru_explain(), "address space");
    CHECK(!memory.base);
    close(fd);
    sealed_deinit(&own);
}

TEST(without_descriptors_it_is_explained_and_nothing_is_left)
{
    struct rlimit before;

    CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
    test_limit_descriptors(0);
    expect_no_memory(page(), EMFILE, "memfd_create");
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0); /* the runner looks for leaks by one */
}

TEST(a_kernel_without_seals_is_named)
{
    test_refuse_call(SYS_fcntl, EINVAL);
    expect_no_memory(page(), EINVAL, "cannot seal");
}
