/* SPDX-License-Identifier: MIT */
/*
 * Segments that are mapped twice in a row, whose pages are there before they are needed, and that are made of
 * huge ones: every kind, judged by what the kernel says of the mapping (smaps) and of faults (getrusage).
 */
#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <sys/syscall.h>

#include "runner-syscalls.h"
#include "segment/pages.h"
#include "segment/test-segment.h"

enum { PAGE = 4096, MIB = 1 << 20 };

static const char *const kinds[] = {"memfd", "shm+posix", "shm+sysv", "mmap", NULL};
static const char *const memory_kinds[] = {"memfd", "shm+posix", "shm+sysv", NULL};

/* One that is new, with ?options. */
static int try_to_open(const char *kind, const char *options, size_t size, struct naru_segment **ret)
{
    struct naru_segment_options given = NARU_INIT(struct naru_segment_options);
    char url[512], whole[600];

    given.unlink = strcmp(kind, "memfd") != 0;
    given.create = NARU_CREATE_NEW;
    (void)snprintf(whole, sizeof whole, "%s?%s",
                   strcmp(kind, "memfd") == 0 ? "memfd:naru-test" : url_of(kind, url, sizeof url), options);
    return naru_segment_open(whole, size, &given, ret);
}

static struct naru_segment *open_as(const char *kind, const char *options, size_t size)
{
    struct naru_segment *segment = NULL;
    int r = try_to_open(kind, options, size, &segment);

    if (r < 0)
        test_fail(__FILE__, __LINE__, "%s?%s: %s", kind, options, naru_explain());
    return segment;
}

/* --- mirrors --- */

static void check_mirror(struct naru_segment *segment, size_t size)
{
    char *data = naru_segment_data(segment);

    for (size_t i = 0; i < size; i += 1000) {
        data[i] = (char)(i / 1000 + 1);
        CHECK_INT(data[i + size], data[i]);
        data[i + size] = (char)(i / 1000 + 2);
        CHECK_INT(data[i], (char)(i / 1000 + 2));
    }
    strcpy(data + size - 5, "over the end");
    CHECK_STR(data, "the end");
}

TEST(what_runs_over_a_mirrors_end_goes_on_at_its_beginning)
{
    for (const char *const *kind = kinds; *kind; kind++) {
        struct naru_segment *segment = open_as(*kind, "mirror", 3 * PAGE);
        size_t size = 0;

        check_mirror(segment, 3 * PAGE);
        CHECK_INT(naru_segment_size(segment), 3 * PAGE);
        CHECK_INT(naru_segment_refresh(segment, &size), 0);
        CHECK_INT(size, 3 * PAGE);
        if (strcmp(*kind, "shm+sysv") != 0) {
            CHECK_INT(naru_segment_resize(segment, 5 * PAGE), 0);
            check_mirror(segment, 5 * PAGE);
        }
        naru_segment_close(segment);
    }
}

TEST(a_mirror_of_no_whole_pages_is_refused)
{
    for (const char *const *kind = kinds; *kind; kind++) {
        struct naru_segment *segment = NULL;

        CHECK_INT(try_to_open(*kind, "mirror", 3 * PAGE + 1, &segment), -EINVAL);
        CHECK_CONTAINS(naru_explain(), "12289 bytes are not whole pages of 4096, and a mirror needs such");
    }
}

/* A reader's mirror of what somebody else has open without one, and of a descriptor. */
TEST(others_map_it_as_they_like)
{
    for (const char *const *kind = kinds; *kind; kind++) {
        struct naru_segment_options options = NARU_INIT(struct naru_segment_options);
        struct naru_segment *plain = open_as(*kind, "prefault=no", 2 * PAGE), *mirror = NULL;

        options.mirror = options.read_only = 1;
        if (strcmp(*kind, "memfd") == 0)
            CHECK_INT(naru_segment_take_fd(dup(naru_segment_fd(plain)), &options, &mirror), 0);
        else {
            char url[512];

            CHECK_INT(naru_segment_open(url_of(*kind, url, sizeof url), 0, &options, &mirror), 0);
        }
        strcpy((char *)naru_segment_data(plain) + 100, "seen");
        CHECK_STR((const char *)naru_segment_data(mirror) + 100, "seen");
        CHECK_STR((const char *)naru_segment_data(mirror) + 2 * PAGE + 100, "seen");
        naru_segment_close(mirror);
        naru_segment_close(plain);
    }
}

TEST(huge_pages_has_three_values)
{
    struct naru_segment_options options = {.size = sizeof options, .huge_pages = (enum naru_huge_pages)3};
    struct naru_segment *segment = NULL;

    CHECK_INT(naru_segment_open("memfd:", PAGE, &options, &segment), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "options.huge_pages is 3");
}

/* Of huge pages that the system keeps (vm.nr_hugepages): another kind of file, on which much fails that works
 * on others. */
