/* SPDX-License-Identifier: MIT */
/*
 * ?prefault and ?huge of shm: channels: that no page fault comes while messages go, small and large, copied
 * and lent (getrusage), and that the pages are huge where this kernel joins them (smaps).
 */
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "channel/shm/shm.h"
#include "naru/naru.h"
#include "runner-syscalls.h"
#include "runner.h"
#include "segment/pages.h"

enum { MIB = 1 << 20, LARGE = 3 * MIB };

static uint8_t *buffer; /* LARGE bytes that are there */

static long faults(void)
{
    struct rusage usage;

    CHECK_INT(getrusage(RUSAGE_THREAD, &usage), 0);
    return usage.ru_minflt + usage.ru_majflt;
}

static void send_and_receive(struct naru_channel *ch[2], size_t length)
{
    CHECK_INT(naru_send(ch[0], buffer, length, NARU_S(60)), 0);
    CHECK_INT(naru_recv(ch[1], buffer, LARGE, NARU_S(60)), length);
}

static void lend_and_borrow(struct naru_channel *ch[2], size_t length)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    struct naru_view view = NARU_INIT(struct naru_view);

    CHECK_INT(naru_loan(ch[0], length, NARU_S(60), &loan), 0);
    for (size_t i = 0; i < length; i += 4096)
        ((uint8_t *)loan.data)[i] = (uint8_t)i;
    CHECK_INT(naru_commit(&loan, length, NULL), 0);
    CHECK_INT(naru_borrow(ch[1], NARU_S(60), &view), 0);
    for (size_t i = 0; i < length; i += 4096)
        CHECK_INT(((const uint8_t *)view.data)[i], (uint8_t)i);
    naru_release(&view);
}

/* Faults while the ring is gone round and the pool is filled, both ends in one process, after a message each
 * way that brings the code in. */
static long faults_of(const char *url)
{
    struct naru_channel *ch[2], *back[2];
    long before;

    buffer = malloc(LARGE);
    CHECK(buffer);
    memset(buffer, 1, LARGE);
    CHECK_INT(naru_channel_pair(url, NULL, ch), 0);
    back[0] = ch[1];
    back[1] = ch[0];
    send_and_receive(ch, 8);
    send_and_receive(back, 8);
    send_and_receive(ch, 100 * 1024);
    lend_and_borrow(ch, 8);
    lend_and_borrow(ch, 100 * 1024);
    before = faults();
    for (int i = 0; i < 300; i++)
        send_and_receive(i % 2 ? ch : back, 1000);
    send_and_receive(ch, LARGE);
    send_and_receive(back, LARGE);
    lend_and_borrow(ch, LARGE);
    lend_and_borrow(back, LARGE);
    before = faults() - before;
    naru_channel_close(ch[0]);
    naru_channel_close(ch[1]);
    free(buffer);
    return before;
}

/* The least of some: the kernel may take a page away in between, to move it. */
static long least_faults_of(const char *url)
{
    long least = LONG_MAX;

    for (int i = 0; i < 5 && least > 0; i++) {
        long faults = faults_of(url);

        least = faults < least ? faults : least;
    }
    return least;
}

TEST(no_page_fault_comes_after_the_opening)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    enum { SHADOW = LARGE / 4096 }; /* the sanitizers' own memory faults, too */
#else
    enum { SHADOW = 0 };
#endif
    CHECK(faults_of("shm:?pool=4M") >
          2 * LARGE / 4096 / 16); /* the control: of as many pages, in lots of 16 */
    CHECK(least_faults_of("shm:?pool=4M&prefault=yes") <= SHADOW);
    CHECK(least_faults_of("shm:?pool=4M&prefault&huge") <= SHADOW);
    CHECK(least_faults_of("shm:?pool=4M&lanes=8&prefault") <= SHADOW);
    CHECK(least_faults_of("shm:?pool=4M&lanes=8&prefault&huge") <= SHADOW);
}

/* Bytes of all mappings of channels that are mapped as huge pages. */
static size_t huge_bytes(void)
{
    FILE *smaps = fopen("/proc/self/smaps", "re");
    size_t kib, sum = 0;
    bool here = false;
    char line[512];

    CHECK(smaps);
    while (fgets(line, sizeof line, smaps)) {
        unsigned long begin, end;

        if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
            here = strstr(line, "memfd:naru") != NULL;
        else if (here && sscanf(line, "ShmemPmdMapped: %zu", &kib) == 1)
            sum += kib * 1024;
    }
    (void)fclose(smaps);
    return sum;
}

