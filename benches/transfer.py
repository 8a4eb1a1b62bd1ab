#!/usr/bin/env python3
"""Measures `knothole send` -> `knothole receive` beside other programs, and `knothole pipe` beside
them, all in one run.

The peers sit in two network namespaces of their own, joined by a veth pair (MTU 1500, IPv4).
Every section runs its programs in turn, round after round, so that a ratio compares runs
made seconds apart; a figure alone says more about the machine than about the program.
README.md beside this file has the caveats, the definitions and the commands.

Needs root, iproute2 and nftables; Linux. Standard library only.
"""

import argparse
import contextlib
import ctypes
import json
import os
import platform
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30
ADDR = {"a": "10.77.0.1", "b": "10.77.0.2"}
SSH_PORT, IPERF_PORT = 2222, 5201
REPO = Path(__file__).resolve().parent.parent

# Percent of loss, and how many times the bare crate is the goal there.
LOSS_GOALS = {0.1: 5.0, 1.0: 20.0, 5.0: 10.0}


class Failed(Exception):
    """One run did not finish; the message says why and the benchmark goes on."""


class TimedOut(Failed):
    """The run was going well but its time was up."""


class Unavailable(Exception):
    """A program cannot take part; the message is printed and it is left out."""


# ---------------------------------------------------------------- namespaces


