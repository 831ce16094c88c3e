/* SPDX-License-Identifier: MIT */
/* Segments: every kind between processes, and with plain C programs. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "segment/test-segment.h"

static const char *const named_kinds[] = {"shm+posix", "shm+sysv", "mmap", NULL};
static const char *const file_kinds[] = {"shm+posix", "mmap", NULL};

TEST(two_unrelated_openers_of_a_name_see_the_same_bytes)
{
    for (const char *const *kind = named_kinds; *kind; kind++) {
        char url[512];
        struct naru_segment *ours = open_new(url_of(*kind, url, sizeof url), SIZE);
        int pid;

        CHECK_INT(naru_segment_size(ours), SIZE);
        pid = test_fork();
        if (pid == 0) {
            struct naru_segment *theirs = NULL;

            CHECK_INT(naru_segment_open(url, 0, NULL, &theirs), 0);
            CHECK(naru_segment_data(theirs) != naru_segment_data(ours));
            strcpy(naru_segment_data(theirs), "hello from the child");
            (void)naru_segment_close(theirs);
            _exit(0);
        }
        test_join(pid);
        CHECK_STR((const char *)naru_segment_data(ours), "hello from the child");
        CHECK(naru_segment_close(ours) == NULL);
        CHECK_INT(naru_segment_open(url, 0, NULL, &ours), -ENOENT);
    }
}

TEST(a_fork_shares_a_memfd)
{
    struct naru_segment *segment = NULL;
    int *value, pid;

    CHECK_INT(naru_segment_open("memfd:", sizeof *value, NULL, &segment), 0);
    value = naru_segment_data(segment);
    CHECK_INT(*value, 0);
    pid = test_fork();
    if (pid == 0) {
        *value = 3;
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(*value, 3);
    (void)naru_segment_close(segment);
}

TEST(a_descriptor_can_be_adopted_and_stays_the_callers_on_failure)
{
    struct naru_segment *first = NULL, *second = NULL;
    int fd, pipe_fds[2];

    CHECK_INT(naru_segment_open("memfd:label", 4096, NULL, &first), 0);
    fd = dup(naru_segment_fd(first));
    CHECK_INT(naru_segment_take_fd(fd, NULL, &second), 0);
    strcpy(naru_segment_data(second), "same");
    CHECK_STR((const char *)naru_segment_data(first), "same");
    (void)naru_segment_close(second);
    CHECK(fcntl(fd, F_GETFD) < 0 && errno == EBADF);

    CHECK_INT(pipe(pipe_fds), 0);
    CHECK_INT(naru_segment_take_fd(pipe_fds[0], NULL, &second), -EINVAL);
    CHECK(fcntl(pipe_fds[0], F_GETFD) >= 0);
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
    fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    CHECK_INT(naru_segment_take_fd(fd, NULL, &second), -EACCES);
    CHECK_CONTAINS(naru_explain(), "read_only");
    (void)close(fd);
    (void)naru_segment_close(first);
}

/* What a textbook's programs do, without naru. */
TEST(a_plain_program_with_shmget_sees_the_same_bytes)
{
    char url[64];
    key_t key = (key_t)(0x6e000000 + getpid());
    struct naru_segment *segment = open_new(url_of("shm+sysv", url, sizeof url), 27);
    int pid = test_fork();

    if (pid == 0) {
        int id = shmget(key, 27, 0666);
        char *text = shmat(id, NULL, 0);

        CHECK(id >= 0 && (intptr_t)text != -1);
        strcpy(text, "written by shmat");
        CHECK_INT(shmdt(text), 0);
        _exit(0);
    }
    test_join(pid);
    CHECK_STR((const char *)naru_segment_data(segment), "written by shmat");
    CHECK_INT(naru_segment_resize(segment, 28), -ENOTSUP);
    CHECK_INT(naru_segment_fd(segment), -ENOTSUP);
    (void)naru_segment_close(segment);
}

