/* SPDX-License-Identifier: MIT */
/*
 * The places where tracers look in (base/probe.h): each is described by a note in the binary, and is passed
 * when what it is named for happens, with the arguments that docs/tracing.md promises. A tracer of our own
 * reads the notes, stops a process at them and reads the arguments as the notes describe them.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mechanism.h"
#include "naru/naru.h"
#include "tracee.h"

enum { PLACES_MAX = 64, ARGUMENTS_MAX = 4 };

/* A note: the probe's name, where it stands in this process, and "8@%rdi 8@8(%rdi) -4@%esi". */
struct place {
    char name[24], arguments[96];
    uint64_t address;
};

struct file {
    const uint8_t *data;
    size_t size;
};

static struct file map_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    struct file f;

    CHECK(fd >= 0 && fstat(fd, &st) == 0);
    f = (struct file){mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0), (size_t)st.st_size};
    CHECK(f.data != MAP_FAILED);
    close(fd);
    return f;
}

static const Elf64_Shdr *find_section(struct file f, const char *name)
{
    const Elf64_Ehdr *header = (const void *)f.data;
    const Elf64_Shdr *sections = (const void *)(f.data + header->e_shoff);
    const char *names = (const char *)f.data + sections[header->e_shstrndx].sh_offset;

    for (int i = 0; i < header->e_shnum; i++)
        if (strcmp(names + sections[i].sh_name, name) == 0)
            return &sections[i];
    return NULL;
}

/* The notes of provider naru (the format is that of sys/sdt.h: three addresses, three strings). base: where
 * the file is mapped. */
static size_t read_places(struct file f, uint64_t base, struct place places[PLACES_MAX])
{
    const Elf64_Shdr *notes = find_section(f, ".note.stapsdt"), *anchor = find_section(f, ".stapsdt.base");
    size_t offset = 0, count = 0;

    while (notes && offset < notes->sh_size) {
        const Elf64_Nhdr *note = (const void *)(f.data + notes->sh_offset + offset);
        const uint8_t *text = (const uint8_t *)(note + 1) + ((note->n_namesz + 3U) & ~3U);
        const char *provider = (const char *)text + 3 * sizeof(uint64_t);
        const char *name = provider + strlen(provider) + 1, *arguments = name + strlen(name) + 1;
        uint64_t where[3];

        memcpy(where, text, sizeof where);
        offset += sizeof *note + ((note->n_namesz + 3U) & ~3U) + ((note->n_descsz + 3U) & ~3U);
        if (strcmp(provider, "naru") != 0)
            continue;
        CHECK(count < PLACES_MAX && anchor);
        places[count].address = base + where[0] + (anchor->sh_addr - where[1]);
        snprintf(places[count].name, sizeof places->name, "%s", name);
        snprintf(places[count++].arguments, sizeof places->arguments, "%s", arguments);
    }
    return count;
}

static int this_program(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    *(uint64_t *)data = info->dlpi_addr;
    return 1; /* the first is the program itself: dl_iterate_phdr(3) */
}

/* Those of this program, which has all of the library in it. Skips the test where the build has none. */
static size_t find_places(struct place places[PLACES_MAX])
{
    uint64_t base = 0;
    struct file f = map_file("/proc/self/exe");
    size_t count;

    dl_iterate_phdr(this_program, &base);
    count = read_places(f, base, places);
    munmap((void *)(uintptr_t)f.data, f.size);
#ifdef NARU_USDT
    CHECK(count > 0);
#else
    CHECK_INT(count, 0);
    test_skip("built without probes (no sys/sdt.h)");
#endif
    return count;
}

static bool has(const struct place *places, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(places[i].name, name) == 0)
            return true;
    return false;
}

static const char *const names[] = {"send", "send_batch", "receive",   "sleep",
                                    "wake", "ring",       "reconnect", "disconnect"};