class Lab:
    """Two unnamed network namespaces joined by a veth pair.

    They are held by file descriptors only: the kernel removes them, links and rules included,
    once this process and what it started inside are gone, even after SIGKILL.
    """

    CLONE_NEWNET = 0x40000000

    def __init__(self, loss_percent=None, road=None):
        """`road`: options of the program `road`; it then joins the two in place of the veth pair."""
        self.road = None
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.fds = {}
        for side in "ab":
            if self.libc.unshare(self.CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare of the network (run as root)")
            self.fds[side] = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            for key in ("all", "default"):
                Path(f"/proc/sys/net/ipv6/conf/{key}/disable_ipv6").write_text("1")
                Path(f"/proc/sys/net/ipv4/conf/{key}/rp_filter").write_text("0")
            self._setns(self.home)
        if road is not None:
            self.lay_road(road)
            return
        there = f"/proc/{os.getpid()}/fd/{self.fds['b']}"
        with self.inside("a"):
            ip(f"link add name kha mtu 1500 type veth peer name khb mtu 1500 netns {there}")
        for side in "ab":
            with self.inside(side):
                ip("link set lo up")
                if loss_percent is not None:
                    # one dropped packet must be one datagram, not a bundle of them
                    ip(f"link set kh{side} gso_max_segs 1")
                ip(f"addr add {ADDR[side]}/24 dev kh{side}")
                ip(f"link set kh{side} up")
                if loss_percent:
                    nft_drop(loss_percent)

    def lay_road(self, options):
        for side in "ab":
            with self.inside(side):
                ip("link set lo up")
        ends = [word for side in "ab" for word in (f"--{side}", str(self.fds[side]))]
        self.road = subprocess.Popen(
            [road_program(), *ends, *options],
            pass_fds=tuple(self.fds.values()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        if self.road.stdout.readline().strip() != "ready":
            raise Unavailable("the road was not built (needs /dev/net/tun)")

    def end_road(self):
        """What was seen, lost by chance and dropped by the queue, each way, and what that took."""
        self.road.stdin.close()
        counted = json.loads(self.road.stdout.read() or "null")
        _, status, usage = os.wait4(self.road.pid, 0)
        self.road.returncode = os.waitstatus_to_exitcode(status)
        self.road = None
        return {"ways": counted, "cpu": usage.ru_utime + usage.ru_stime}

    def _setns(self, fd):
        if self.libc.setns(fd, self.CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    @contextlib.contextmanager
    def inside(self, side):
        """This thread, and so whatever it starts meanwhile, is in the namespace."""
        self._setns(self.fds[side])
        try:
            yield
        finally:
            self._setns(self.home)

    def counters(self):
        """Packets and bytes that reached the drop rules, and packets dropped, both ways."""
        total = {"seen": 0, "bytes": 0, "dropped": 0}
        for side in "ab":
            with self.inside(side):
                text = subprocess.run(
                    ["nft", "-j", "list", "counters"], check=True, capture_output=True
                ).stdout
            for item in json.loads(text)["nftables"]:
                if c := item.get("counter"):
                    total[c["name"]] += c["packets"]
                    if c["name"] == "seen":
                        total["bytes"] += c["bytes"]
        return total

    def count_flows(self):
        with self.inside("b"):
            nft_count_flows()

    def flows(self):
        """Bytes that have come to the second namespace, by protocol and ports."""
        with self.inside("b"):
            text = subprocess.run(
                ["nft", "-j", "list", "set", "inet", "bench", "flows"], check=True, capture_output=True
            ).stdout
        found = next(item["set"] for item in json.loads(text)["nftables"] if "set" in item)
        elements = (e["elem"] for e in found.get("elem", []))
        return {tuple(e["val"]["concat"]): e["counter"]["bytes"] for e in elements}

    def close(self):
        """Ends what is still inside (it can only be ours) and lets the namespaces go."""
        if self.road:
            self.end_road()
        inodes = {os.fstat(fd).st_ino for fd in self.fds.values()}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if (entry / "ns/net").stat().st_ino in inodes:
                        os.kill(int(entry.name), signal.SIGKILL)
        for fd in [*self.fds.values(), self.home]:
            os.close(fd)


def ip(words):
    subprocess.run(["ip", *words.split()], check=True)


def road_program():
    """The newest build of benches/road.rs, or the one that --road names."""
    if SETTINGS.road:
        return need(SETTINGS.road, "see --road")
    built = [p for p in REPO.glob("target/*/deps/road-*") if not p.suffix and os.access(p, os.X_OK)]
    if not built:
        raise Unavailable("the road is not built: cargo build --bench road")
    return str(max(built, key=lambda p: p.stat().st_mtime))


def nft_count_flows():
    """Counts bytes by protocol and ports as they come in; `Lab.flows` reads them."""
    rules = """
table inet bench {
  set flows {
    type inet_proto . inet_service . inet_service
    flags dynamic
    counter
    size 65535
  }
  chain in {
    type filter hook input priority filter; policy accept;
    update @flows { meta l4proto . th sport . th dport }
  }
}
"""
    subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)


def nft_drop(percent):
    rules = f"""
table inet bench {{
  counter seen {{
  }}
  counter dropped {{
  }}
  chain in {{
    type filter hook input priority filter; policy accept;
    iifname "lo" accept
    meta l4proto {{ tcp, udp }} counter name "seen"
    meta l4proto {{ tcp, udp }} numgen random mod 10000 < {round(percent * 100)} counter name "dropped" drop
  }}
}}
"""
    subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)


# ---------------------------------------------------------------- processes

CHILDREN = []


def die_with_parent():
    """Runs between fork and exec (a millisecond): nothing outlives this script, however it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Child:
    """One started process in a session of its own; output goes to files, so no pipe can fill."""

    def __init__(self, argv, where, *, env=None, cwd=None, stdin=subprocess.PIPE, stdout=None, tied=True):
        self.name = Path(argv[0]).name
        scratch = Path(tempfile.mkdtemp(dir=SETTINGS.scratch))
        self.out, self.err = scratch / "out", scratch / "err"
        # HOME is empty: no configuration of the person who runs this takes part
        base = {"PATH": os.environ["PATH"], "HOME": str(scratch), "LC_ALL": "C.UTF-8", "TERM": "dumb"}
        lab, side = where
        with lab.inside(side), open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.start = time.monotonic()
            # unless told, stdin is a pipe that stays open: a sender waiting for a reply line sees no end of file
            self.popen = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=stdout if stdout is not None else out,
                stderr=err,
                env={**base, **(env or {})},
                cwd=cwd or scratch,
                start_new_session=True,
                preexec_fn=die_with_parent if tied else None,
            )
        self.pid = self.popen.pid
        self.pidfd = os.pidfd_open(self.pid)
        self.code = self.usage = self.end = None
        self.peak = 0
        CHILDREN.append(self)

    def sample(self):
        """Keeps VmHWM: unlike ru_maxrss it starts anew at exec, without our own pages."""
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
            self.peak = int(next(x for x in lines if x.startswith("VmHWM")).split()[1]) * 1024

    def reap(self):
        _, status, self.usage = os.wait4(self.pid, 0)
        self.end = time.monotonic()
        self.code = self.popen.returncode = os.waitstatus_to_exitcode(status)
        os.close(self.pidfd)
        if self.popen.stdin:
            self.popen.stdin.close()
        CHILDREN.remove(self)

    def stop(self, sig=signal.SIGKILL, grace=5.0):
        """Ends the process and its group; asks first when told a gentler signal."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, sig)
            if not wait_readable([self.pidfd], grace):
                os.killpg(self.pid, signal.SIGKILL)
            self.reap()

    def cpu(self):
        return self.usage.ru_utime + self.usage.ru_stime if self.usage else 0.0

    def text(self):
        return self.out.read_text(errors="replace")

    def tail(self):
        said = self.err.read_text(errors="replace").strip() or self.text().strip()
        return " / ".join(said.splitlines()[-2:])[-300:]

    def until(self, found, limit):
        """Polls `found()` until it answers; fails when the process ends or the time is up."""
        while (value := found()) is None:
            if wait_readable([self.pidfd], 0.002):
                self.reap()
                raise Failed(f"{self.name} ended early with {self.code}: {self.tail()}")
            if time.monotonic() - self.start > limit:
                raise Failed(f"{self.name} was not ready after {limit:.0f} s: {self.tail()}")
        return value


def wait_readable(fds, seconds):
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return [fd for fd, _ in poller.poll(max(0, seconds) * 1000)]


def wait_all(children, limit, sampled=False):
    """Waits for every process to exit with 0; a failure of one gives the others three seconds."""
    deadline = time.monotonic() + limit
    bad = None
    while alive := [c for c in children if c.code is None]:
        left = deadline - time.monotonic()
        ready = wait_readable([c.pidfd for c in alive], min(left, 0.01) if sampled else left)
        if sampled:
            for c in alive:
                c.sample()
        for c in alive:
            if c.pidfd in ready:
                c.reap()
                if c.code != 0 and bad is None:
                    bad = f"{c.name} exited with {c.code}: {c.tail()}"
                    deadline = min(deadline, time.monotonic() + 3)
        if time.monotonic() >= deadline:
            break
    if bad:
        raise Failed(bad)
    if any(c.code is None for c in children):
        raise TimedOut(f"not finished after {limit:.0f} s")


def stop_everything():
    for child in list(CHILDREN):
        with contextlib.suppress(OSError):
            child.stop()


def listening(pid, port):
    """Whether a TCP socket listens on the port in the network namespace of the process."""
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        field = line.split()
        if field[3] == "0A" and int(field[1].split(":")[1], 16) == port:
            return True
    return None


# ---------------------------------------------------------------- one transfer


class Job:
    """One run of one program: where, from what, to what, and for how long at most."""

    def __init__(self, lab, src=None, dst=None, size=0, limit=120.0, sides="ab", sampled=False):
        self.lab, self.src, self.dst, self.size = lab, src, dst, size
        self.limit, self.sampled = limit, sampled
        self.sender_at, self.receiver_at = (lab, sides[0]), (lab, sides[1])
        self.addr = (ADDR[sides[0]], ADDR[sides[1]])


def transfer(job, sender, ready, receiver, sender_stays=False, partial=None):
    """Starts the sender, waits until it can be joined, starts the receiver, waits for the exits.

    `e2e` is from the receiver's start to the last exit, `whole` from the sender's start. A sender
    that never exits by itself (`sender_stays`) is stopped once the receiver has exited.
    """
    before = busy_seconds()
    first = sender()
    second = None
    try:
        token = first.until(lambda: ready(first), 60)
        second = receiver(token)
        try:
            wait_all([second] if sender_stays else [first, second], job.limit, job.sampled)
        except TimedOut:
            if partial and (rate := partial(first, second)):
                moved = rate * MIB * (time.monotonic() - second.start)
                for child in (first, second):
                    child.stop()
                return {"partial": True, "rate": rate, "moved": moved, "cpu": first.cpu() + second.cpu()}
            raise
        if job.sampled:
            first.sample()
        end = max(c.end for c in (first, second) if c.end)
        if sender_stays:
            first.stop(signal.SIGINT)
        after = busy_seconds()
        cpu = first.cpu() + second.cpu()
        wall = time.monotonic() - first.start
        return {
            "e2e": end - second.start,
            "whole": end - first.start,
            "cpu": cpu,
            "others": max(0.0, (after - before - cpu) / (wall * os.cpu_count())),
            "peak_send": first.peak,
            "peak_recv": second.peak,
            "maxrss_send": first.usage.ru_maxrss * 1024,
            "maxrss_recv": second.usage.ru_maxrss * 1024,
            "_children": (first, second),
        }
    finally:
        for child in (first, second):
            if child:
                child.stop()


def busy_seconds():
    """Processor time spent in processes, ours and others', by the whole machine so far."""
    # a process is charged for interrupts taken while it runs, so they belong to the sum as well
    user, nice, system, _idle, _iowait, irq, softirq = processor_ticks()[:7]
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def processor_ticks():
    return [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]


def check_same(src, dst):
    if subprocess.run(["cmp", "-s", str(src), str(dst)]).returncode:
        raise Failed(f"{dst.name} differs from what was sent")


@contextlib.contextmanager
def landing(parent):
    """An empty folder to receive into, removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix="in-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


# ---------------------------------------------------------------- the programs


class Knothole:
    def __init__(self, binary, *flags, name="knothole"):
        self.binary = need(binary, "build it, or pass --bin")
        self.flags, self.name = flags, name

    def version(self):
        return first_line([self.binary, "--version"])

    @staticmethod
    def events(text):
        for line in text.splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    yield event

    @classmethod
    def invite(cls, child):
        """The token event's token, or the first line of stdout where there are no events."""
        text = child.text()
        if "\n" not in text:
            return None
        if not text.lstrip().startswith("{"):
            return text.split("\n", 1)[0].strip()
        return next((e["token"] for e in cls.events(text) if e.get("kind") == "invite"), None)

    def send(self, job, src, *flags):
        argv = [self.binary, "send", "--stun", "", "--no-progress", *self.flags, *flags, str(src)]
        return Child(argv, job.sender_at)

    def receive(self, job, out, token, *flags, stdout=None):
        argv = [self.binary, "receive", "--stun", "", "--no-progress", *self.flags, *flags, "-y"]
        argv += ["-o", str(out), token]
        return Child(argv, job.receiver_at, stdout=stdout)

    def partial(self, first, second):
        """The rate until the time was up, from the last progress event."""
        done = [e["bytes"] for e in self.events(second.text()) if e.get("event") == "progress"]
        return done[-1] / MIB / (time.monotonic() - second.start) if done else None

    def run(self, job):
        with landing(job.dst) as out:
            r = transfer(
                job,
                lambda: self.send(job, job.src, "--json"),
                self.invite,
                lambda token: self.receive(job, out, token, "--json"),
                partial=self.partial,
            )
            if "partial" not in r:
                done = [e for e in self.events(r["_children"][1].text()) if e.get("event") == "done"]
                if not done:
                    raise Failed("the receiver printed no done event")
                check_same(job.src, out / job.src.name)
                r["rate"] = done[-1]["bytes"] / MIB / done[-1]["seconds"]
            return r


class Bare:
    """The `webrtc` crate with nothing around it: the throughput probe, in its best configuration."""

    name = "bare webrtc"

    def __init__(self, binary, scale=1):
        self.binary = need(binary, "pass --wr or set KNOTHOLE_BENCH_WR")
        self.scale = scale
        want = 4 * MIB
        held = 2 * min(want, int(Path("/proc/sys/net/core/rmem_max").read_text()))
        self.env = {
            "RCVBUF": str(want),
            "SNDBUF": str(want),
            "RWND": str(min(2 * MIB, int(held * 0.6))),
            "MTU": "1434",
            "WORKERS": "1",
            "SCALE": str(scale),
            "REPORT": "1",
        }

    def version(self):
        return "throughput probe, " + " ".join(f"{k}={v}" for k, v in self.env.items())

    @staticmethod
    def partial(first, second):
        text = second.err.read_text()
        up = re.search(r"^([\d.]+) state connected", text, re.M)
        ticks = [tuple(map(float, m)) for m in re.findall(r"^([\d.]+) ([\d.]+)$", text, re.M)]
        if not up or not ticks:
            return None
        return sum(mib for _, mib in ticks) / (ticks[-1][0] - float(up[1]))

    def run(self, job):
        with landing(job.dst or SETTINGS.scratch) as out, landing(SETTINGS.scratch) as signal_dir:
            env = dict(self.env)
            if job.src:
                env["FILE"] = str(job.src)
            else:
                env["BYTES"] = str(job.size)
            target = {"OUT": str(out / "out")} if job.src else {}
            offer = signal_dir / "0" / "offer"

            def ready(_):
                return offer.exists() and offer.read_text().endswith("END") or None

            def start(role, where, addr, extra):
                return Child([self.binary, role, addr, str(signal_dir)], where, env={**env, **extra})

            r = transfer(
                job,
                lambda: start("send", job.sender_at, job.addr[0], {}),
                ready,
                lambda _: start("recv", job.receiver_at, job.addr[1], target),
                partial=self.partial,
            )
            if "partial" not in r:
                said = json.loads(r["_children"][1].text().splitlines()[-1])
                if said["bytes"] != (job.src.stat().st_size if job.src else job.size):
                    raise Failed(f"{said['bytes']} bytes arrived")
                if job.src:
                    check_same(job.src, out / "out")
                took = said["last"] - said["first"]
                r["rate"] = said["bytes"] / MIB / took if took > 0 else None
                r["open"] = said["open"]
            return r


class Sendme:
    """Without relay and with addresses only in the ticket, it needs nothing outside the namespaces."""

    name = "sendme"

    def __init__(self, binary):
        self.binary = need(binary, "pass --sendme, set KNOTHOLE_BENCH_SENDME or put it on PATH")

    def version(self):
        return first_line([self.binary, "--version"])

    @staticmethod
    def ticket(child):
        found = re.search(r"sendme receive (blob\w+)\s", child.text())
        return found and found[1]

    def run(self, job):
        common = ["--relay", "disabled", "--no-progress"]
        # both sides keep a store in the current folder: on the medium under test
        with landing(job.dst) as out, landing(job.src.parent) as store:
            r = transfer(
                job,
                lambda: Child(
                    [self.binary, "send", *common, "--ticket-type", "Addresses", str(job.src)],
                    job.sender_at,
                    cwd=store,
                ),
                self.ticket,
                lambda ticket: Child([self.binary, "receive", *common, "-v", ticket], job.receiver_at, cwd=out),
                sender_stays=True,
            )
            check_same(job.src, out / job.src.name)
            said = re.search(r"\(([\d.,]+) ([KMGT]?i?B)/s\)", r["_children"][1].text())
            if said:
                unit = {"B": 1 / MIB, "KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}[said[2]]
                r["rate"] = float(said[1].replace(",", "")) * unit
            return r


class Scp:
    """scp against an sshd of its own: fresh keys, its own configuration, in the other namespace."""

    name = "scp aes128-gcm"

    def __init__(self):
        self.scp = need(shutil.which("scp"), "install openssh-client")
        self.sshd = need(shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin"), "install openssh-server")
        self.dir = Path(tempfile.mkdtemp(prefix="ssh-", dir=SETTINGS.scratch))
        for key in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.dir / key)], check=True
            )
        shutil.copy(self.dir / "user.pub", self.dir / "authorized")
        (self.dir / "sshd_config").write_text(
            f"HostKey {self.dir}/host\nAuthorizedKeysFile {self.dir}/authorized\nPidFile none\n"
            "PermitRootLogin prohibit-password\nPasswordAuthentication no\nUsePAM no\nStrictModes no\n"
            "Subsystem sftp internal-sftp\n"
        )
        self.servers = {}

    def version(self):
        said = subprocess.run(["ssh", "-V"], capture_output=True, text=True)
        return said.stderr.strip()

    def serve(self, job):
        """One sshd a laboratory; it is already there when the clock starts."""
        lab, side = job.receiver_at
        key = (id(lab), side)
        if key not in self.servers:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its privilege separation folder
            argv = [self.sshd, "-D", "-e", "-f", str(self.dir / "sshd_config")]
            argv += ["-o", f"ListenAddress {job.addr[1]}:{SSH_PORT}"]
            server = Child(argv, job.receiver_at)
            server.until(lambda: listening(server.pid, SSH_PORT), 10)
            self.servers[key] = server

    def run(self, job):
        self.serve(job)
        with landing(job.dst) as out:
            argv = [self.scp, "-q", "-F", "/dev/null", "-c", "aes128-gcm@openssh.com", "-P", str(SSH_PORT)]
            argv += ["-i", str(self.dir / "user"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
            argv += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
            child = Child([*argv, str(job.src), f"{user_name()}@{job.addr[1]}:{out}/"], job.sender_at)
            try:
                wait_all([child], job.limit)
            finally:
                child.stop()
            check_same(job.src, out / job.src.name)
            took = child.end - child.start
            # the server's processor time is not ours to see: no cpu, no others
            return {"e2e": took, "whole": took, "rate": None}


class Iperf:
    def __init__(self, control, seconds=4):
        self.iperf3 = need(shutil.which("iperf3"), "install iperf3")
        self.control, self.seconds = control, seconds
        self.name = f"iperf3 TCP {control}"

    def version(self):
        return first_line([self.iperf3, "--version"])

    def run(self, job):
        server = Child(
            [self.iperf3, "-s", "-1", "-B", job.addr[1], "-p", str(IPERF_PORT)], job.receiver_at
        )
        client = None
        try:
            server.until(lambda: listening(server.pid, IPERF_PORT), 10)
            argv = [self.iperf3, "-J", "-C", self.control, "-c", job.addr[1], "-p", str(IPERF_PORT)]
            how_much = ["-n", str(job.size)] if job.size else ["-t", str(self.seconds)]
            client = Child([*argv, *how_much], job.sender_at)
            wait_all([client, server], job.limit)
            end = json.loads(client.text())["end"]
            took = client.end - client.start
            return {
                "e2e": took,
                "whole": took,
                "rate": end["sum_received"]["bits_per_second"] / 8 / MIB,
                "cpu": client.cpu() + server.cpu(),
            }
        finally:
            for child in (client, server):
                if child:
                    child.stop()


def need(path, how):
    if path and (found := shutil.which(str(path))):
        return str(Path(found).resolve())
    raise Unavailable(f"{path or 'program'} not found: {how}")


def first_line(argv):
    text = subprocess.run(argv, capture_output=True, text=True, timeout=10).stdout
    return text.splitlines()[0].strip() if text else ""


def user_name():
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


# ---------------------------------------------------------------- rounds and figures


class Series:
    """All runs of one program in one setting."""

    def __init__(self, label, program, job):
        self.label, self.program, self.job = label, program, job
        self.runs, self.failures, self.dead = [], [], None

    def once(self, keep):
        if self.dead:
            return None
        try:
            result = self.program.run(self.job)
        except Failed as e:
            self.failures.append(str(e))
            SETTINGS.failed.setdefault(self.label, []).append(str(e))
            say(f"    {self.label}: {e}")
            # a program that failed twice and never worked does not get to spend everybody's time
            if len(self.failures) >= 2 and all("failed" in r for r in self.runs):
                self.dead = str(e)
            result = {"failed": str(e)}
        result.pop("_children", None)
        if "e2e" in result and self.size():
            result["e2e_rate"] = self.size() / MIB / result["e2e"]
            if "whole" in result:
                result["whole_rate"] = self.size() / MIB / result["whole"]
        if keep:
            self.runs.append(result)
        return result

    def size(self):
        return self.job.src.stat().st_size if self.job.src else self.job.size

    def values(self, key):
        return [r[key] for r in self.runs if r.get(key) is not None]

    def spread(self, key):
        v = self.values(key)
        return (max(v) - min(v)) / statistics.median(v) if v else None

    def report(self):
        return {
            "program": self.program.name,
            "bytes": self.size(),
            "runs": self.runs,
            "failures": self.failures,
            "summary": {
                k: {"min": min(v), "median": statistics.median(v), "max": max(v), "n": len(v)}
                for k in ("e2e", "whole", "rate", "e2e_rate", "cpu", "others", "peak_send", "peak_recv")
                if (v := self.values(k))
            },
        }


def rounds(series, runs, before=None, warm_up=True, after_warm_up=None):
    """One warm-up, then `runs` rounds of everything; each round starts with another program."""
    for n in range(-1 if warm_up else 0, runs):
        if out_of_time():
            say(f"  the time budget is spent: {max(n, 0)} of {runs} rounds were run")
            break
        say(f"  {'warm-up' if n < 0 else f'round {n + 1} of {runs}'}")
        turn = max(n, 0) % len(series)
        for s in series[turn:] + series[:turn]:
            if before:
                before(s)
            result = s.once(keep=n >= 0)
            if n < 0 and after_warm_up and result:
                after_warm_up(s, result)


def ratio(top, bottom, key):
    """Ratio of the medians, and the lowest and highest ratio of two runs of the same round."""
    a, b = top.values(key), bottom.values(key)
    if not a or not b:
        return None
    pairs = [
        x[key] / y[key] for x, y in zip(top.runs, bottom.runs) if x.get(key) is not None and y.get(key)
    ]
    return {
        "medians": statistics.median(a) / statistics.median(b),
        "min": min(pairs, default=None),
        "max": max(pairs, default=None),
    }


def show_ratio(what, r, goal=None, at_least=True):
    if r is None:
        print(f"  {what:<58} not measured")
        return {"what": what, "goal": goal, "ratio": None}
    pairs = f"  (rounds {r['min']:.3g} to {r['max']:.3g})" if r["min"] is not None else ""
    verdict = ""
    if goal is not None:
        met = r["medians"] >= goal if at_least else r["medians"] <= goal
        verdict = f"  goal {'>=' if at_least else '<='} {goal:g}: {'met' if met else 'MISSED'}"
    print(f"  {what:<58} {r['medians']:.3g}{pairs}{verdict}")
    return {"what": what, "goal": goal, "ratio": r}


def show_limit(what, value, goal, unit):
    if value is None:
        print(f"  {what:<58} not measured")
    else:
        print(f"  {what:<58} {value:.1f} {unit}  goal <= {goal:g} {unit}: {'met' if value <= goal else 'MISSED'}")
    return {"what": what, "goal": goal, "value": value, "unit": unit}


def three(values, digits=2):
    """min / median / max"""
    if not values:
        return "-"
    return " / ".join(f"{x:.{digits}f}" for x in (min(values), statistics.median(values), max(values)))


def table(head, rows):
    width = [max(len(str(r[i])) for r in [head, *rows]) for i in range(len(head))]
    for row in [head, ["-" * w for w in width], *rows]:
        print("  " + "  ".join(f"{cell!s:<{w}}" for cell, w in zip(row, width)).rstrip())
    print()


def percent(x):
    return "-" if x is None else f"{100 * x:.0f} %"


def say(text):
    print(text, file=sys.stderr, flush=True)


def out_of_time():
    return time.monotonic() > SETTINGS.deadline


def random_file(folder, size, name):
    path = Path(folder) / name
    free = shutil.disk_usage(folder).free
    if free < 2.5 * size:
        raise Unavailable(f"{folder} has {free / GIB:.1f} GiB free, {2.5 * size / GIB:.1f} are needed")
    with open(path, "wb") as f:
        for at in range(0, size, MIB):
            f.write(os.urandom(min(MIB, size - at)))
    return path


def available(*makers):
    """The programs that are here; for each of the others one line says why it is not."""
    found = []
    for name, make in makers:
        if SETTINGS.only and not any(o in name for o in SETTINGS.only):
            continue
        try:
            program = make()
        except Unavailable as e:
            say(f"  skipped {name}: {e}")
            SETTINGS.skipped[name] = str(e)
            continue
        SETTINGS.versions[name] = program.version()
        found.append(program)
    return found


def by_name(programs, name):
    return next((p for p in programs if p.name == name), None)


# ---------------------------------------------------------------- the sections


def throughput(opt):
    """1 GiB from and to memory-backed files and disk, beside the others."""
    size = (256 * MIB) if opt.quick else GIB
    system = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    controls = ["cubic"] + ([system] if system != "cubic" else [])
    programs = available(
        ("knothole", lambda: Knothole(opt.bin)),
        ("without repair", lambda: Knothole(opt.bin, "--no-repair", name="without repair")),
        ("bare webrtc", lambda: Bare(opt.wr)),
        ("sendme", lambda: Sendme(opt.sendme)),
        ("scp", Scp),
        *((f"iperf3 {c}", lambda c=c: Iperf(c)) for c in controls),
    )
    stores = {"shm": SETTINGS.shm, "disk": SETTINGS.disk}
    if not stores["shm"]:
        say("  skipped files in memory: /dev/shm is not there")
        del stores["shm"]
    lab = Lab()
    try:
        files = {k: random_file(d, size, "payload.bin") for k, d in stores.items()}
        series = []
        for p in programs:
            if isinstance(p, Iperf):
                series.append(Series(f"{p.name}, memory", p, Job(lab, size=size, limit=opt.limit)))
                continue
            if isinstance(p, Bare):
                series.append(Series(f"{p.name}, memory", p, Job(lab, size=size, limit=opt.limit)))
            for k, d in stores.items():
                series.append(Series(f"{p.name}, {k}", p, Job(lab, files[k], d, limit=opt.limit)))

        def settle(s):
            if s.label.endswith("disk"):
                os.sync()  # what the run before left to be written is not this one's burden

        rounds(series, opt.runs, before=settle)
        rows = []
        for s in series:
            cpu = s.values("cpu")
            rows.append(
                [
                    s.label,
                    f"{len(s.values('e2e'))}/{len(s.runs)}",
                    three(s.values("e2e")),
                    three(s.values("whole")),
                    three(s.values("rate"), 0),
                    three(s.values("e2e_rate"), 0),
                    f"{statistics.median(cpu) / (size / GIB):.2f}" if cpu else "-",
                    percent(s.spread("e2e")),
                    percent(statistics.median(s.values("others")) if s.values("others") else None),
                ]
            )
        print(f"\nThroughput: {size // MIB} MiB over veth, MTU 1500 (min / median / max)\n")
        head = ["", "ok", "joiner to exits, s", "whole, s", "payload MiB/s", "end to end MiB/s"]
        table([*head, "cpu s/GiB", "spread", "others' cpu"], rows)
        at = {s.label: s for s in series}
        goals = []
        for k in stores:
            mine = at.get(f"knothole, {k}")
            if not mine:
                continue
            for label, key, goal in (
                (f"without repair, {k}", "rate", 0.95),
                (f"bare webrtc, {k}", "rate", 0.9),
                ("bare webrtc, memory", "rate", None),
                (f"bare webrtc, {k}", "e2e_rate", None),
                (f"sendme, {k}", "e2e_rate", 3.0 if k == "shm" else None),
                (f"sendme, {k}", "whole_rate", None),
                (f"sendme, {k}", "rate", None),
                (f"scp aes128-gcm, {k}", "e2e_rate", None),
                ("iperf3 TCP cubic, memory", "rate", None),
            ):
                if label in at:
                    kind = {"rate": "payload rate", "e2e_rate": "end to end", "whole_rate": "whole"}[key]
                    goals.append(show_ratio(f"knothole {k} : {label} ({kind})", ratio(mine, at[label], key), goal))
        return {"bytes": size, "series": {s.label: s.report() for s in series}, "goals": goals}
    finally:
        for d in stores.values():
            (Path(d) / "payload.bin").unlink(missing_ok=True)
        stop_everything()
        lab.close()


def loss(opt):
    """Random loss in both directions; the size follows the rate of the warm-up."""
    programs = available(
        ("knothole", lambda: Knothole(opt.bin)),
        ("bare webrtc", lambda: Bare(opt.wr, scale=1)),
        ("sendme", lambda: Sendme(opt.sendme)),
        ("iperf3 cubic", lambda: Iperf("cubic")),
    )
    store = SETTINGS.shm or SETTINGS.disk
    aim = 2.0 if opt.quick else 5.0
    first_size = {"bare webrtc": {0.1: 32, 1.0: 4, 5.0: 2}, None: {0.1: 64, 1.0: 32, 5.0: 8}}
    report, goals = {}, []
    for p_loss in opt.loss:
        if out_of_time():
            say("  the time budget is spent")
            break
        say(f"  {p_loss:g} % of packets dropped, each way")
        lab = Lab(loss_percent=p_loss)
        try:
            files = {}

            def payload(mib):
                if mib not in files:
                    files[mib] = random_file(store, mib * MIB, f"payload-{mib}.bin")
                return files[mib]

            series = []
            for p in programs:
                job = Job(lab, limit=opt.loss_limit)
                if not isinstance(p, Iperf):
                    sizes = first_size.get(p.name, first_size[None])
                    job.src, job.dst = payload(min(sizes.items(), key=lambda kv: abs(kv[0] - p_loss))[1]), store
                series.append(Series(p.name, p, job))

            def resize(s, result):
                rate = result.get("rate")
                if rate and s.job.src:
                    mib = 2
                    while mib * 1.5 < rate * aim and mib < 256:
                        mib *= 2
                    s.job.src = payload(mib)

            rounds(series, opt.runs, after_warm_up=resize)
            seen = lab.counters()
            rows = [
                [
                    s.label,
                    f"{s.size() // MIB} MiB" if s.job.src else "4 s",
                    f"{sum('failed' not in r for r in s.runs)}/{len(s.runs)}",
                    sum(bool(r.get("partial")) for r in s.runs) or "",
                    three(s.values("rate")),
                    three(s.values("e2e_rate")),
                    percent(s.spread("rate")),
                ]
                for s in series
            ]
            measured = 100 * seen["dropped"] / max(1, seen["seen"])
            mean = seen["bytes"] / max(1, seen["seen"])
            print(f"\nLoss {p_loss:g} % (measured {measured:.2f} % of {seen['seen']} packets, mean {mean:.0f} bytes)\n")
            if mean > 1500:
                print("  WARNING: packets are larger than the MTU, one drop is more than one datagram\n")
            table(["", "size", "ok", "cut short", "payload MiB/s", "end to end MiB/s", "spread"], rows)
            at = {s.label: s for s in series}
            if base := at.get("bare webrtc"):
                for s in series:
                    if s is not base:
                        goal = LOSS_GOALS.get(p_loss) if s.label == "knothole" else None
                        goals.append(
                            show_ratio(f"{s.label} : bare webrtc, clock x 1, {p_loss:g} %", ratio(s, base, "rate"), goal)
                        )
            report[str(p_loss)] = {
                "packets": seen,
                "series": {s.label: s.report() for s in series},
            }
        finally:
            for path in Path(store).glob("payload-*.bin"):
                path.unlink()
            stop_everything()
            lab.close()
    return {"loss": report, "goals": goals}


# Options of the road by the name of a path, and how many MiB are sent over it.
PATHS = {
    "50 ms 200 Mbit/s": (["--round-trip", "50", "--rate", "200"], 256),
    "50 ms 200 Mbit/s, 0.1 %": (["--round-trip", "50", "--rate", "200", "--loss", "0.1"], 256),
    "50 ms 200 Mbit/s, 1 %": (["--round-trip", "50", "--rate", "200", "--loss", "1"], 256),
    "50 ms 200 Mbit/s, 5 %": (["--round-trip", "50", "--rate", "200", "--loss", "5"], 256),
    "50 ms 200 Mbit/s, bursts": (["--round-trip", "50", "--rate", "200", "--bursts", "0.1"], 256),
    "10 ms 1 Gbit/s": (["--round-trip", "10", "--rate", "1000"], 256),
    "300 ms 20 Mbit/s": (["--round-trip", "300", "--rate", "20"], 32),
    "100 ms 50 Mbit/s, 2 % reordered": (["--round-trip", "100", "--rate", "50", "--reordered", "2"], 64),
    "50 ms 200 Mbit/s, cold": (["--round-trip", "50", "--rate", "200"], 1),
}
# Of the rate of TCP with BBR on the same path.
PATH_GOAL = 0.8


def path(opt):
    """Long and lossy paths, made by benches/road.rs: with the repair layer and without, beside TCP."""
    seconds = 6 if opt.quick else 12
    programs = available(
        ("knothole", lambda: Knothole(opt.bin)),
        ("without repair", lambda: Knothole(opt.bin, "--no-repair", name="without repair")),
        ("bare webrtc", lambda: Bare(opt.wr)),
        ("sendme", lambda: Sendme(opt.sendme)),
        ("iperf3 bbr", lambda: Iperf("bbr", seconds)),
        ("iperf3 cubic", lambda: Iperf("cubic", seconds)),
    )
    store = SETTINGS.shm or SETTINGS.disk
    report, goals = {}, []
    for label, (options, mib) in PATHS.items():
        if opt.path and not any(part in label for part in opt.path):
            continue
        if out_of_time():
            say("  the time budget is spent")
            break
        say(f"  {label}")
        src = random_file(store, (min(mib, 64) if opt.quick else mib) * MIB, "payload.bin")
        lab = Lab(road=options)
        try:
            series = []
            for p in programs:
                job = Job(lab, limit=opt.path_limit)
                if not isinstance(p, Iperf):
                    job.src, job.dst = src, store
                elif mib == 1:
                    job.size = MIB
                series.append(Series(p.name, p, job))
            rounds(series, opt.runs, warm_up=False)
            road = lab.end_road()
            rows = [
                [
                    s.label,
                    f"{s.size() // MIB} MiB" if s.size() else f"{seconds} s",
                    f"{sum('failed' not in r for r in s.runs)}/{len(s.runs)}",
                    sum(bool(r.get("partial")) for r in s.runs) or "",
                    three(s.values("rate")),
                    three(s.values("e2e")),
                    percent(s.spread("rate")),
                    three(cpu_per_gib(s, seconds)),
                    percent(statistics.median(v) if (v := s.values("others")) else None),
                ]
                for s in series
            ]
            print(f"\n{label}: {road['ways']}, the road took {road['cpu']:.1f} s of CPU\n")
            head = ["", "size", "ok", "cut short", "payload MiB/s", "end to end s", "spread"]
            table([*head, "cpu s/GiB", "others' cpu"], rows)
            at = {s.label: s for s in series}
            ours, bbr = at.get("knothole"), at.get("iperf3 TCP bbr")
            if ours and bbr and mib > 1:
                goals.append(show_ratio(f"knothole : TCP BBR, {label}", ratio(ours, bbr, "rate"), PATH_GOAL))
            report[label] = {**road, "series": {s.label: s.report() for s in series}}
        finally:
            src.unlink()
            stop_everything()
            lab.close()
    return {"loss": report, "goals": goals}


def cpu_per_gib(series, seconds):
    """Of each run; iperf3 moves what it can for so many seconds."""
    runs = [r for r in series.runs if r.get("cpu") and r.get("rate")]
    moved = [r.get("moved") or series.size() or r["rate"] * MIB * seconds for r in runs]
    return [r["cpu"] / (size / GIB) for r, size in zip(runs, moved)]


# Round trip in ms and rate in Mbit/s where neighbours share a road; its queue, in round trips.
SHARED = (40, 80)
QUEUES = (0.5, 1, 2, 4)


def neighbours(opt):
    """A knothole beside one TCP flow, and beside another knothole, at queues of several lengths."""
    seconds = 10 if opt.quick else 30
    knothole = Knothole(opt.bin)
    SETTINGS.versions[knothole.name] = knothole.version()
    beside = {"TCP cubic": "cubic", "TCP bbr": "bbr", "knothole": None}
    if not shutil.which("iperf3"):
        SETTINGS.skipped["iperf3"] = "not found: install iperf3"
        beside = {"knothole": None}
    store = SETTINGS.shm or SETTINGS.disk
    src = Path(store) / "payload-without-end.bin"
    src.touch()
    os.truncate(src, 64 * GIB)  # of nothing: it takes no room
    report, rows = {}, []
    try:
        for queue in QUEUES:
            for other, control in beside.items():
                shares, errors = [], []
                for _ in range(opt.runs):
                    if out_of_time():
                        break
                    try:
                        shares.append(shared(knothole, src, control, queue, seconds))
                    except Failed as e:
                        errors.append(str(e))
                        SETTINGS.failed.setdefault(f"knothole beside {other}", []).append(str(e))
                    say(f"  a queue of {queue:g} round trips, beside {other}: {shares[-1:] or errors[-1:]}")
                label = f"a queue of {queue:g} round trips, beside {other}"
                report[label] = {"runs": shares, "failures": errors}
                rows.append(
                    [
                        label,
                        f"{len(shares)}/{len(shares) + len(errors)}",
                        three([s["share"] for s in shares]),
                        three([s["jain"] for s in shares], 3),
                        three([s["used"] for s in shares]),
                    ]
                )
        print(f"\nNeighbours on {SHARED[0]} ms and {SHARED[1]} Mbit/s, the {seconds} s in which both ran\n")
        table(["", "ok", "share of the first knothole", "Jain's index", "of the link, both"], rows)
        return {"shared": report, "seconds": seconds}
    finally:
        src.unlink()


def shared(knothole, src, control, queue, seconds):
    """Shares of a knothole and of a TCP flow (or a second knothole) on one road, in bytes on the wire."""
    round_trip, rate = SHARED
    lab = Lab(road=["--round-trip", str(round_trip), "--rate", str(rate), "--queue", str(queue)])
    children = []

    def started(child):
        children.append(child)
        return child

    def pair():
        first = started(knothole.send(job, src, "-q"))
        token = first.until(lambda: knothole.invite(first), 60)
        started(knothole.receive(job, "-", token, "-q", stdout=nowhere))

    def counted():
        """Bytes of the two: the largest UDP flows, and TCP beside one."""
        flows = lab.flows()
        udp = sorted((n for flow, n in flows.items() if flow[0] == "udp"), reverse=True)
        if not control:
            return {flow: n for flow, n in flows.items() if flow[0] == "udp" and n in udp[:2]}
        return {"udp": sum(udp), "tcp": sum(n for flow, n in flows.items() if flow[0] == "tcp")}

    def both_run():
        now = counted()
        return now if len(now) == 2 and min(now.values()) > MIB else None

    try:
        lab.count_flows()
        job = Job(lab)
        with open(os.devnull, "wb") as nowhere:
            pair()
            if control:
                iperf = need(shutil.which("iperf3"), "install iperf3")
                server = started(Child([iperf, "-s", "-1", "-B", job.addr[1], "-p", str(IPERF_PORT)], job.receiver_at))
                server.until(lambda: listening(server.pid, IPERF_PORT), 10)
                argv = [iperf, "-C", control, "-c", job.addr[1], "-p", str(IPERF_PORT), "-t", str(seconds + 60)]
                started(Child(argv, job.sender_at))
            else:
                pair()
        before = children[-1].until(both_run, 60)
        began = time.monotonic()
        time.sleep(seconds)
        for child in children:
            if wait_readable([child.pidfd], 0):
                child.reap()
                raise Failed(f"{child.name} ended early with {child.code}: {child.tail()}")
        after, took = counted(), time.monotonic() - began
        moved = [after.get(flow, 0) - n for flow, n in before.items()]
        return {
            "share": moved[0] / sum(moved),
            "jain": sum(moved) ** 2 / (2 * sum(n * n for n in moved)),
            "used": sum(moved) * 8e-6 / rate / took,
        }
    finally:
        for child in children:
            child.stop()
        lab.close()


def memory(opt):
    """Peak memory of both sides at two sizes."""
    sizes = [16 * MIB, 256 * MIB] if opt.quick else [64 * MIB, 4 * GIB]
    programs = available(
        ("knothole", lambda: Knothole(opt.bin)),
        ("bare webrtc", lambda: Bare(opt.wr)),
        ("sendme", lambda: Sendme(opt.sendme)),
    )
    runs = min(opt.runs, 3)
    lab = Lab()
    result, rows, goals = {}, [], []
    try:
        for size in sizes:
            src = random_file(SETTINGS.disk, size, "payload.bin")
            series = [
                Series(p.name, p, Job(lab, src, SETTINGS.disk, limit=opt.limit * 2, sampled=True)) for p in programs
            ]
            rounds(series, runs, warm_up=False)
            for s in series:
                peaks = {k: [v / MIB for v in s.values(f"peak_{k}")] for k in ("send", "recv")}
                ok = f"{len(peaks['send'])}/{len(s.runs)}"
                rows.append([s.label, f"{size // MIB} MiB", ok, three(peaks["send"], 1), three(peaks["recv"], 1)])
                result[f"{s.label}, {size // MIB} MiB"] = s.report()
                if s.label == "knothole":
                    for side, v in peaks.items():
                        goals.append((f"knothole {side} peak at {size // MIB} MiB", max(v, default=None)))
            src.unlink()
        print("\nPeak resident memory, MiB (VmHWM; min / median / max)\n")
        table(["", "file", "ok", "sender", "receiver"], rows)
        goals = [show_limit(what, value, 64, "MiB") for what, value in goals]
        return {"series": result, "goals": goals}
    finally:
        (Path(SETTINGS.disk) / "payload.bin").unlink(missing_ok=True)
        stop_everything()
        lab.close()


class FirstByte:
    """From the joiner's start to the first byte of the file on its stdout."""

    name = "knothole, first byte"

    def __init__(self, knothole):
        self.knothole = knothole

    def run(self, job):
        read, write = os.pipe()
        first = self.knothole.send(job, job.src, "-q")
        second = None
        try:
            token = first.until(lambda: self.knothole.invite(first), 60)
            second = self.knothole.receive(job, "-", token, "-q", stdout=write)
            os.close(write)
            write = None
            if not wait_readable([read], job.limit):
                raise Failed(f"no byte after {job.limit:.0f} s: {second.tail()}")
            at = time.monotonic()
            got = 0
            while chunk := os.read(read, 1 << 16):
                got += len(chunk)
            if got == 0:
                raise Failed(f"the receiver closed its output: {second.tail()}")
            wait_all([first, second], job.limit)
            if got != job.src.stat().st_size:
                raise Failed(f"{got} bytes arrived")
            return {"e2e": at - second.start}
        finally:
            for fd in (read, write):
                if fd is not None:
                    os.close(fd)
            for child in (first, second):
                if child:
                    child.stop()


class Start:
    """From a program's start to its exit."""

    def __init__(self, name, argv):
        self.name, self.argv = name, argv

    def run(self, job):
        child = Child(self.argv, job.sender_at, tied=False)  # no Python between fork and exec
        wait_all([child], job.limit)
        return {"e2e": child.end - child.start}


def latency(opt):
    """Small things on loopback: start-up, first byte, 1 KiB, and the size of the binary."""
    programs = available(
        ("knothole", lambda: Knothole(opt.bin)),
        ("bare webrtc", lambda: Bare(opt.wr)),
        ("sendme", lambda: Sendme(opt.sendme)),
        ("scp", Scp),
    )
    runs = opt.runs if opt.quick else max(opt.runs, 15)
    store = SETTINGS.shm or SETTINGS.disk
    lab = Lab()
    try:
        small = random_file(store, 1024, "payload-1KiB.bin")
        some = random_file(store, MIB, "payload-1MiB.bin")

        def job(src):  # both peers in one namespace: the kernel carries it over lo
            return Job(lab, src, store, sides="aa", limit=30)

        series = [Series(f"{p.name}, 1 KiB, joiner's start to both exits", p, job(small)) for p in programs]
        if k := by_name(programs, "knothole"):
            series.append(Series("knothole, joiner's start to first payload byte", FirstByte(k), job(some)))
            series.append(Series("knothole --version", Start("knothole --version", [k.binary, "--version"]), job(small)))
        series.append(Series("true (the cost of starting anything)", Start("true", [shutil.which("true")]), job(small)))
        rounds(series, runs)
        print("\nLatency on loopback, ms (min / median / max)\n")
        rows = [
            [s.label, f"{len(s.values('e2e'))}/{len(s.runs)}", three([1000 * v for v in s.values("e2e")], 1)]
            for s in series
        ]
        table(["", "ok", "ms"], rows)
        goals = []
        for label, limit in (
            ("knothole, joiner's start to first payload byte", 100),
            ("knothole, 1 KiB, joiner's start to both exits", 150),
            ("knothole --version", 10),
        ):
            s = next((s for s in series if s.label == label), None)
            v = s and s.values("e2e")
            goals.append(show_limit(label, 1000 * statistics.median(v) if v else None, limit, "ms"))
        report = {"series": {s.label: s.report() for s in series}, "goals": goals}
        if k:
            report["binary"] = binary_size(k.binary)
            sizes = ", ".join(f"{what} {n / MIB:.2f} MiB" for what, n in report["binary"].items())
            print(f"  binary: {sizes}")
        return report
    finally:
        for path in Path(store).glob("payload-1*.bin"):
            path.unlink()
        stop_everything()
        lab.close()


class Stream:
    """A file to the other side's standard output, as a file, as a stream, and through a pipe."""

    def __init__(self, knothole, how):
        self.knothole, self.how, self.name = knothole, how, f"knothole {how}"

    def run(self, job):
        piped = self.how == "pipe"
        quiet = ["--stun", "", "--no-progress"]
        words = {"send FILE": ["send", str(job.src)], "send -": ["send", "-"], "pipe": ["pipe", "--send-only"]}
        there = ["pipe", "--recv-only"] if piped else ["receive", "-y", "-o", "-"]

        def events(child):  # beside a stream they go to stderr
            return self.knothole.events((child.err if piped else child.out).read_text(errors="replace"))

        def invite(child):
            return next((e["token"] for e in events(child) if e.get("kind") == "invite"), None)

        with landing(job.dst) as out, open(job.src, "rb") as src, open(out / "out", "wb") as dst:
            r = transfer(
                job,
                lambda: Child([self.knothole.binary, *words[self.how], *quiet, "--json"], job.sender_at, stdin=src),
                invite,
                lambda token: Child([self.knothole.binary, *there, *quiet, token], job.receiver_at, stdout=dst),
            )
            done = [e for e in events(r["_children"][0]) if e.get("event") == "done"]
            if not done:
                raise Failed("the sender printed no done event")
            check_same(job.src, out / "out")
            r["rate"] = done[-1]["bytes"] / MIB / done[-1]["seconds"]
            return r


class PingPong:
    """One byte to `cat` and back, again and again: through two pipes, or straight for comparison."""

    WARM_UP, ROUNDS = 200, 2000

    def __init__(self, knothole=None):
        self.knothole = knothole
        self.name = "knothole pipe" if knothole else "cat"

    def run(self, job):
        fds, children = [], []

        def pipe():
            fds.extend(os.pipe())
            return fds[-2:]

        def start(*args, **streams):
            children.append(Child(*args, **streams))
            return children[-1]

        try:
            (in_read, in_write), (out_read, out_write) = pipe(), pipe()
            if self.knothole:
                argv = [self.knothole.binary, "pipe", "--stun", "", "--no-progress"]
                first = start([*argv, "-q"], job.sender_at, stdin=in_read, stdout=out_write)

                def invite():
                    text = first.err.read_text()
                    return text.split("\n", 1)[0] if "\n" in text else None

                token = first.until(invite, 60)
                (to_cat, from_second), (to_second, from_cat) = pipe(), pipe()
                start([*argv, token], job.receiver_at, stdin=to_second, stdout=from_second)
                start(["cat"], job.receiver_at, stdin=to_cat, stdout=from_cat)
            else:
                start(["cat"], job.sender_at, stdin=in_read, stdout=out_write)
            took = []
            for n in range(self.WARM_UP + self.ROUNDS):
                began = time.perf_counter()
                os.write(in_write, b"x")
                if not wait_readable([out_read], job.limit):
                    raise Failed(f"no answer to byte {n}: {children[0].tail()}")
                os.read(out_read, 1)
                if n >= self.WARM_UP:
                    took.append(time.perf_counter() - began)
            took.sort()
            return {"e2e": statistics.median(took), "p99": took[len(took) * 99 // 100]}
        finally:
            for fd in fds:
                os.close(fd)
            for child in children:
                child.stop()


def stream(opt):
    """A pipe beside the transfer of a file and of a stream, and its latency."""
    knothole = Knothole(opt.bin)
    SETTINGS.versions[knothole.name] = knothole.version()
    store = SETTINGS.shm or SETTINGS.disk
    lab = Lab()
    try:
        src = random_file(store, 64 * MIB if opt.quick else GIB, "payload.bin")
        job = Job(lab, src, store, limit=opt.limit)
        series = [Series(p.name, p, job) for p in (Stream(knothole, how) for how in ("send FILE", "send -", "pipe"))]
        rounds(series, opt.runs)
        pings = [Series(f"{p.name}, 1 byte and back", p, Job(lab)) for p in (PingPong(knothole), PingPong())]
        rounds(pings, opt.runs, warm_up=False)
        print(f"\n{src.stat().st_size // MIB} MiB to the other side's stdout, a file in memory (min / median / max)\n")
        table(
            ["", "ok", "payload MiB/s", "end to end MiB/s", "cpu s", "others' cpu", "spread"],
            [
                [
                    s.label,
                    f"{len(s.values('rate'))}/{len(s.runs)}",
                    three(s.values("rate"), 0),
                    three(s.values("e2e_rate"), 0),
                    three(s.values("cpu")),
                    percent(statistics.median(v) if (v := s.values("others")) else None),
                    percent(s.spread("rate")),
                ]
                for s in series
            ],
        )
        print(f"One byte to `cat` and back, {PingPong.ROUNDS} times a run, ms (min / median / max of the runs)\n")
        table(
            ["", "ok", "median of a run", "99th percentile of a run"],
            [
                [
                    s.label,
                    f"{len(s.values('e2e'))}/{len(s.runs)}",
                    *(three([1000 * v for v in s.values(k)], 3) for k in ("e2e", "p99")),
                ]
                for s in pings
            ],
        )
        goals = [show_ratio(f"pipe : {s.label}", ratio(series[2], s, "rate")) for s in series[:2]]
        return {"series": {s.label: s.report() for s in [*series, *pings]}, "goals": goals}
    finally:
        (Path(store) / "payload.bin").unlink(missing_ok=True)
        stop_everything()
        lab.close()


def binary_size(binary):
    sizes = {"as built": os.path.getsize(binary)}
    if strip := shutil.which("strip"):
        copy = Path(SETTINGS.scratch) / "stripped"
        if subprocess.run([strip, "-o", str(copy), binary], capture_output=True).returncode == 0:
            sizes["stripped"] = copy.stat().st_size
    return sizes


# ---------------------------------------------------------------- main

SECTIONS = {
    "throughput": throughput,
    "stream": stream,
    "loss": loss,
    "path": path,
    "neighbours": neighbours,
    "memory": memory,
    "latency": latency,
}


class SETTINGS:
    """What all runs share; filled in by `main`."""

    scratch = shm = disk = road = None
    deadline = 0.0
    only = []
    skipped, versions, failed = {}, {}, {}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("section", choices=["all", *SECTIONS])
    p.add_argument("--runs", type=int, help="measured rounds, after one warm-up (5; 2 with --quick)")
    p.add_argument("--quick", action="store_true", help="smaller files and fewer rounds: a look, not a result")
    p.add_argument("--bin", default=str(REPO / "target/release/knothole"), help="knothole (target/release/knothole)")
    p.add_argument("--road", help="the path of `path` and `neighbours` (the newest that `cargo build --bench road` made)")
    p.add_argument("--wr", default=os.environ.get("KNOTHOLE_BENCH_WR"), help="throughput probe of the bare crate")
    p.add_argument("--sendme", default=os.environ.get("KNOTHOLE_BENCH_SENDME", "sendme"), help="sendme (from PATH)")
    p.add_argument("--only", action="append", default=[], metavar="NAME", help="only programs whose name has this")
    p.add_argument("--loss", type=float, nargs="+", default=list(LOSS_GOALS), metavar="PERCENT")
    p.add_argument("--disk", default=tempfile.gettempdir(), metavar="DIR", help="folder on a disk (the temp folder)")
    p.add_argument("--out", default=str(REPO / "target/bench-transfer.json"), help="JSON report")
    p.add_argument("--limit", type=float, default=60, help="seconds for one transfer (60; twice that for memory)")
    p.add_argument("--loss-limit", type=float, default=60, help="seconds for one transfer under loss (60)")
    p.add_argument("--path", action="append", default=[], metavar="PART", help="only paths whose name has this")
    p.add_argument("--path-limit", type=float, default=60, help="seconds for one transfer over a path (60)")
    p.add_argument("--budget", type=float, default=2400, help="seconds after which no new round starts (2400)")
    opt = p.parse_args()
    if opt.runs is None:
        opt.runs = 2 if opt.quick else 5
    if opt.runs < 1:
        p.error("--runs must be at least 1")
    return opt


def machine():
    def read(path):
        with contextlib.suppress(OSError):
            return Path(path).read_text().strip()

    cpu = re.search(r"model name\s*: (.*)", read("/proc/cpuinfo") or "")
    return {
        "kernel": platform.release(),
        "arch": platform.machine(),
        "cpus": os.cpu_count(),
        "cpu": cpu[1] if cpu else None,
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB,
        "rmem_max": int(read("/proc/sys/net/core/rmem_max")),
        "tcp_default": read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "load_before": os.getloadavg(),
        "disk_is": file_system(SETTINGS.disk),
    }


def file_system(path):
    said = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True)
    return said.stdout.strip()


def noise(report):
    """How far runs of the same thing lay apart: what a difference must exceed to mean something."""
    all_spreads = {}
    for section in report["sections"].values():
        groups = [section] if "series" in section else section.get("loss", {}).values()
        for g in groups:
            for label, s in g["series"].items():
                e = s["summary"].get("rate") or s["summary"].get("e2e")
                if e and e["n"] > 1:
                    all_spreads.setdefault(label, []).append((e["max"] - e["min"]) / e["median"])
    flat = sorted(x for v in all_spreads.values() for x in v)
    return {"median_spread": statistics.median(flat), "worst_spread": flat[-1]} if flat else None


def main():
    opt = arguments()
    if os.geteuid() != 0:
        sys.exit("transfer.py: needs root, to make network namespaces")
    for tool in ("ip", "nft", "cmp"):
        if not shutil.which(tool):
            sys.exit(f"transfer.py: {tool} not found")
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda n, _: sys.exit(128 + n))
    began, ticks = time.monotonic(), processor_ticks()
    broken = False
    SETTINGS.deadline = began + opt.budget
    SETTINGS.only, SETTINGS.road = opt.only, opt.road
    with contextlib.ExitStack() as stack:
        stack.callback(stop_everything)

        def folder(where):
            path = tempfile.mkdtemp(prefix="knothole-bench-", dir=where)
            stack.callback(shutil.rmtree, path, ignore_errors=True)
            return path

        SETTINGS.disk = folder(opt.disk)
        SETTINGS.shm = folder("/dev/shm") if os.path.isdir("/dev/shm") else None
        SETTINGS.scratch = folder(SETTINGS.shm)
        report = {"schema": 1, "quick": opt.quick, "runs": opt.runs, "machine": machine(), "sections": {}}
        if report["machine"]["disk_is"] in ("tmpfs", "ramfs"):
            say("the folder of --disk is in memory: the disk figures are not of a disk")
        for name in SECTIONS if opt.section == "all" else [opt.section]:
            say(f"{name}:")
            try:
                report["sections"][name] = SECTIONS[name](opt)
            except Unavailable as e:
                say(f"  {name} not run: {e}")
                SETTINGS.skipped[name] = str(e)
            except Exception as e:  # the figures of the other sections are worth keeping
                traceback.print_exc()
                SETTINGS.skipped[name] = f"the benchmark itself failed: {e!r}"
                broken = True
        report["machine"]["load_after"] = os.getloadavg()
        spent = [b - a for a, b in zip(ticks, processor_ticks())]
        report["machine"]["stolen"] = spent[7] / sum(spent[:8])  # time the hypervisor gave to others
        report["skipped"], report["versions"] = SETTINGS.skipped, SETTINGS.versions
        report["noise"] = noise(report)
        report["seconds"] = round(time.monotonic() - began, 1)
        m = report["machine"]
        print(
            f"\nMachine: {m['cpus']} cores, kernel {m['kernel']}, disk {m['disk_is']}, rmem_max {m['rmem_max']}; "
            f"load {m['load_before'][0]:.1f} before, {m['load_after'][0]:.1f} after, {percent(m['stolen'])} stolen; "
            f"{report['seconds']:.0f} s in all"
        )
        if n := report["noise"]:
            print(
                f"Noise: (max - min) / median of the same thing is {percent(n['median_spread'])} in the middle, "
                f"{percent(n['worst_spread'])} at worst; a smaller difference says nothing"
            )
        for label, why in SETTINGS.failed.items():
            print(f"Failed: {label}, {len(why)} runs; the last: {why[-1]}")
        for name, why in SETTINGS.skipped.items():
            print(f"Skipped: {name}: {why}")
        out = Path(opt.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=1) + "\n")
        print(f"JSON: {out}")
    return 1 if broken or any("knothole" in label for label in SETTINGS.failed) else 0


if __name__ == "__main__":
    sys.exit(main())
