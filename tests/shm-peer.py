#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""shm-peer.py connect|listen SOCKET COUNT [loop]: another implementation of shm:, from man/naru-shm-format.7 alone.

Meets the other side at SOCKET, sends COUNT messages of all lengths, by the ring and by the pool, some with a
descriptor, and expects each of them back.
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

PAGE, RING, POOL, LAYOUT, LINE = 4096, 8192, 16384, 3, 64
TAKEN, RECEIVER_ASLEEP, SENDER_ASLEEP, END, RETURNS = 1344, 128, 192, 256, 320
DATA, CHUNK = 1, 2  # kinds of records
HELLO, WELCOME = 1, 2
F_ADD_SEALS, SEALS = 1033, 0x1 | 0x2 | 0x4 | 0x10  # SEAL, SHRINK, GROW, FUTURE_WRITE
MEMBARRIER, GLOBAL_EXPEDITED, REGISTER_GLOBAL_EXPEDITED = 324, 1 << 1, 1 << 2
LOOP = 1 << 31
syscall = ctypes.CDLL(None).syscall


def record_bytes(length):
    total = 8 + length
    return next((size for size in (16, 32, 64) if total <= size), (total + 7) // 8 * 8)


def packet(kind):
    return (struct.pack("<8sIIIIIIQQ", b"naruhi\0\0", kind, 0, LAYOUT, LAYOUT, LINE, PAGE, RING, 1 << 26) +
            bytes(64) + struct.pack("<QII", 1 << 26, 1, 0))


def returned_word(number, token):
    """What stands in the entry of the chunk that came back as this number."""
    return token + 4096 * (number // 256 + 1 & 0xFFFFF)


def send_packet(meeting, words, fds):
    meeting.sendmsg([words], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


def receive_packet(meeting, *counts):
    words, control, _, _ = meeting.recvmsg(256, socket.CMSG_SPACE(4 * max(counts)))
    fds = array.array("i")
    for _, _, data in control:
        fds.frombytes(data)
    assert len(fds) in counts, (words, fds)
    return words, list(fds)


def listen(path):
    """Waits for one who connects."""
    lock = os.open(path + ".lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        meeting, _ = listener.accept()
    os.unlink(path)
    os.unlink(path + ".lock")
    os.close(lock)
    return meeting


class Link:
    def __init__(self, way, path, loop):
        syscall(MEMBARRIER, REGISTER_GLOBAL_EXPEDITED, 0, 0)
        fd = os.memfd_create("peer", os.MFD_ALLOW_SEALING)
        os.posix_fallocate(fd, 0, PAGE + RING + POOL)
        self.own = mmap.mmap(fd, PAGE + RING + POOL)
        self.own[:PAGE + RING] = bytes(PAGE + RING)
        struct.pack_into("<8sIIQQI", self.own, 0, b"narushm\0", LAYOUT, LINE, RING, POOL, 1)
        fcntl.fcntl(fd, F_ADD_SEALS, SEALS)
        if way == "listen":
            self.meeting = listen(path)
            memory = self.answer(fd, loop)
        else:
            self.meeting = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.meeting.connect(path)
            memory = self.ask(fd, loop)
        magic, layout, line, self.their_ring, pool, lanes = struct.unpack("<8sIIQQI", os.pread(memory, 36, 0))
        assert (magic, layout, line, lanes) == (b"narushm\0", LAYOUT, LINE, 1)
        self.their_pool = PAGE + self.their_ring
        self.theirs = mmap.mmap(memory, self.their_pool + pool, prot=mmap.PROT_READ)
        self.sent = self.taken = self.ticket = self.chunks = self.returned = 0
        self.rung = {}
        os.close(fd), os.close(memory)

    def ask(self, fd, loop):
        """The connector's part; the listener's memory."""
        self.receivers_bell, listener_receives = socket.socketpair()
        self.senders_bell, listener_sends = socket.socketpair()
        bells = [os.eventfd(1 << 31, os.EFD_CLOEXEC | os.EFD_SEMAPHORE) for _ in range(2 if loop else 0)]
        self.use_loop(*bells)
        send_packet(self.meeting, packet(HELLO), [fd, listener_receives.fileno(), listener_sends.fileno(), *bells])
        listener_receives.close(), listener_sends.close()
        words, (memory,) = receive_packet(self.meeting, 1)
        self.read(words, WELCOME)
        return memory

    def answer(self, fd, loop):
        """The listener's part; the connector's memory."""
        words, (memory, receivers, senders, *bells) = receive_packet(self.meeting, 3, 5)
        self.read(words, HELLO)
        self.receivers_bell, self.senders_bell = socket.socket(fileno=receivers), socket.socket(fileno=senders)
        if loop:
            self.use_loop(*reversed(bells))
        else:
            self.use_loop()
        send_packet(self.meeting, packet(WELCOME), [fd])
        return memory

    def use_loop(self, theirs=None, own=None):
        """Bells to take from, and an epoll that shows each time that somebody took from ours."""
        self.their_loop, self.loop = theirs, own and select.epoll()
        if own:
            self.loop.register(own, select.EPOLLOUT | select.EPOLLET)
            self.loop.register(self.receivers_bell, select.EPOLLIN)

    def read(self, words, wanted):
        magic, kind, reason, newest, oldest, line, page = struct.unpack_from("<8sIIIIII", words)
        assert magic == b"naruhi\0\0" and kind == wanted, (kind, reason)
        assert oldest <= LAYOUT <= newest and (line, page) == (LINE, PAGE)
        (self.mapped_of_ours,) = struct.unpack_from("<Q", words, 112)
        assert self.mapped_of_ours >= POOL

    def publish(self, where, bell):
        """After a store: rings for whoever sleeps there, once a ticket."""
        (ticket,) = struct.unpack_from("<I", self.theirs, where)
        if ticket != self.rung.get(where, 0):
            self.rung[where] = ticket
            if ticket:
                self.ring(ticket, bell)

    def ring(self, ticket, bell):
        if ticket & LOOP and self.their_loop:
            os.preadv(self.their_loop, [bytearray(8)], -1, os.RWF_NOWAIT)
        else:
            bell.send(b"\1", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

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

    def send(self, payload, fds=()):
        if len(payload) > RING // 2 - 16:
            return self.send_by_pool(payload, fds)
        return self.send_record(DATA, payload, fds)

    def send_by_pool(self, payload, fds):
        """One chunk is out at a time; each has another token, and another half of the pool."""

        def is_back():
            if self.chunks == 0:
                return True
            (word,) = struct.unpack_from("<I", self.theirs, RETURNS + (self.chunks - 1) % 256 * 4)
            return word == returned_word(self.chunks - 1, self.chunks % 4096)

        self.wait(SENDER_ASLEEP, self.senders_bell, is_back)
        self.chunks += 1
        offset = self.chunks % 2 * POOL // 2
        self.own[PAGE + RING + offset:PAGE + RING + offset + len(payload)] = payload
        self.send_record(CHUNK, struct.pack("<II", len(payload), offset + self.chunks % 4096), fds)

    def send_record(self, kind, payload, fds):
        size = record_bytes(len(payload))

        def has_room():
            return self.sent + size + 8 - struct.unpack_from("<Q", self.theirs, TAKEN)[0] <= RING

        self.wait(SENDER_ASLEEP, self.senders_bell, has_room)
        if fds:
            send_packet(self.meeting, struct.pack("<QII", self.sent, len(fds), 0), fds)
        struct.pack_into("<Q", self.own, PAGE + (self.sent + size) % RING, 0)
        for i, byte in enumerate(payload):
            self.own[PAGE + (self.sent + 8 + i) % RING] = byte
        struct.pack_into("<Q", self.own, PAGE + self.sent % RING, kind << 56 | len(fds) << 32 | len(payload))
        self.sent += size
        self.publish(RECEIVER_ASLEEP, self.receivers_bell)

    def receive(self):
        """A message, its descriptors, and whether it came by the pool."""

        def header():
            return struct.unpack_from("<Q", self.theirs, PAGE + self.taken % self.their_ring)[0]

        self.wait(RECEIVER_ASLEEP, self.receivers_bell, header)
        word = header()
        kind, count, length = word >> 56, word >> 32 & 0xFFFFFF, word & 0xFFFFFFFF
        assert kind == DATA or kind == CHUNK and length == 8, hex(word)
        fds = []
        if count:
            words, fds = receive_packet(self.meeting, count)
            assert words == struct.pack("<QII", self.taken, count, 0), words
        start = self.taken + 8
        payload = bytes(self.theirs[PAGE + (start + i) % self.their_ring] for i in range(length))
        if kind == CHUNK:
            payload = self.receive_by_pool(*struct.unpack("<II", payload))
        self.taken += record_bytes(length)
        struct.pack_into("<Q", self.own, TAKEN, self.taken)
        self.publish(SENDER_ASLEEP, self.senders_bell)
        return payload, fds, kind == CHUNK

    def receive_by_pool(self, length, place):
        token = place % 4096
        start = self.their_pool + place - token
        payload = self.theirs[start:start + length]
        word = returned_word(self.returned, token)
        struct.pack_into("<I", self.own, RETURNS + self.returned % 256 * 4, word)
        self.returned += 1
        self.publish(SENDER_ASLEEP, self.senders_bell)
        return payload

    def close(self):
        struct.pack_into("<I", self.own, END, 2)
        self.publish(RECEIVER_ASLEEP, self.receivers_bell)
        self.publish(SENDER_ASLEEP, self.senders_bell)


def main():
    link, count = Link(sys.argv[1], sys.argv[2], sys.argv[4:] == ["loop"]), int(sys.argv[3])
    lengths = [0, 1, 7, 8, 9, 24, 25, 56, 57, 64, 1000, RING // 2 - 16, RING // 2 - 15, POOL // 2 - 1]
    file = os.memfd_create("file")
    by_pool = 0
    for number in range(count):
        message = bytes((number + i) % 256 for i in range(lengths[number % len(lengths)]))
        link.send(message, [file] * (number % 5 == 0))
        answer, fds, from_pool = link.receive()
        by_pool += from_pool
        assert answer == message, number
        assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(file).st_ino] * (number % 5 == 0), number
        for fd in fds:
            os.close(fd)
    assert by_pool >= count // len(lengths) and link.chunks >= by_pool // 2, (by_pool, link.chunks)
    link.close()


main()
