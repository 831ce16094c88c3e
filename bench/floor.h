/* SPDX-License-Identifier: MIT */
/*
 * The floors: what a good hand-written program does with each mechanism, with nothing of naru. What is meant
 * by "the same framing with the same system calls" (fairness cuts both ways, so it is said here once):
 *
 *  - Byte streams carry a 32-bit big-endian length before each payload, as ?frame=len32 does.
 *  - One send call is one system call: a writev(2) of header and payload, or one write(2) of both together
 *    where the message is small enough for the copy to be cheaper (1 KiB). No message waits for another.
 *  - A receiver reads what there is into a buffer of 128 KiB, one read(2) for many small messages, and hands
 *    each message out where it lies: it does not even copy. So a ratio of 1.05 says that naru_recv() pays for
 *    its copy, its checks and its bookkeeping with 5 %.
 *  - A FIFO is the exception: others may read it too, so nothing behind a message may be taken. Its receiver
 *    reads the length, then the payload, as naru does there.
 *  - In the batch pattern the floor is the rate that one system call for each message gives: one write a
 *    message and one read a message, with the size known beforehand, so that a single read suffices.
 *  - Queues and datagrams are carried as they are: one send call, one receive call.
 *  - What unix sockets and UDP bring is received by recvmsg(2), as in naru: on unix sockets with room for
 *    descriptors, which the kernel closes unseen otherwise; where they keep messages apart also with
 *    SO_PASSCRED, without which a seqpacket's empty message and its end look alike; on UDP with SO_RXQ_OVFL,
 *    which counts what was dropped, and there the server is not connected and answers the address that asked.
 *    `carrier.plain` (naru bench --plain) does without all that: read(2), recv(2), connected ends.
 *  - All calls block in the kernel; nothing polls, nothing spins but shared memory's. Sockets are plain, with
 * TCP_NODELAY.
 *  - One-way mechanisms are used twice, once for each direction.
 */
#ifndef BENCH_FLOOR_H
#define BENCH_FLOOR_H

#include "bench/carrier.h"

/* Shared memory with nothing of naru: floor-spin.c, floor-sleep.c. */
extern const struct carrier floor_shm_lines, floor_shm_guarded, floor_shm_slots, floor_shm_ring,
    floor_shm_futex, floor_shm_eventfd, floor_shm_epoll, floor_shm_lend, floor_shm_lend_calls;

extern const struct carrier floor_pipe, floor_fifo, floor_unix_stream, floor_unix_seqpacket, floor_unix_dgram,
    floor_tcp, floor_udp, floor_sysvmq, floor_posixmq;

#endif