TEST(an_object_made_by_a_plain_program_opens_by_key_and_by_id)
{
    key_t key = (key_t)(0x6e000000 + getpid());
    int id = shmget(key, 100, IPC_CREAT | IPC_EXCL | 0600);
    struct naru_segment *segment = NULL;
    char url[64];

    CHECK(id >= 0);
    CHECK_INT(naru_segment_open(url_of("shm+sysv", url, sizeof url), 0, NULL, &segment), 0);
    CHECK_INT(naru_segment_size(segment), 100);
    CHECK_INT(naru_segment_write(segment, 0, "by key", 7), 0);
    (void)naru_segment_close(segment);
    (void)snprintf(url, sizeof url, "shm+sysv:?id=%d", id);
    CHECK_INT(naru_segment_open(url, 0, NULL, &segment), 0);
    CHECK_STR((const char *)naru_segment_data(segment), "by key");
    (void)naru_segment_close(segment);
    CHECK_INT(naru_segment_remove(url), 0);
    CHECK_INT(naru_segment_remove(url), -ENOENT);
    CHECK_INT(naru_segment_open(url, 0, NULL, &segment), -ENOENT);
}

TEST(a_plain_program_with_shm_open_sees_the_same_bytes)
{
    char url[64];
    struct naru_segment *segment = open_new(url_of("shm+posix", url, sizeof url), SIZE);
    int fd = shm_open(url + strlen("shm+posix:"), O_RDWR, 0);
    char *text = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    CHECK(fd >= 0 && text != MAP_FAILED);
    strcpy(text, "A writes 3");
    CHECK_STR((const char *)naru_segment_data(segment), "A writes 3");
    CHECK_INT(munmap(text, SIZE), 0);
    (void)close(fd);
    (void)naru_segment_close(segment);
}

TEST(a_name_whose_maker_has_not_sized_it_opens_empty_and_grows)
{
    char url[64];
    const char *name = url_of("shm+posix", url, sizeof url) + strlen("shm+posix:");
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    struct naru_segment *segment = NULL;
    size_t size = 1;

    CHECK(fd >= 0);
    CHECK_INT(naru_segment_open(url, 0, NULL, &segment), 0);
    CHECK(naru_segment_data(segment) == NULL);
    CHECK_INT(ftruncate(fd, 5), 0);
    CHECK_INT(naru_segment_refresh(segment, &size), 0);
    CHECK_INT(size, 5);
    CHECK(naru_segment_data(segment) != NULL);
    CHECK_INT(naru_segment_remove(url), 0);
    (void)naru_segment_close(segment);
    (void)close(fd);
}

TEST(growing_keeps_the_bytes_and_other_handles_follow)
{
    for (const char *const *kind = file_kinds; *kind; kind++) {
        char url[512], byte = 'x';
        struct naru_segment *ours = open_new(url_of(*kind, url, sizeof url), 5), *theirs = NULL;
        size_t size;

        CHECK_INT(naru_segment_open(url, 5, NULL, &theirs), 0);
        memcpy(naru_segment_data(ours), "hello", 5);
        CHECK_INT(naru_segment_resize(ours, 3 << 20), 0);
        CHECK(memcmp(naru_segment_data(ours), "hello", 5) == 0);
        ((char *)naru_segment_data(ours))[(3 << 20) - 1] = 'z';
        CHECK_INT(naru_segment_size(theirs), 3 << 20);
        CHECK_INT(naru_segment_refresh(theirs, &size), 0);
        CHECK_INT(size, 3 << 20);
        CHECK_INT(((char *)naru_segment_data(theirs))[(3 << 20) - 1], 'z');
        CHECK_INT(naru_segment_read(theirs, 5, &byte, 1), 1);
        CHECK_INT(byte, 0);
        CHECK_INT(naru_segment_resize(ours, 5), -EINVAL);
        CHECK_INT(naru_segment_resize(theirs, 3 << 20), 0);
        (void)naru_segment_close(theirs);
        (void)naru_segment_close(ours);
    }
}

