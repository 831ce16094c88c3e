#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""shm-hoarder.py SOCKET POOL OFFSET:LENGTH...: a hostile sender over shm:, from man/naru-shm-format.7.

Its pool has POOL bytes, none of which it ever reserved, and its ring describes a message at each of those
places: who reads them makes the pages, at its own expense. Stays until the receiver has gone.
"""
import array
import fcntl
import mmap
import os
import socket
import struct
import sys

PAGE, RING, LAYOUT, LINE = 4096, 8192, 3, 64
F_ADD_SEALS, SEALS = 1033, 0x1 | 0x2 | 0x4 | 0x10  # SEAL, SHRINK, GROW, FUTURE_WRITE
CHUNK, RECORD = 2 << 56 | 8, 16  # the header of a record of 8 bytes, and what it takes of the ring
HELLO, WELCOME = 1, 2


def main():
    path, pool, places = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    fd = os.memfd_create("hoarder", os.MFD_ALLOW_SEALING)
    os.write(fd, bytes(PAGE + RING))
    os.ftruncate(fd, PAGE + RING + pool)
    own = mmap.mmap(fd, PAGE + RING)
    struct.pack_into("<8sIIQQI", own, 0, b"narushm\0", LAYOUT, LINE, RING, pool, 1)
    for token, place in enumerate(places):
        offset, length = place.split(":")
        struct.pack_into("<QII", own, PAGE + RECORD * token, CHUNK, int(length), int(offset) | token)
    fcntl.fcntl(fd, F_ADD_SEALS, SEALS)
    receivers_bell, listener_receives = socket.socketpair()
    senders_bell, listener_sends = socket.socketpair()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as meeting:
        meeting.connect(path)
        fds = array.array("i", [fd, listener_receives.fileno(), listener_sends.fileno()])
        word = struct.pack("<8sIIIIIIQQ", b"naruhi\0\0", HELLO, 0, LAYOUT, LAYOUT, LINE, PAGE, RING, 1 << 26)
        word += bytes(64) + struct.pack("<QII", 0, 1, 0)
        meeting.sendmsg([word], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        kind, reason = struct.unpack_from("<II", meeting.recv(256), 8)
        assert kind == WELCOME, (kind, reason)
    listener_receives.close(), listener_sends.close()
    while receivers_bell.recv(64):
        pass


main()
