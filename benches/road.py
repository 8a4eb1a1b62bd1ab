#!/usr/bin/env python3
"""A path between two network namespaces with a delay, a rate, a queue and loss: what netem does,
for kernels without it.

    road.py --a FD --b FD --round-trip 50 --rate 200 --queue 1 --loss 1

FD are open files of the namespaces (as /proc/PID/ns/net). A TUN interface named `road` is made in
each, with the addresses 10.77.0.1 and 10.77.0.2. For each packet: loss, then queue and rate, then
delay. Prints `ready`, and at the end (SIGTERM) one line of JSON with what it counted.

Needs root; Linux; standard library only. One core carries some 40,000 packets a second.
"""

import argparse
import ctypes
import fcntl
import json
import os
import random
import select
import signal
import struct
import subprocess
import time
from collections import deque

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 1, 0x1000
NAME = "road"
LIBC = ctypes.CDLL(None, use_errno=True)


def open_tun(namespace, address, mtu):
    if LIBC.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", NAME.encode(), IFF_TUN | IFF_NO_PI))
    for words in (
        f"link set {NAME} mtu {mtu} txqueuelen 10000",
        f"addr add {address}/24 dev {NAME}",
        f"link set {NAME} up",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    return fd


class Lane:
    """One direction."""

    def __init__(self, opt, out, dice):
        self.opt, self.out, self.dice = opt, out, dice
        self.rate = opt.rate * 125_000
        self.limit = opt.queue * opt.round_trip / 1000 if opt.round_trip else 0.05
        self.limit = max(self.limit, 15_000 / self.rate)
        self.free = 0.0
        self.bad_until = 0.0
        self.waiting = deque()
        self.seen = self.lost = self.overflowed = 0

    def take(self, now, packet):
        self.seen += 1
        roll = self.dice.random
        if self.opt.bursts and now >= self.bad_until and roll() < self.opt.bursts / 100:
            self.bad_until = now + roll() * self.opt.burst_ms / 1000
        if now < self.bad_until or roll() < self.opt.loss / 100:
            self.lost += 1
            return
        start = self.free if self.free > now else now
        if start - now > self.limit:
            self.overflowed += 1
            return
        self.free = start + len(packet) / self.rate
        due = self.free + self.opt.round_trip / 2000
        if self.opt.reordered and roll() < self.opt.reordered / 100:
            due += roll() * self.opt.round_trip / 4000
        waiting = self.waiting
        at = len(waiting)
        while at and waiting[at - 1][0] > due:
            at -= 1
        waiting.insert(at, (due, packet))

    def give(self, now):
        waiting, out, write = self.waiting, self.out, os.write
        while waiting and waiting[0][0] <= now:
            try:
                write(out, waiting[0][1])
            except BlockingIOError:
                return
            except OSError:
                pass
            waiting.popleft()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for name in ("a", "b"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--round-trip", type=float, default=50, help="ms")
    parser.add_argument("--rate", type=float, default=200, help="Mbit/s")
    parser.add_argument("--queue", type=float, default=1, help="round trips")
    parser.add_argument("--loss", type=float, default=0, help="percent, each way")
    parser.add_argument("--bursts", type=float, default=0, help="percent of packets that begin one")
    parser.add_argument("--burst-ms", type=float, default=4)
    parser.add_argument("--reordered", type=float, default=0, help="percent")
    parser.add_argument("--mtu", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    opt = parser.parse_args()
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    tuns = [open_tun(opt.a, "10.77.0.1", opt.mtu), open_tun(opt.b, "10.77.0.2", opt.mtu)]
    LIBC.setns(home, CLONE_NEWNET)
    LIBC.prctl(29, 1000, 0, 0, 0)  # PR_SET_TIMERSLACK: 1 us
    try:
        os.nice(-20)
    except OSError:
        pass
    dice = random.Random(opt.seed)
    lanes = {tuns[0]: Lane(opt, tuns[1], dice), tuns[1]: Lane(opt, tuns[0], dice)}
    poll = select.epoll()
    for fd in tuns:
        poll.register(fd, select.EPOLLIN)
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    print("ready", flush=True)
    clock, read = time.monotonic, os.read
    while not ended:
        now = clock()
        due = min((lane.waiting[0][0] for lane in lanes.values() if lane.waiting), default=now + 0.2)
        try:
            ready = poll.poll(max(0.0, due - now))
        except InterruptedError:
            continue
        for fd, _ in ready:
            lane = lanes[fd]
            for _ in range(64):
                try:
                    packet = read(fd, 65536)
                except BlockingIOError:
                    break
                lane.take(clock(), packet)
        now = clock()
        for lane in lanes.values():
            lane.give(now)
    ways = [{"seen": one.seen, "lost": one.lost, "overflowed": one.overflowed} for one in lanes.values()]
    print(json.dumps(ways), flush=True)


if __name__ == "__main__":
    main()