static bool can_collapse(size_t huge)
{
    void *data = pages_reserve_addresses(huge, huge);
    bool can;

    CHECK(data);
    CHECK(mmap(data, huge, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == data);
    memset(data, 1, huge);
    can = pages_make_huge(data, huge) == 0;
    CHECK_INT(munmap(data, huge), 0);
    return can;
}

/* Messages of a priority, round the end of its ring of 64 KiB. */
static void send_urgently(struct naru_channel *ch[2], unsigned priority)
{
    struct iovec piece = {buffer, 1000};
    struct naru_message m = NARU_INIT(struct naru_message);

    m.iov = &piece;
    m.iov_count = 1;
    m.priority = priority;
    for (int i = 0; i < 100; i++) {
        CHECK_INT(naru_send_message(ch[0], &m, NARU_S(60)), 0);
        CHECK_INT(naru_recv(ch[1], buffer, LARGE, NARU_S(60)), 1000);
    }
}

TEST(the_pool_is_of_huge_pages)
{
    static const char *const urls[] = {"shm:?pool=8M&ring=2M&huge", "shm:?pool=8M&ring=64k&huge&prefault",
                                       "shm:?pool=8M&ring=64k&lanes=3&huge&prefault",
                                       "shm:?pool=8M&ring=1M&lanes=2&huge"};
    size_t huge = pages_huge_size();
    struct naru_channel *ch[2];

    buffer = malloc(LARGE);
    CHECK(buffer);
    memset(buffer, 1, LARGE);
    for (size_t n = 0; n < sizeof urls / sizeof *urls; n++) {
        bool prefault = strstr(urls[n], "prefault") != NULL;
        unsigned lanes = 1;

        CHECK_INT(naru_channel_pair(urls[n], NULL, ch), 0);
        for (int i = 0; i < 2 && huge; i++) { /* aligned whether or not there are any */
            struct shm_link *link = &((struct shm *)ch[i]->state)->link;
            size_t first = link->own.plain + link->own.ring * link->lanes_out;

            lanes = link->lanes_out;
            CHECK_INT(((uintptr_t)sealed_pool(&link->own) - first) % huge, 0);
            CHECK_INT(((uintptr_t)sealed_pool(&link->theirs) - first) % huge, 0);
        }
        if (prefault && huge &&
            can_collapse(huge)) /* of 8 MiB, less what is no whole one, in four mappings */
            CHECK(huge_bytes() >= 4 * (8 * MIB - 2 * huge));
        send_and_receive(ch, LARGE);
        send_and_receive(ch, 10);
        send_urgently(ch, lanes - 1);
        lend_and_borrow(ch, LARGE);
        lend_and_borrow(ch, 1000);
        naru_channel_close(ch[0]);
        naru_channel_close(ch[1]);
    }
    test_note("this kernel %s pages when told to", huge && can_collapse(huge) ? "joins" : "does not join");
    free(buffer);
}

/* Both ends choose for themselves; a listener's channels have the listener's options. */
TEST(either_end_may_want_it)
{
    const char *url = test_format("shm://%s/pages", test_directory());
    struct naru_listener *listener = NULL;
    struct naru_channel *ch = NULL;
    char text[8];
    int pid;

    CHECK_INT(naru_listen(test_format("%s?pool=4M&prefault&huge", url), NULL, &listener), 0);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(naru_connect(url, NULL, NARU_S(60), &ch), 0);
        CHECK_INT(naru_send(ch, "here", 4, NARU_S(60)), 0);
        CHECK_INT(naru_recv(ch, text, sizeof text, NARU_S(60)), 5);
        naru_channel_close(ch);
        test_child_end();
    }
    CHECK_INT(naru_accept(listener, NARU_S(60), &ch), 0);
    CHECK_INT(naru_recv(ch, text, sizeof text, NARU_S(60)), 4);
    CHECK_INT(naru_send(ch, "there", 5, NARU_S(60)), 0);
    test_join(pid);
    naru_channel_close(ch);
    naru_listener_close(listener);
}

TEST(what_the_machine_has_not_is_an_error_of_the_opening)
{
    struct naru_channel *ch[2];

    test_refuse_call(SYS_madvise, ENOMEM);
    CHECK_INT(naru_channel_pair("shm:?pool=1M&prefault", NULL, ch), -ENOMEM);
    CHECK_CONTAINS(naru_explain(), "the machine has no memory for"); /* at the attaching, or later */
    CHECK_INT(naru_channel_pair("shm:?prefault=perhaps", NULL, ch), -EINVAL);
}
