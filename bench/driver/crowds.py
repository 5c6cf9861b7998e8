"""Crowds: what is left for one client beside many that are silent, slow or greedy, and the memory of
many that stall."""

import json
import os
import resource
import time

from . import proc
from .figure import Figure
from .modes import MIB, Client, Mode, show_bytes
from .servers import Running

QUIET_FILES = 256 + 128  # of the server beside two for each client
STALL_SECONDS = 8  # until a stalled connection counts as one
LEAVE_SECONDS = 10  # until what its clients left is gone
GREEDY_CLIENT, POLITE_CLIENT = "192.0.2.1", "192.0.2.2"
HIGH_LIMITS = "--max-requests-per-address=0 --max-connections-per-address=2000"


class CrowdMode(Mode):
    """A crowd. `length`: what the other client sends, alone and with it."""

    def __init__(self, name, title, work, count, length=0, options=""):
        super().__init__(name, title, work, [count])
        self.count, self.length, self.options = count, length, options


def modes(quick=False):
    """All crowds, at full size or small enough for a smoke test."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    quiet = 200 if quick else min(10_000, (files - QUIET_FILES) // 2)
    stalled, greedy, length = (100, 50, 64 * MIB) if quick else (1_500, 500, 512 * MIB)
    stalls = f"{stalled:,} clients that send 600,000 bytes and stall"
    two = "two addresses (X-Forwarded-For)"
    return {mode.name: mode for mode in [
        CrowdMode("crowd-quiet", f"PATCHes of {show_bytes(length)} on one connection, alone and with "
                  f"{quiet:,} with a checksum: one half sends one byte, the other one byte a second",
                  "quiet", quiet, length),
        CrowdMode("crowd-greedy", f"PATCHes of {show_bytes(length)} on one connection, alone and with "
                  f"{greedy} of one greedy client, {two}", "greedy", greedy, length,
                  "--behind-proxy"),
        CrowdMode("crowd-greedier", "the same with room for all of them in the limit of one address",
                  "greedy", greedy, length, f"--behind-proxy {HIGH_LIMITS}"),
        CrowdMode("crowd-stalled", stalls, "stalled", stalled),
        CrowdMode("crowd-trailers", f"{stalls} in the middle of the trailers", "stalled-trailers",
                  stalled),
        CrowdMode("crowd-http2", f"{stalls}, over HTTP/2", "stalled-http2", stalled,
                  options="--enable-h2c"),
    ]}


def takes_part(server, _):
    """The settings are Landfall's."""
    return server.name.startswith("landfall")


def measure(server, mode, loadgen, root, _, pin=(None, None)):
    """One crowd on a server of its own."""
    server = server.within(dict(server.environment, BENCH_OPTIONS=mode.options))
    with Running(server, root, pin[0]) as running:
        address = f"127.0.0.1:{running.port}"
        pids = proc.tree(running.process.pid)
        forwarded = mode.work == "greedy"
        crowd_kind = f"{server.kind}={GREEDY_CLIENT}" if forwarded else server.kind
        one_kind = f"{server.kind}={POLITE_CLIENT}" if forwarded else server.kind
        crowd = [mode.work, address, server.path, crowd_kind, mode.count]
        if mode.length:
            one = ["stream", address, server.path, one_kind, 1, mode.length, mode.length]
            result = beside(loadgen, one, crowd, pin[1], running.data)
        else:
            result = stalled(loadgen, crowd, pids, mode.count, pin[1])
        if running.process.poll() is not None:
            raise RuntimeError(f"{server.name} ended: {running.last_words()}")
    return result


def beside(loadgen, one, crowd, pin, data):
    """The speed of one client alone, and what is left of it beside a crowd."""
    length = one[-1]

    def forget():
        """Frees what the client has uploaded: memory that was used before is several times faster than
        what a virtual machine has to get from its host."""
        for name in os.listdir(data):
            path = os.path.join(data, name)
            if os.path.isfile(path) and os.path.getsize(path) >= length:
                os.unlink(path)

    def speed():
        with Client(loadgen, one, pin) as client:
            client.wait("ready")
            client.go()
            result = json.loads(client.wait("done"))
            client.go()
            client.wait("verified")
            forget()
            return result["bytes"] / MIB / result["wall_s"]

    before = max(speed(), speed())
    with Client(loadgen, crowd, pin) as client:
        client.wait("ready")
        time.sleep(3)
        within = max(speed(), speed())
        client.go()
        client.wait("done")
        client.go()
    time.sleep(1)
    alone = max(before, speed())
    return {"alone_mib_per_s": alone, "mib_per_s": within, "share": within / alone}


def stalled(loadgen, crowd, pids, count, pin):
    """What each connection holds while its client stalls, and what stays when all have left."""
    # What the first requests allocate stays.
    warm_up(loadgen, crowd, pin)
    idle = proc.memory_kib(pids, "VmRSS")
    with Client(loadgen, crowd, pin) as client:
        client.wait("ready")
        time.sleep(STALL_SECONDS)
        held = proc.memory_kib(pids, "VmRSS") - idle
        client.go()
        client.wait("done")
        client.go()
        time.sleep(LEAVE_SECONDS)
        left = proc.memory_kib(pids, "VmRSS") - idle
    return {"kib_per_connection": held / count, "left_mib": max(0, left) / 1024}


def warm_up(loadgen, crowd, pin):
    """One client of the crowd."""
    with Client(loadgen, [*crowd[:-1], 1], pin) as client:
        client.wait("ready")
        client.go()
        client.wait("done")
        client.go()
    time.sleep(3)


FIGURES = [
    *(Figure(mode, key, label, style, True) for mode in ("crowd-quiet", "crowd-greedy", "crowd-greedier")
      for key, label, style in [("alone_mib_per_s", "MiB/s alone", "{:,.0f}"),
                                ("mib_per_s", "MiB/s with them", "{:,.0f}"),
                                ("share", "share of its speed alone", "{:.2f}")]),
    *(Figure(mode, key, label, "{:.1f}") for mode in ("crowd-stalled", "crowd-trailers", "crowd-http2")
      for key, label in [("kib_per_connection", "resident KiB each"),
                         ("left_mib", "MiB above idle 10 s after they left")]),
]
SHORT = {"crowd-quiet": "with silent clients", "crowd-greedy": "with a greedy client, default limits",
         "crowd-greedier": "with 500 greedy uploads", "crowd-stalled": "stalled clients",
         "crowd-trailers": "stalled in trailers", "crowd-http2": "stalled, HTTP/2"}