TEST(memory_of_kept_huge_pages_is_written_read_and_grown)
{
    static const size_t huge = 2 * 1024 * 1024;
    struct naru_segment *segment = NULL;
    struct statfs system;
    char text[8] = "";

    CHECK_INT(naru_segment_open("memfd:?huge=try", huge, NULL, &segment), 0);
    CHECK_INT(fstatfs(naru_segment_fd(segment), &system), 0);
    if (system.f_type != HUGETLBFS_MAGIC) {
        naru_segment_close(segment);
        test_skip("two huge pages are needed: sysctl vm.nr_hugepages");
    }
    CHECK_INT(naru_segment_write(segment, huge - 6, "there", 6), 0);
    CHECK_INT(naru_segment_read(segment, huge - 6, text, sizeof text), 6);
    CHECK_STR(text, "there");
    CHECK_STR((char *)naru_segment_data(segment) + huge - 6, "there");
    CHECK_INT(naru_segment_write(segment, huge - 5, "there", 6), -ENXIO);
    CHECK_INT(naru_segment_resize(segment, huge + 4096), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "not whole ones");
    CHECK_INT(naru_segment_size(segment), huge);
    CHECK_INT(naru_segment_resize(segment, 2 * huge), 0);
    CHECK_STR((char *)naru_segment_data(segment) + huge - 6, "there");
    CHECK_INT(naru_segment_write(segment, huge - 3, "across", 7), 0); /* the edge of two of them */
    CHECK_STR((char *)naru_segment_data(segment) + huge - 3, "across");
    CHECK_INT(naru_segment_resize(segment, (size_t)1 << 40), -ENOSPC);
    CHECK_CONTAINS(naru_explain(), "vm.nr_hugepages");
    CHECK_INT(naru_segment_size(segment), 2 * huge);
    naru_segment_close(segment);
}

TEST(a_want_of_kept_huge_pages_is_called_one)
{
    int fd = memfd_create("naru-test", MFD_CLOEXEC | MFD_HUGETLB);
    struct naru_segment *segment = NULL;

    if (fd < 0 && errno == EINVAL)
        test_skip("this kernel makes no memfd of huge pages");
    CHECK(fd >= 0 && ftruncate(fd, (off_t)1 << 40) == 0); /* which takes none */
    CHECK_INT(naru_segment_take_fd(fd, NULL, &segment), -ENOMEM);
    CHECK_CONTAINS(naru_explain(), "vm.nr_hugepages");
    CHECK_INT(close(fd), 0);
}

/* --- faults --- */

static long faults(void)
{
    struct rusage usage;

    CHECK_INT(getrusage(RUSAGE_THREAD, &usage), 0);
    return usage.ru_minflt + usage.ru_majflt;
}

/* How many there are while each page is written; sanitizers' own are not to be counted. */
__attribute__((no_sanitize("address", "thread", "undefined"))) static long faults_of_writing(
    struct naru_segment *segment, size_t length)
{
    char *data = naru_segment_data(segment);
    long before = faults();

    for (size_t i = 0; i < length; i += PAGE)
        data[i]++;
    return faults() - before;
}

/* Of a segment and its mirror, as it is opened and then, if it can be, as it is grown to twice that. */
static long faults_of(const char *kind, const char *options, size_t size)
{
    struct naru_segment *segment = open_as(kind, options, size);
    long count = faults_of_writing(segment, 2 * size);

    if (strcmp(kind, "shm+sysv") != 0) {
        CHECK_INT(naru_segment_resize(segment, 2 * size), 0);
        count += faults_of_writing(segment, 4 * size);
    }
    naru_segment_close(segment);
    return count;
}

/* The least of some segments: the kernel may take a page away in between, to move it, or to write what a file
 * has to its disk. */
static long least_faults_of(const char *kind, const char *options, size_t size)
{
    long least = LONG_MAX;

    for (int i = 0; i < 5 && least > 0; i++) {
        long count = faults_of(kind, options, size);

        least = count < least ? count : least;
    }
    return least;
}

TEST(nothing_faults_that_was_there_before)
{
    for (const char *const *kind = kinds; *kind; kind++) {
        CHECK_INT(least_faults_of(*kind, "prefault&mirror", MIB), 0);
        CHECK(least_faults_of(*kind, "prefault=no&mirror", MIB) > 0); /* and this counts them */
    }
}

TEST(a_kernel_that_cannot_says_so)
{
    struct naru_segment *segment = NULL;

    test_refuse_call(SYS_madvise, EINVAL); /* as before Linux 5.14 */
    CHECK_INT(try_to_open("memfd", "prefault", MIB, &segment), -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "cannot have 1048576 bytes before they are needed: Linux 5.14 can");
    CHECK_INT(try_to_open("memfd", "huge=must", 16 * MIB + PAGE, &segment), -ENOTSUP);
    segment = open_as("memfd", "huge=try", 16 * MIB);
    naru_segment_close(segment);
}

/* --- huge pages --- */