TEST(growing_at_once_from_many_processes_never_shrinks)
{
    char url[64];
    struct naru_segment *segment = open_new(url_of("shm+posix", url, sizeof url), 1);
    int pids[4];

    for (int i = 0; i < 4; i++) {
        pids[i] = test_fork();
        if (pids[i] == 0) {
            struct naru_segment *mine = NULL;

            CHECK_INT(naru_segment_open(url, 0, NULL, &mine), 0);
            for (size_t size = 2; size < 2000; size += 1 + (size_t)i) {
                ssize_t now = naru_segment_size(mine);

                /* Somebody else may be further already: then ours is refused as a shrinking. */
                int r = naru_segment_resize(mine, size * 100);

                CHECK(r == 0 || r == -EINVAL);
                CHECK(naru_segment_size(mine) >= now);
                CHECK(naru_segment_size(mine) >= (ssize_t)size * 100);
            }
            (void)naru_segment_close(mine);
            _exit(0);
        }
    }
    for (int i = 0; i < 4; i++)
        test_join(pids[i]);
    (void)naru_segment_close(segment);
}

TEST(create_says_who_makes_it)
{
    for (const char *const *kind = named_kinds; *kind; kind++) {
        struct naru_segment *segment = NULL, *other = NULL;
        char url[512];

        url_of(*kind, url, sizeof url);
        CHECK_INT(naru_segment_open(url, 0, NULL, &segment), -ENOENT);
        CHECK_CONTAINS(naru_explain(), "?create");
        CHECK_INT(open_with(url, 10, NARU_CREATE_NO, &segment), -ENOENT);
        CHECK_INT(open_with(url, 0, NARU_CREATE_YES, &segment), -EINVAL);
        CHECK_CONTAINS(naru_explain(), "needs a size");
        CHECK_INT(open_with(url, 10, NARU_CREATE_YES, &segment), 0);
        CHECK_INT(open_with(url, 10, NARU_CREATE_YES, &other), 0);
        (void)naru_segment_close(other);
        CHECK_INT(open_with(url, 10, NARU_CREATE_NEW, &other), -EEXIST);
        CHECK_INT(naru_segment_open(url, 11, NULL, &other), -EINVAL);
        CHECK_CONTAINS(naru_explain(), "exists with 10 bytes");
        (void)naru_segment_close(segment);
        CHECK_INT(naru_segment_remove(url), 0);
        CHECK_INT(naru_segment_remove(url), -ENOENT);
    }
}

TEST(read_only_maps_for_reading)
{
    struct naru_segment_options options = NARU_INIT(struct naru_segment_options);

    options.read_only = 1;
    for (const char *const *kind = named_kinds; *kind; kind++) {
        char url[512], got[4];
        struct naru_segment *writer = open_new(url_of(*kind, url, sizeof url), 4), *reader = NULL;
        int pid, status;

        memcpy(naru_segment_data(writer), "abc", 4);
        CHECK_INT(naru_segment_open(url, 0, &options, &reader), 0);
        CHECK_INT(naru_segment_read(reader, 0, got, 4), 4);
        CHECK_STR(got, "abc");
        CHECK_INT(naru_segment_write(reader, 0, "x", 1), -EACCES);
        pid = fork();
        if (pid == 0) {
            const struct rlimit no_core = {0, 0};

            (void)setrlimit(RLIMIT_CORE, &no_core);
            (void)signal(SIGSEGV, SIG_DFL);
            *(volatile char *)naru_segment_data(reader) = 'x';
            _exit(0);
        }
        CHECK_INT(waitpid(pid, &status, 0), pid);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
        (void)naru_segment_close(reader);
        (void)naru_segment_close(writer);
    }
}