TEST(the_shared_library_describes_each_probe)
{
    struct place places[PLACES_MAX];
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 16);
    struct file f;
    size_t count;

    (void)find_places(places);
    CHECK(n > 0);
    path[n] = '\0';
    strcpy(strrchr(path, '/') + 1, "libnaru.so");
    if (access(path, R_OK) < 0)
        test_skip("no libnaru.so beside this program");
    f = map_file(path);
    count = read_places(f, 0, places);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!has(places, count, names[i]))
            test_fail(__FILE__, __LINE__, "no probe named %s among %zu in libnaru.so", names[i], count);
    munmap((void *)(uintptr_t)f.data, f.size);
}

/* --- a tracer --- */

struct hit {
    const char *name;
    int64_t arguments[ARGUMENTS_MAX];
};

static int64_t peek(int pid, int64_t address, int bytes)
{
    long word;

    errno = 0;
    word = ptrace(PTRACE_PEEKDATA, pid, (void *)(intptr_t)address, NULL);
    CHECK_INT(errno, 0);
    return bytes == 4 ? (int32_t)word : word;
}

/* "N@%reg", "N@OFFSET(%reg)" or "N@$NUMBER", N bytes; negative: signed. */
static int64_t read_argument(int pid, const char *text)
{
    char name[8];
    long long offset;
    int bytes, used = 0;

    CHECK_INT(sscanf(text, "%d@%n", &bytes, &used), 1);
    bytes = bytes < 0 ? -bytes : bytes;
    text += used;
    if (sscanf(text, "$%lld", &offset) == 1)
        return offset;
    if (*text == '%' && sscanf(text, "%7[%a-z0-9]", name) == 1)
        return processor_register(pid, name);
    offset = 0;
    CHECK(sscanf(text, "%lld(%7[%a-z0-9])", &offset, name) == 2 || sscanf(text, "(%7[%a-z0-9])", name) == 1);
    return peek(pid, processor_register(pid, name) + offset, bytes);
}

static void read_hit(int pid, const struct place *place, struct hit *ret_hit)
{
    char text[sizeof place->arguments], *rest = text, *word;

    snprintf(text, sizeof text, "%s", place->arguments);
    *ret_hit = (struct hit){.name = place->name};
    for (int i = 0; i < ARGUMENTS_MAX && (word = strsep(&rest, " ")); i++)
        ret_hit->arguments[i] = read_argument(pid, word);
}

/* The first place of that name that the process comes to; others are passed. */
static void await_hit(int pid, const struct place *places, size_t count, const char *name,
                      struct hit *ret_hit)
{
    struct processor_state state;
    int status, pass = 0;

    for (;;) {
        CHECK_INT(ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)pass), 0);
        CHECK_INT(waitpid(pid, &status, 0), pid);
        if (!WIFSTOPPED(status))
            test_fail(__FILE__, __LINE__, "it ended (status %#x) and did not come to %s", (unsigned)status,
                      name);
        pass = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
        processor_look(pid, &state);
        for (size_t i = 0; pass == 0 && i < count; i++) {
            if (places[i].address + 1 != state.ip || strcmp(places[i].name, name) != 0)
                continue;
            read_hit(pid, &places[i], ret_hit);
            return;
        }
    }
}

static void check_url(int pid, int64_t address, const char *url)
{
    char text[64] = "";

    for (size_t i = 0; i < sizeof text - 1 && (i == 0 || text[i - 1]); i++)
        text[i] = (char)peek(pid, address + (int64_t)i, 8);
    CHECK_CONTAINS(text, url);
}

/* Starts a child that takes ends[1] and waits to be traced, with a stop at each place. */
static int start(void (*run)(struct naru_channel *ch), struct naru_channel *ends[2],
                 const struct place *places, size_t count)
{
    struct tracee t;
    int pid = fork();

    if (pid == 0) {
        naru_channel_close(ends[0]);
        tracee_begin();
        run(ends[1]);
        _exit(0);
    }
    CHECK(pid > 0);
    naru_channel_close(ends[1]);
    tracee_take(&t, pid, false);
    for (size_t i = 0; i < count; i++)
        processor_break_at_nop(pid, places[i].address);
    return pid;
}

