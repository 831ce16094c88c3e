/* SPDX-License-Identifier: MIT */
/*
 * A program that has never heard of naru, and was written from the section "SEGMENTS WITH A NAME" of
 * naru-shm-format(7): connects, prints the first message, answers it, and closes.
 *
 *     plain-shm-named /NAME ANSWER      plain-shm-named 0xKEY ANSWER
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, TAKEN = 1344, RECEIVER_ASLEEP = 128, END = 256 };

static uint8_t *segment;

static _Atomic uint32_t *word(size_t at)
{
    return (_Atomic uint32_t *)(void *)(segment + at);
}

static _Atomic uint64_t *long_word(size_t at)
{
    return (_Atomic uint64_t *)(void *)(segment + at);
}

static void need(int ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    exit(1);
}

/* Seat 1 of a file: by another description than the mapping's. */
static void join_posix(const char *name)
{
    struct flock seat = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1};
    int fd = shm_open(name, O_RDWR, 0), lock = shm_open(name, O_RDWR, 0);
    struct stat status;

    need(fd >= 0 && lock >= 0 && fstat(fd, &status) == 0, "shm_open");
    segment = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    need(segment != MAP_FAILED, "mmap");
    close(fd);
    need(fcntl(lock, F_OFD_SETLK, &seat) == 0, "seat");
}

/* Seat 1 of a place: a semaphore. */
static void join_sysv(key_t key)
{
    int id = shmget(key, 0, 0), set = semget(key, 0, 0);
    struct sembuf seat[2] = {{.sem_op = 0, .sem_flg = IPC_NOWAIT},
                             {.sem_op = 1, .sem_flg = IPC_NOWAIT | SEM_UNDO}};

    need(id >= 0 && set >= 0, "shmget, semget");
    segment = shmat(id, NULL, 0);
    need((intptr_t)segment != -1, "shmat");
    seat[0].sem_num = seat[1].sem_num = (unsigned short)(5 + 2 * *word(16));
    need(semop(set, seat, 2) == 0, "seat");
}

/* Stored something: rings the listener's receiver, if it sleeps. */
static void ring_receiver(size_t theirs)
{
    uint32_t ticket;

    atomic_thread_fence(memory_order_seq_cst);
    ticket = *word(theirs + RECEIVER_ASLEEP);
    if (!ticket)
        return;
    *word(384) = ticket;
    (void)syscall(SYS_futex, word(384), FUTEX_WAKE, 1, NULL, NULL, 0);
}

int main(int argc, char **argv)
{
    size_t ring, theirs = PAGE, ours, length;
    uint64_t header;

    need(argc == 3, "arguments");
    if (argv[1][0] == '/')
        join_posix(argv[1]);
    else
        join_sysv((key_t)strtoul(argv[1], NULL, 0));
    need(memcmp(segment, "narunam", 8) == 0 && *word(192) == 0, "not a segment that waits");
    memcpy(&ring, segment + 64 + 32, sizeof ring);
    ours = 2 * PAGE + ring;
    *word(192) = 1;
    (void)syscall(SYS_futex, word(192), FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);

    while ((header = atomic_load(long_word(theirs + PAGE))) == 0) /* it is soon there: no sleep */
        ;
    length = (uint32_t)header;
    printf("%.*s\n", (int)length, (char *)segment + theirs + PAGE + 8);
    *long_word(ours + TAKEN) = length <= 8    ? 16
                               : length <= 24 ? 32
                               : length <= 56 ? 64
                                              : (length + 15) / 8 * 8;

    length = strlen(argv[2]);
    memcpy(segment + ours + PAGE + 8, argv[2], length); /* the header behind it is 0: the ring is new */
    *long_word(ours + PAGE) = (uint64_t)1 << 56 | length;
    ring_receiver(theirs);
    *word(ours + END) = 2;
    ring_receiver(theirs);
    return 0;
}
