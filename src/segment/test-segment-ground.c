/* SPDX-License-Identifier: MIT */
/* Segments with the ground pulled away: files that are cut short, no room, signals, makers that are killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "segment/test-segment.h"

TEST(a_mapped_file_outlives_both_its_users)
{
    char url[512];
    struct naru_segment *segment = NULL;
    int pid;

    url_of("mmap", url, sizeof url);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(naru_segment_open(url, 100, NULL, &segment), 0);
        strcpy(naru_segment_data(segment), "still here");
        _exit(0); /* not even closed */
    }
    test_join(pid);
    CHECK_INT(naru_segment_open(url, 0, NULL, &segment), 0);
    CHECK_STR((const char *)naru_segment_data(segment), "still here");
    (void)naru_segment_close(segment);
}

TEST(a_file_cut_short_underneath_is_an_answer_and_no_sigbus)
{
    char url[512], buffer[SIZE];
    struct naru_segment *segment = open_new(url_of("mmap", url, sizeof url), SIZE);
    size_t size;

    CHECK_INT(truncate(url + strlen("mmap://"), 100), 0);
    CHECK_INT(naru_segment_size(segment), 100);
    CHECK_INT(naru_segment_read(segment, 0, buffer, SIZE), 100);
    CHECK_INT(naru_segment_read(segment, 100, buffer, SIZE), 0);
    CHECK_INT(naru_segment_read(segment, UINT64_MAX, buffer, SIZE), 0);
    CHECK_INT(naru_segment_write(segment, 90, "0123456789", 10), 0);
    CHECK_INT(naru_segment_write(segment, 91, "0123456789", 10), -ENXIO);
    CHECK_INT(naru_segment_write(segment, UINT64_MAX - 3, "0123456789", 10), -ENXIO);
    CHECK_CONTAINS(naru_explain(), "reach past its end at 100");
    CHECK_INT(naru_segment_size(segment), 100);
    CHECK_INT(naru_segment_refresh(segment, &size), 0);
    CHECK_INT(size, 100);
    CHECK_INT(naru_segment_resize(segment, SIZE), 0);
    CHECK_INT(((char *)naru_segment_data(segment))[SIZE - 1], 0);
    (void)naru_segment_close(segment);
}

/* A small tmpfs of our own stands for the full disk. */
TEST(a_full_file_system_is_enospc_and_never_sigbus)
{
    char url[512];
    struct naru_segment *segment = NULL;

    if (mount("tmpfs", test_directory(), "tmpfs", 0, "size=1M") < 0)
        test_skip("cannot mount a tmpfs here: %s", strerror(errno));
    url_of("mmap", url, sizeof url);
    CHECK_INT(naru_segment_open(url, 2 << 20, NULL, &segment), -ENOSPC);
    CHECK_CONTAINS(naru_explain(), "free some space");
    CHECK_INT(naru_segment_open(url, 0, NULL, &segment), -ENOENT); /* nothing half-made is left */
    CHECK_INT(naru_segment_open(url, 512 << 10, NULL, &segment), 0);
    CHECK_INT(naru_segment_resize(segment, 2 << 20), -ENOSPC);
    CHECK_INT(naru_segment_size(segment), 512 << 10);
    CHECK_INT(naru_segment_resize(segment, 1 << 20), 0);
    memset(naru_segment_data(segment), 'x', 1 << 20);
    (void)naru_segment_close(segment);
    CHECK_INT(umount(test_directory()), 0);
}

/* ramfs cannot reserve room: fallocate(2). */
TEST(a_file_system_that_cannot_reserve_is_named)
{
    char url[512];
    struct naru_segment *segment = NULL;

    if (mount("ramfs", test_directory(), "ramfs", 0, NULL) < 0)
        test_skip("cannot mount a ramfs here: %s", strerror(errno));
    url_of("mmap", url, sizeof url);
    CHECK_INT(naru_segment_open(url, 4096, NULL, &segment), -EOPNOTSUPP);
    CHECK_CONTAINS(naru_explain(), "this file system cannot reserve space");
    CHECK_INT(naru_segment_open(url, 0, NULL, &segment), -ENOENT); /* nothing half-made is left */
    CHECK_INT(umount(test_directory()), 0);
}

TEST(the_file_size_limit_is_an_error_and_no_signal)
{
    const struct rlimit limit = {1 << 20, 1 << 20};
    struct naru_segment *segment = NULL;

    CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
    CHECK_INT(naru_segment_open("memfd:", 2 << 20, NULL, &segment), -EFBIG);
    CHECK_INT(naru_segment_open("memfd:", 1 << 20, NULL, &segment), 0);
    CHECK_INT(naru_segment_resize(segment, (1 << 20) + 1), -EFBIG);
    (void)naru_segment_close(segment);
}