static void finish(int pid)
{
    int status, pass = 0;

    do {
        CHECK_INT(ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)pass), 0);
        CHECK_INT(waitpid(pid, &status, 0), pid);
        pass = WIFSTOPPED(status) && WSTOPSIG(status) != SIGTRAP ? WSTOPSIG(status) : 0;
    } while (WIFSTOPPED(status));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* What the child does: one message each way, one that it has to sleep for, and the end. */
static void talk(struct naru_channel *ch)
{
    char buf[16];

    if (naru_send(ch, "hello", 5, NARU_FOREVER) != 0)
        _exit(2);
    for (int i = 0; i < 2; i++)
        if (naru_recv(ch, buf, sizeof buf, NARU_S(WAIT_LONG_S)) != 3)
            _exit(3);
    if (naru_recv(ch, buf, sizeof buf, NARU_FOREVER) != -EPIPE)
        _exit(4);
}

static void fires(const char *url)
{
    struct naru_channel *ends[2];
    struct place places[PLACES_MAX];
    const char *missing = tracee_unsupported();
    size_t count = find_places(places);
    struct hit hit;
    char buf[16];
    intptr_t end;
    int pid;

    if (missing)
        test_skip("%s", missing);
    CHECK_OK(naru_channel_pair(url, NULL, ends));
    end = (intptr_t)ends[1]; /* the same in the child */
    pid = start(talk, ends, places, count);

    await_hit(pid, places, count, "send", &hit);
    check_url(pid, hit.arguments[1], url);
    CHECK_INT(hit.arguments[0], end);
    CHECK_INT(hit.arguments[2], 5);
    CHECK_INT(naru_recv(ends[0], buf, sizeof buf, NARU_S(WAIT_LONG_S)), 5);

    CHECK_OK(naru_send(ends[0], "abc", 3, NARU_FOREVER));
    await_hit(pid, places, count, "receive", &hit);
    check_url(pid, hit.arguments[1], url);
    CHECK_INT(hit.arguments[2], 3);

    await_hit(pid, places, count, "sleep", &hit);
    CHECK_INT(hit.arguments[0], end);
    CHECK_INT(hit.arguments[2], NARU_IN);
    CHECK_OK(naru_send(ends[0], "abc", 3, NARU_FOREVER));
    await_hit(pid, places, count, "wake", &hit);
    CHECK_INT(hit.arguments[2], NARU_IN);
    CHECK_INT(hit.arguments[3], 1);

    naru_channel_close(ends[0]);
    await_hit(pid, places, count, "disconnect", &hit);
    check_url(pid, hit.arguments[1], url);
    CHECK_INT(hit.arguments[2], EPIPE);
    finish(pid);
}

TEST(probes_fire_on_shm)
{
    fires("shm:");
}

TEST(probes_fire_on_a_stream)
{
    fires("unix:");
}

TEST(probes_fire_on_messages_of_the_kernel)
{
    fires("unix:?type=seqpacket");
}

static void ring(struct naru_channel *ch)
{
    if (naru_send(ch, "x", 1, NARU_FOREVER) != 0)
        _exit(2);
}

/* Who wakes a sleeper of shm: makes a system call, and a tracer sees whose. */
TEST(the_bell_of_a_sleeper_is_seen)
{
    struct naru_channel *ends[2];
    struct place places[PLACES_MAX];
    const char *missing = tracee_unsupported();
    size_t count = find_places(places);
    struct hit hit;
    int pid;

    if (missing)
        test_skip("%s", missing);
    CHECK_OK(naru_channel_pair("shm:", NULL, ends));
    pid = start(ring, ends, places, count);
    CHECK(naru_channel_fd(ends[0]) >= 0); /* arms: an event loop is about to sleep */
    await_hit(pid, places, count, "ring", &hit);
    CHECK(hit.arguments[0] >= 0);
    finish(pid);
    naru_channel_close(ends[0]);
}