/* Bytes of the mapping at data that are mapped as huge pages, of whatever origin. */
static size_t huge_bytes(const void *data)
{
    FILE *smaps = fopen("/proc/self/smaps", "re");
    size_t kib, sum = 0;
    bool here = false;
    char line[512];

    CHECK(smaps);
    while (fgets(line, sizeof line, smaps)) {
        unsigned long begin, end;

        if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
            here = (uintptr_t)data >= begin && (uintptr_t)data < end;
        else if (here && (sscanf(line, "ShmemPmdMapped: %zu", &kib) == 1 ||
                          sscanf(line, "FilePmdMapped: %zu", &kib) == 1 ||
                          sscanf(line, "Shared_Hugetlb: %zu", &kib) == 1 ||
                          sscanf(line, "Private_Hugetlb: %zu", &kib) == 1))
            sum += kib * 1024;
    }
    (void)fclose(smaps);
    return sum;
}

/* Whether the kernel joins pages when it is told to (Linux 6.1), or why not. */
static bool can_collapse(void)
{
    size_t huge = pages_huge_size();
    bool can;
    void *data;

    if (huge == 0)
        return false;
    data = pages_reserve_addresses(huge, huge);
    CHECK(data);
    CHECK(mmap(data, huge, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == data);
    memset(data, 1, huge);
    can = pages_make_huge(data, huge) == 0;
    CHECK_INT(munmap(data, huge), 0);
    return can;
}

TEST(huge_pages_are_there_if_they_must_be)
{
    size_t huge = pages_huge_size();

    for (const char *const *kind = memory_kinds; *kind; kind++)
        for (size_t more = 0; more <= PAGE;
             more += PAGE) { /* what is no number of them has a rest of small ones */
            struct naru_segment *segment = NULL;

            if (!can_collapse()) { /* as documented */
                CHECK_INT(try_to_open(*kind, "huge=must", 2 * huge + more, &segment), -ENOTSUP);
                CHECK_CONTAINS(naru_explain(), "no huge pages for"); /* and nothing is left behind */
                segment = open_as(*kind, "huge=try", 2 * huge + more);
            } else {
                segment = open_as(*kind, "huge=must", 2 * huge + more);
                CHECK_INT((uintptr_t)naru_segment_data(segment) % huge, 0);
                memset(naru_segment_data(segment), 1, 2 * huge + more);
                CHECK_INT(huge_bytes(naru_segment_data(segment)), 2 * huge);
            }
            memset(naru_segment_data(segment), 1, 2 * huge + more);
            naru_segment_close(segment);
        }
    test_note("this kernel %s pages when told to", can_collapse() ? "joins" : "does not join");
}

TEST(a_mirror_of_huge_pages_prefaulted)
{
    size_t huge = pages_huge_size();

    for (const char *const *kind = memory_kinds; *kind; kind++) {
        struct naru_segment *segment;

        CHECK_INT(least_faults_of(*kind, "mirror&huge=try&prefault", 2 * huge), 0);
        segment = open_as(*kind, "mirror&huge=try&prefault", 2 * huge);
        check_mirror(segment, 2 * huge);
        if (can_collapse()) {
            CHECK_INT(huge_bytes(naru_segment_data(segment)), 2 * huge);
            CHECK_INT(huge_bytes((char *)naru_segment_data(segment) + 2 * huge), 2 * huge);
        }
        naru_segment_close(segment);
    }
}

TEST(where_there_are_no_huge_pages_must_fails_and_try_does_not)
{
    struct naru_segment *segment = NULL;

    for (const char *const *kind = kinds; *kind; kind++) {
        CHECK_INT(try_to_open(*kind, "huge=must", 10000, &segment), -ENOTSUP);
        CHECK_CONTAINS(naru_explain(), "no huge pages for 10000 bytes");
        CHECK_CONTAINS(naru_explain(), "fewer than one has");
        segment = open_as(*kind, "huge=try", 10000);
        strcpy(naru_segment_data(segment), "works");
        naru_segment_close(segment);
        CHECK_INT(try_to_open(*kind, "huge=perhaps", 10000, &segment), -EINVAL);
    }
}

TEST(what_was_made_for_an_opening_that_failed_is_gone)
{
    struct naru_segment *segment = NULL;

    test_refuse_call(SYS_madvise, EINVAL);
    for (const char *const *kind = kinds; *kind; kind++) {
        CHECK_INT(try_to_open(*kind, "huge=must", 16 * MIB + PAGE, &segment), -ENOTSUP);
        CHECK_CONTAINS(naru_explain(), "no huge pages for 16781312 bytes");
        CHECK_INT(try_to_open(*kind, "huge=must", 16 * MIB + PAGE, &segment), -ENOTSUP); /* not: it exists */
    }
}

/* What the system keeps is taken where there is some, and is what a memfd is made of then. */
TEST(kept_huge_pages_are_used_if_there_are_any)
{
    size_t huge = pages_huge_size(), free_pages = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    struct naru_segment *segment;
    char line[128];

    CHECK(file);
    while (fgets(line, sizeof line, file))
        (void)sscanf(line, "HugePages_Free: %zu", &free_pages);
    (void)fclose(file);
    segment = open_as("memfd", "huge=try", huge);
    memset(naru_segment_data(segment), 1, huge);
    if (free_pages > 0 || can_collapse())
        CHECK_INT(huge_bytes(naru_segment_data(segment)), huge);
    test_note("%zu huge pages are kept and free", free_pages);
    naru_segment_close(segment);
}
