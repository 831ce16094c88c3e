/* SPDX-License-Identifier: MIT */
/*
 * That a payload of 1 GiB, lent and borrowed, is not copied: it is the same pages of the same file in both
 * processes, and nothing that a copy would cost is spent. A copy needs a gigabyte to copy to: anonymous
 * memory (RssAnon of proc(5)), faults to get it, or bytes moved by system calls (rchar and wchar of
 * /proc/PID/io).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

enum { PAGE = 4096, ROUNDS = 3, FAULTS_FEW = 1000, SLACK_KB = 4096, IO_FEW = 256 * 1024 };
static const size_t size = (size_t)1 << 30;

/* What one process saw of one message. */
struct seen {
    uint64_t inode, offset;
    uint64_t faults, anonymous_kb, io_bytes;
};

struct shared {
    struct seen sender[ROUNDS], receiver[ROUNDS];
};

/* The sum of the numbers behind these words, in a file of lines. */
static uint64_t read_numbers(const char *path, const char *const words[])
{
    uint64_t sum = 0, number;
    char line[256];
    FILE *file = fopen(path, "re");

    CHECK(file != NULL);
    while (fgets(line, sizeof line, file))
        for (size_t i = 0; words[i]; i++)
            if (strncmp(line, words[i], strlen(words[i])) == 0 &&
                sscanf(line + strlen(words[i]), "%" SCNu64, &number) == 1)
                sum += number;
    (void)fclose(file);
    return sum;
}

static struct seen count(void)
{
    struct rusage usage;

    CHECK_INT(getrusage(RUSAGE_SELF, &usage), 0);
    return (struct seen){
        .faults = (uint64_t)(usage.ru_minflt + usage.ru_majflt),
        .anonymous_kb = read_numbers("/proc/self/status", (const char *const[]){"RssAnon:", NULL}),
        .io_bytes = read_numbers("/proc/self/io", (const char *const[]){"rchar:", "wchar:", NULL})};
}

/* What was spent since, and where the bytes lie. */
static struct seen since(const struct seen *before, const void *data)
{
    struct seen now = count(),
                spent = {0, 0, now.faults - before->faults, 0, now.io_bytes - before->io_bytes};
    uint64_t wanted = (uint64_t)(uintptr_t)data, start, end, offset, inode;
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");

    spent.anonymous_kb =
        now.anonymous_kb > before->anonymous_kb ? now.anonymous_kb - before->anonymous_kb : 0;
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %" SCNu64, &start, &end, &offset,
                   &inode) == 4 &&
            wanted >= start && wanted < end) {
            CHECK(end - wanted >= size); /* in one piece */
            spent.inode = inode;
            spent.offset = offset + (wanted - start);
        }
    (void)fclose(maps);
    CHECK(spent.inode != 0);
    return spent;
}

/* Each page says which it is, of which round. */
static uint64_t mark(size_t at, unsigned round)
{
    return at * 8 + round + 1;
}

static void send_all(struct naru_channel *ch, struct seen *seen, struct test_gate *released)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct naru_loan loan = NARU_INIT(struct naru_loan);
        struct seen before;
        void *data;

        CHECK_INT(naru_loan(ch, size, NARU_S(60), &loan), 0);
        data = loan.data;
        before = count();
        for (size_t at = 0; at < size; at += PAGE) {
            uint64_t word = mark(at, round);

            memcpy((uint8_t *)data + at, &word, sizeof word);
        }
        CHECK_INT(naru_commit(&loan, size, NULL), 0);
        seen[round] = since(&before, data);
        test_gate_wait(released);
    }
}

static void receive_all(struct naru_channel *ch, struct seen *seen, struct test_gate *released)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct naru_view view = NARU_INIT(struct naru_view);
        struct seen before = count();

        CHECK_INT(naru_borrow(ch, NARU_S(60), &view), 0);
        CHECK_INT(view.length, size);
        for (size_t at = 0; at < size; at += PAGE) {
            uint64_t word;

            memcpy(&word, (const uint8_t *)view.data + at, sizeof word);
            if (word != mark(at, round))
                test_fail(__FILE__, __LINE__, "the page at %zu is not the one that was written", at);
        }
        seen[round] = since(&before, view.data);
        naru_release(&view);
        test_gate_open(released);
    }
}

/* None of it may cost what a copy would, and from the second message on next to nothing: the first one maps
 * the pages, some at a time, and a sanitizer its shadow of them. */
static void check_cheap(const struct seen *seen, unsigned round)
{
    CHECK(seen->anonymous_kb < SLACK_KB);
    CHECK(seen->io_bytes < IO_FEW);
    CHECK(seen->faults < (round ? FAULTS_FEW : size / PAGE / 4));
}

TEST(a_gibibyte_that_is_lent_and_borrowed_is_not_copied)
{
    struct shared *shared = test_shared(sizeof *shared);
    struct naru_channel *ch[2];
    struct test_gate released;
    struct sysinfo machine;
    int pid;

    CHECK_INT(sysinfo(&machine), 0);
    if ((uint64_t)machine.freeram * machine.mem_unit < 2 * (uint64_t)size)
        test_skip("the machine has less than 2 GiB of free memory");
    CHECK_INT(naru_channel_pair("shm:?pool=1G&max-message=1G", NULL, ch), 0);
    test_gate_init(&released);
    pid = test_fork();
    if (pid == 0) {
        ch[1] = naru_channel_close(ch[1]);
        send_all(ch[0], shared->sender, &released);
        ch[0] = naru_channel_close(ch[0]);
        test_child_end();
    }
    ch[0] = naru_channel_close(ch[0]);
    receive_all(ch[1], shared->receiver, &released);
    test_join(pid);
    ch[1] = naru_channel_close(ch[1]);
    for (unsigned round = 0; round < ROUNDS; round++) {
        CHECK_INT(shared->receiver[round].inode, shared->sender[round].inode);
        CHECK_INT(shared->receiver[round].offset, shared->sender[round].offset);
        check_cheap(&shared->sender[round], round);
        check_cheap(&shared->receiver[round], round);
    }
}

/* The counters above can tell: the same message received by copy fails them. */
TEST(a_copy_would_be_seen)
{
    enum { COPIED = 32 << 20 };
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    struct naru_channel *ch[2];
    struct seen before, after;
    uint8_t *copy;

    CHECK_INT(naru_channel_pair("shm:", NULL, ch), 0);
    CHECK_INT(naru_loan(ch[0], COPIED, NARU_NOWAIT, &loan), 0);
    CHECK_INT(naru_commit(&loan, COPIED, NULL), 0);
    before = count();
    copy = malloc(COPIED);
    CHECK(copy != NULL);
    CHECK_INT(naru_recv(ch[1], copy, COPIED, NARU_NOWAIT), COPIED);
    after = count();
    CHECK(after.anonymous_kb - before.anonymous_kb >= SLACK_KB);
    free(copy);
    for (int i = 0; i < 2; i++)
        ch[i] = naru_channel_close(ch[i]);
}