TEST(the_permission_mode_is_exact_and_decides)
{
    test_need_root();
    for (const char *const *kind = named_kinds; *kind; kind++) {
        struct naru_segment *segment = NULL;
        char url[512], made[600];
        int pid;

        url_of(*kind, url, sizeof url);
        if (strcmp(*kind, "mmap") == 0) {
            CHECK_INT(chmod(test_directory(), 0755), 0);
        }
        for (int allowed = 0; allowed < 2; allowed++) {
            (void)umask(077);
            (void)snprintf(made, sizeof made, "%s?create=new&unlink&mode=%s", url, allowed ? "0666" : "0600");
            CHECK_INT(naru_segment_open(made, 10, NULL, &segment), 0);
            pid = test_fork_as_nobody();
            if (pid == 0) {
                struct naru_segment *theirs = NULL;
                int r;

                r = naru_segment_open(url, 0, NULL, &theirs);
                if (!allowed) {
                    CHECK_INT(r, -EACCES);
                    CHECK_CONTAINS(naru_explain(), "?mode=");
                    _exit(0);
                }
                CHECK_INT(r, 0);
                strcpy(naru_segment_data(theirs), "nobody");
                (void)naru_segment_close(theirs);
                CHECK(naru_segment_remove(url) < 0);
                _exit(0);
            }
            test_join(pid);
            CHECK_STR((const char *)naru_segment_data(segment), allowed ? "nobody" : "");
            (void)naru_segment_close(segment);
        }
    }
}