/* One that fcntl(2) has sealed before anybody mapped it. */
static int sealed_memfd(int seals)
{
    int fd = memfd_create("naru-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    CHECK(fd >= 0 && ftruncate(fd, 16384) == 0 && fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

TEST(a_descriptor_that_is_sealed_against_writing_is_called_so)
{
    static const int seals[] = {F_SEAL_WRITE, F_SEAL_FUTURE_WRITE};
    struct naru_segment_options options = NARU_INIT(struct naru_segment_options);

    for (size_t i = 0; i < sizeof seals / sizeof *seals; i++)
        for (options.mirror = 0; options.mirror < 2; options.mirror++) {
            struct naru_segment *segment = NULL;
            int fd = sealed_memfd(seals[i]);

            options.read_only = 0;
            CHECK_INT(naru_segment_take_fd(fd, &options, &segment), -EPERM);
            CHECK_CONTAINS(naru_explain(), "it is sealed against writing");
            options.read_only = 1;
            if (!strstr(naru_explain(), "set options.read_only")) { /* F_SEAL_WRITE: since Linux 6.7 */
                CHECK_INT(seals[i], F_SEAL_WRITE);
                CHECK_INT(naru_segment_take_fd(fd, &options, &segment), -EPERM);
                CHECK_CONTAINS(naru_explain(), "maps it for reading neither");
                close(fd);
                continue;
            }
            CHECK_INT(naru_segment_take_fd(fd, &options, &segment), 0);
            (void)naru_segment_close(segment);
        }
}

static void on_alarm(int number)
{
    (void)number;
}

TEST(signals_do_not_keep_a_large_segment_from_being_made)
{
    const struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART */
    const struct itimerval storm = {{0, 300}, {0, 300}}, calm = {{0, 0}, {0, 0}};
    struct naru_segment *segment = NULL;

    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_INT(setitimer(ITIMER_REAL, &storm, NULL), 0);
    CHECK_INT(naru_segment_open("memfd:", 64 << 20, NULL, &segment), 0);
    CHECK_INT(setitimer(ITIMER_REAL, &calm, NULL), 0);
    CHECK_INT(naru_segment_size(segment), 64 << 20);
    (void)naru_segment_close(segment);
}

static int interruptions;

/* In place of libc's: not every kernel gives up at a signal, and none at a moment that one could choose. */
int fallocate(int fd, int mode, off_t at, off_t length)
{
    if (interruptions > 0) {
        interruptions--;
        errno = EINTR;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, at, length);
}

/* A third of the room is taken, so that the growth fails midway. */
TEST(an_interrupted_growth_that_finds_no_room_takes_none)
{
    struct naru_segment *filler = NULL, *segment = NULL;
    struct stat before, after;

    if (mount("tmpfs", test_directory(), "tmpfs", 0, "size=48M") < 0)
        test_skip("cannot mount a tmpfs here: %s", strerror(errno));
    CHECK_INT(naru_segment_open(test_format("mmap://%s/filler", test_directory()), 16 << 20, NULL, &filler),
              0);
    CHECK_INT(naru_segment_open(test_format("mmap://%s/grows", test_directory()), 4096, NULL, &segment), 0);
    CHECK_INT(fstat(naru_segment_fd(segment), &before), 0);
    interruptions = 2;
    CHECK_INT(naru_segment_resize(segment, 44 << 20), -ENOSPC);
    CHECK_INT(interruptions, 0);
    CHECK_INT(fstat(naru_segment_fd(segment), &after), 0);
    CHECK_INT(after.st_size, before.st_size);
    CHECK_INT(after.st_blocks, before.st_blocks);
    (void)naru_segment_close(filler);
    (void)naru_segment_close(segment);
    CHECK_INT(umount(test_directory()), 0);
}

/* The object exists whole or not at all, whenever its maker is killed. */
TEST(a_maker_killed_at_any_moment_leaves_nothing_half_made)
{
    char url[64];

    url_of("shm+posix", url, sizeof url);
    for (int round = 0; round < 200; round++) {
        struct naru_segment *segment = NULL;
        int r, pid = fork();

        if (pid == 0) {
            for (;;) {
                if (open_with(url, 1 << 16, NARU_CREATE_YES, &segment) == 0)
                    (void)naru_segment_close(segment);
                r = naru_segment_remove(url);
                CHECK(r == 0 || r == -ENOENT);
            }
        }
        /* However long the child needs to start, somewhere in its loop it is killed. */
        for (int i = 0; i < 200 + round * 7; i++) {
            r = naru_segment_open(url, 0, NULL, &segment);
            CHECK(r == 0 || r == -ENOENT);
            if (r == 0) {
                CHECK_INT(naru_segment_size(segment), 1 << 16);
                (void)naru_segment_close(segment);
            }
        }
        test_kill(pid);
        r = naru_segment_remove(url);
        CHECK(r == 0 || r == -ENOENT);
    }
}

static int refuse(void *data, size_t size, void *argument)
{
    (void)data;
    (void)size;
    return *(int *)argument;
}

static const char *const fillable[] = {"memfd:", "mmap:", NULL};

static const char *each_fillable(size_t index)
{
    return fillable[index];
}

TEST_EACH(a_refused_initialisation_is_told_as_what_it_is, each_fillable)
{
    /* -EINVAL and -ENOENT mean other things where files are made, -EEXIST that another was faster. */
    static int codes[] = {-EINVAL, -ENOENT, -EEXIST};
    const char *path = test_format("%s/refused", test_directory());
    const char *url = index ? test_format("mmap://%s", path) : "memfd:";
    struct naru_segment_options options = NARU_INIT(struct naru_segment_options);
    struct naru_segment *segment = NULL;

    options.initialise = refuse;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        options.argument = &codes[i];
        CHECK_INT(naru_segment_open(url, 100, &options, &segment), codes[i]);
        CHECK_CONTAINS(naru_explain(), "options.initialise refused to fill it in");
        CHECK(segment == NULL && access(path, F_OK) < 0);
    }
}
