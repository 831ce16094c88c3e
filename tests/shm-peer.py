#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""shm-peer.py SOCKET COUNT [loop]: another implementation of shm:, from man/naru-shm-format.7 alone.

Connects, sends COUNT messages of all lengths, and expects each of them back.
loop: with bells for event loops, in one of which it waits.
"""
import array
import ctypes
import fcntl
import mmap
import os
import select
import socket
import struct
import sys

PAGE, RING, LAYOUT, LINE = 4096, 8192, 3, 64
TAKEN, RECEIVER_ASLEEP, SENDER_ASLEEP, END = 1344, 128, 192, 256
F_ADD_SEALS, SEALS = 1033, 0x1 | 0x2 | 0x4 | 0x10  # SEAL, SHRINK, GROW, FUTURE_WRITE
MEMBARRIER, GLOBAL_EXPEDITED, REGISTER_GLOBAL_EXPEDITED = 324, 1 << 1, 1 << 2
LOOP = 1 << 31
syscall = ctypes.CDLL(None).syscall


def record_bytes(length):
    total = 8 + length
    return next((size for size in (16, 32, 64) if total <= size), (total + 7) // 8 * 8)


def packet(kind):
    return struct.pack("<8sIIIIIIQQ", b"naruhi\0\0", kind, 0, LAYOUT, LAYOUT, LINE, PAGE, RING, 1 << 26) + bytes(64) + struct.pack("<QII", 0, 1, 0)


class Link:
    def __init__(self, path, loop):
        syscall(MEMBARRIER, REGISTER_GLOBAL_EXPEDITED, 0, 0)
        fd = os.memfd_create("peer", os.MFD_ALLOW_SEALING)
        os.posix_fallocate(fd, 0, PAGE + RING)
        self.own = mmap.mmap(fd, PAGE + RING)
        struct.pack_into("<8sIIQQI", self.own, 0, b"narushm\0", LAYOUT, LINE, RING, 0, 1)
        fcntl.fcntl(fd, F_ADD_SEALS, SEALS)
        self.receivers_bell, listener_receives = socket.socketpair()
        self.senders_bell, listener_sends = socket.socketpair()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as meeting:
            meeting.connect(path)
            fds = array.array("i", [fd, listener_receives.fileno(), listener_sends.fileno()])
            self.loop = self.listeners_loop = None
            if loop:
                self.make_loop(fds)
            meeting.sendmsg([packet(1)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            answer, control, _, _ = meeting.recvmsg(256, socket.CMSG_SPACE(4))
        kind, reason = struct.unpack_from("<II", answer, 8)
        assert answer[:8] == b"naruhi\0\0" and kind == 2, (kind, reason)
        (memory,) = struct.unpack("i", control[0][2])
        magic, layout, line, self.their_ring, pool = struct.unpack("<8sIIQQ", os.pread(memory, 32, 0))
        assert (magic, layout, line) == (b"narushm\0", LAYOUT, LINE)
        self.theirs = mmap.mmap(memory, PAGE + self.their_ring + pool, prot=mmap.PROT_READ)
        self.sent = self.taken = self.ticket = 0
        self.rung = {}
        for end in (fd, memory):
            os.close(end)
        listener_receives.close(), listener_sends.close()

    def make_loop(self, fds):
        """Bells to take from, and an epoll that shows each time that somebody took from ours."""
        self.listeners_loop, own = (os.eventfd(1 << 31, os.EFD_CLOEXEC | os.EFD_SEMAPHORE) for _ in range(2))
        fds.extend([self.listeners_loop, own])
        self.loop = select.epoll()
        self.loop.register(own, select.EPOLLOUT | select.EPOLLET)
        self.loop.register(self.receivers_bell, select.EPOLLIN)

    def ring(self, ticket, bell):
        if ticket & LOOP and self.listeners_loop:
            os.preadv(self.listeners_loop, [bytearray(8)], -1, os.RWF_NOWAIT)
        else:
            bell.send(b"\1", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def publish(self, where, bell):
        """After a store: rings for whoever sleeps there, once a ticket."""
        (ticket,) = struct.unpack_from("<I", self.theirs, where)
        if ticket != self.rung.get(where, 0):
            self.rung[where] = ticket
            if ticket:
                self.ring(ticket, bell)

    def wait(self, where, bell, ready):
        """Until ready(), asleep if need be."""
        while not ready():
            self.ticket += 1
            loop = self.loop if where == RECEIVER_ASLEEP else None
            struct.pack_into("<I", self.own, where, self.ticket | (LOOP if loop else 0))
            syscall(MEMBARRIER, GLOBAL_EXPEDITED, 0, 0)
            if not ready():
                if loop:
                    assert self.receivers_bell.fileno() not in dict(loop.poll()), "gone, or rung elsewhere"
                else:
                    assert bell.recv(64), "the other side has gone"
            struct.pack_into("<I", self.own, where, 0)

    def send(self, payload):
        size = record_bytes(len(payload))

        def has_room():
            return self.sent + size + 8 - struct.unpack_from("<Q", self.theirs, TAKEN)[0] <= RING

        self.wait(SENDER_ASLEEP, self.senders_bell, has_room)
        struct.pack_into("<Q", self.own, PAGE + (self.sent + size) % RING, 0)
        for i, byte in enumerate(payload):
            self.own[PAGE + (self.sent + 8 + i) % RING] = byte
        struct.pack_into("<Q", self.own, PAGE + self.sent % RING, 1 << 56 | len(payload))
        self.sent += size
        self.publish(RECEIVER_ASLEEP, self.receivers_bell)

    def receive(self):
        def header():
            return struct.unpack_from("<Q", self.theirs, PAGE + self.taken % self.their_ring)[0]

        self.wait(RECEIVER_ASLEEP, self.receivers_bell, header)
        word = header()
        assert word >> 32 == 1 << 24, hex(word)
        length = word & 0xFFFFFFFF
        start = self.taken + 8
        payload = bytes(self.theirs[PAGE + (start + i) % self.their_ring] for i in range(length))
        self.taken += record_bytes(length)
        struct.pack_into("<Q", self.own, TAKEN, self.taken)
        self.publish(SENDER_ASLEEP, self.senders_bell)
        return payload

    def close(self):
        struct.pack_into("<I", self.own, END, 2)
        self.publish(RECEIVER_ASLEEP, self.receivers_bell)
        self.publish(SENDER_ASLEEP, self.senders_bell)


def main():
    link, count = Link(sys.argv[1], sys.argv[3:] == ["loop"]), int(sys.argv[2])
    lengths = [0, 1, 7, 8, 9, 24, 25, 56, 57, 64, 1000, RING // 2 - 16]
    for number in range(count):
        message = bytes((number + i) % 256 for i in range(lengths[number % len(lengths)]))
        link.send(message)
        assert link.receive() == message, number
    link.close()


main()