TEST(what_its_maker_may_not_attach_to_is_not_left)
{
    struct naru_segment *segment = NULL;
    char url[512], made[600];
    int pid;

    test_need_root();
    url_of("shm+sysv", url, sizeof url);
    (void)snprintf(made, sizeof made, "%s?mode=0200", url);
    pid = test_fork_as_nobody();
    if (pid == 0) {
        CHECK_INT(naru_segment_open(made, 10, NULL, &segment), -EACCES);
        CHECK_CONTAINS(naru_explain(), "cannot attach it");
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(naru_segment_open(url, 0, NULL, &segment), -ENOENT);
}

TEST(closing_does_not_unlink_what_somebody_else_made_meanwhile)
{
    for (const char *const *kind = named_kinds; *kind; kind++) {
        char url[512];
        struct naru_segment *old = open_new(url_of(*kind, url, sizeof url), 8), *new = NULL;

        CHECK_INT(naru_segment_remove(url), 0);
        CHECK_INT(open_with(url, 8, NARU_CREATE_NEW, &new), 0);
        (void)naru_segment_close(old);
        (void)naru_segment_close(new);
        CHECK_INT(naru_segment_open(url, 0, NULL, &new), 0);
        (void)naru_segment_close(new);
        CHECK_INT(naru_segment_remove(url), 0);
    }
}

TEST(only_the_process_that_opened_it_unlinks)
{
    char url[64];
    struct naru_segment *segment = open_new(url_of("shm+posix", url, sizeof url), 8), *again = NULL;
    int pid = test_fork();

    if (pid == 0) {
        (void)naru_segment_close(segment);
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(naru_segment_open(url, 0, NULL, &again), 0);
    (void)naru_segment_close(again);
    (void)naru_segment_close(segment);
    CHECK_INT(naru_segment_open(url, 0, NULL, &again), -ENOENT);
}

struct search {
    const char *url;
    int found;
    uint64_t bytes;
    unsigned mode;
};

static int look_for(const struct naru_segment_entry *entry, void *argument)
{
    struct search *search = argument;

    if (strcmp(entry->url, search->url) != 0)
        return 0;
    search->found++;
    search->bytes = entry->bytes;
    search->mode = entry->mode;
    return 7;
}

TEST(the_list_shows_what_exists)
{
    for (int i = 0; i < 2; i++) {
        char url[512];
        struct naru_segment *segment = open_new(url_of(named_kinds[i], url, sizeof url), 1234);
        struct search search = {.url = url};

        CHECK_INT(naru_segment_list(named_kinds[i], look_for, &search), 7);
        CHECK_INT(search.found, 1);
        CHECK_INT(search.bytes, 1234);
        CHECK_INT(search.mode, 0600);
        (void)naru_segment_close(segment);
        CHECK_INT(naru_segment_list(named_kinds[i], look_for, &search), 0);
    }
    CHECK_INT(naru_segment_list("memfd", look_for, NULL), -ENOTSUP);
    CHECK_INT(naru_segment_list("tcp", look_for, NULL), -EINVAL);
}

TEST(what_makes_no_sense_is_refused_with_a_sentence)
{
    static const struct {
        const char *url;
        size_t size;
        int code;
        const char *part;
    } cases[] = {
        {"tcp://127.0.0.1:1", 1, -EINVAL, "expected a segment"},
        {"memfd:", 0, -EINVAL, "needs a size"},
        {"memfd:?mode=9", 1, -EINVAL, "octal"},
        {"memfd:?what=1", 1, -EINVAL, "means nothing"},
        {"shm+posix:/", 1, -EINVAL, "expected a name"},
        {"shm+posix:/a/b", 1, -EINVAL, "expected a name"},
        {"shm+posix:..", 1, -EINVAL, "expected a name"},
        {"shm+sysv:0", 1, -EINVAL, "a System V key"},
        {"shm+sysv:abc", 1, -EINVAL, "a System V key"},
        {"shm+sysv:1?id=2", 1, -EINVAL, "not both"},
        {"mmap:", 1, -EINVAL, "expected a path"},
        {"mmap:///nowhere/file", 1, -ENOENT, "directory"},
        {"mmap:///dev/null", 0, -EINVAL, "no regular file"},
        {"shm+posix:/naru-link?create=no", 0, -EINVAL, "in the way"},
        {"mmap:///tmp?create=maybe", 1, -EINVAL, "no|yes|new"},
        {"memfd:", SIZE_MAX, -EINVAL, "address space"},
        {"memfd:", SIZE_MAX / 8, -ENOMEM, "Cannot allocate memory"},
        {"shm+posix:/naru-absurd", SIZE_MAX / 8, -ENOMEM, "Cannot allocate memory"},
    };

    CHECK_INT(symlink("/dev/null", "/dev/shm/naru-link"), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct naru_segment *segment = NULL;

        CHECK_INT(naru_segment_open(cases[i].url, cases[i].size, NULL, &segment), cases[i].code);
        CHECK_CONTAINS(naru_explain(), cases[i].part);
        CHECK(segment == NULL);
    }
    CHECK_INT(unlink("/dev/shm/naru-link"), 0);
    CHECK_INT(naru_segment_remove("memfd:"), -ENOTSUP);
}

TEST(of_a_refusal_it_is_said_whose_permission_bits_it_was)
{
    const char *theirs = test_format("mmap://%s/theirs", test_directory());
    const char *new = test_format("mmap://%s/new", test_directory());
    struct naru_segment *segment = NULL;
    int pid;

    test_need_root();
    CHECK_INT(chmod(test_directory(), 0755), 0);
    CHECK_INT(naru_segment_open(theirs, SIZE, NULL, &segment), 0);
    naru_segment_close(segment);
    pid = test_fork_as_nobody();
    if (pid == 0) {
        CHECK_INT(naru_segment_open(theirs, 0, NULL, &segment), -EACCES);
        CHECK_CONTAINS(naru_explain(), "its owner decides");
        CHECK_INT(naru_segment_open(new, SIZE, NULL, &segment), -EACCES);
        CHECK_CONTAINS(naru_explain(), "of the directory");
        _exit(0);
    }
    test_join(pid);
    CHECK_INT(naru_segment_open("memfd:", SIZE, NULL, &segment), 0);
    CHECK_INT(fcntl(naru_segment_fd(segment), F_ADD_SEALS, F_SEAL_GROW), 0);
    CHECK_INT(naru_segment_resize(segment, (size_t)2 * SIZE), -EPERM);
    CHECK_CONTAINS(naru_explain(), "sealed");
    naru_segment_close(segment);
}
