"""The kinds of work, and how one of them is run against one server."""

import json
import os
import subprocess
import threading
import time

from . import proc
from .servers import Running

GIB = 1 << 30
MIB = 1 << 20
BROWSER_CHUNK = 2_000_000  # what tutorials for browser clients set
LOAD_PATIENCE = 900  # seconds
SETTLED = 2  # seconds after the first answer, when a server without work is idle


class Mode:
    """One kind of work: the arguments of the load generator, and what the reader is told."""

    def __init__(self, name, title, work, arguments, rounds=None, memory=0):
        self.name, self.title, self.work = name, title, work
        self.arguments, self.rounds, self.memory = arguments, rounds, memory


def modes(quick=False, disk=False):
    """All modes at full size, or small enough for a smoke test; fewer files where each is synced."""
    big, four, browser, peak = (GIB, 256 * MIB, 512 * MIB, 4 * GIB)
    small, heads, asked, slow, hold = 16_000, 48_000, 10_000, 1_000, 6
    kept, idle = 4_000, 10
    if disk:
        small = 4_000
    if quick:
        big, four, browser, peak = (128 * MIB, 32 * MIB, 64 * MIB, 256 * MIB)
        small, heads, asked, slow, hold = 800, 1_600, 400, 100, 2
        kept, idle = 100, 2
    return {mode.name: mode for mode in [
        Mode("big", f"{show_bytes(big)}, one connection", "stream", [1, big, big]),
        Mode("four", f"one PATCH of {show_bytes(four)} on each of 4 connections", "stream",
             [4, four, four]),
        Mode("browser", f"an upload of {show_bytes(browser)}, one connection (PUT: objects of that "
             "size)", "stream", [1, browser, BROWSER_CHUNK]),
        Mode("small", f"{small:,} of 1 to 64 KiB (log-uniform), 16 connections, one request each "
             "where the server can", "small", [16, small]),
        Mode("small-patch", f"{small // 2:,} of 1 to 64 KiB (log-uniform), 16 connections "
             "(PUT: one request)", "small-patch", [16, small // 2]),
        Mode("head", f"{heads:,} over {asked:,} half-sent uploads (PUT: objects), 16 connections", "head",
             [16, heads, asked]),
        Mode("slow", f"{slow:,}, each a PATCH that gets one byte a second", "slow",
             [slow, hold]),
        Mode("idle", f"{kept:,}, each kept open after one HEAD, {idle} seconds later (a server that has closed "
             "them has no figure)", "idle", [kept, idle]),
        # What rustus does, holding the whole body, is the most that has room.
        Mode("peak", f"one PATCH of {show_bytes(peak)}, the most ever resident", "stream",
             [1, peak, peak], rounds=1, memory=peak * 9 // 4),
    ]}


def show_bytes(count):
    """1 GiB, 256 MiB."""
    return f"{count // GIB} GiB" if count % GIB == 0 else f"{count // MIB} MiB"


class Client:
    """The load generator, step by step."""

    def __init__(self, binary, arguments, pin=None):
        command = [binary, *map(str, arguments)]
        if pin:
            command = ["taskset", "-c", pin, *command]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        # A server that hangs ends the run, not the benchmark.
        self.watch = threading.Timer(LOAD_PATIENCE, self.process.kill)
        self.watch.start()

    def wait(self, word):
        """Waits for a step and returns what it came with."""
        line = self.process.stdout.readline().strip()
        said, _, rest = line.partition(" ")
        if said != word:
            if said == "fault":
                raise RuntimeError(rest)
            if not line:
                raise RuntimeError(f"the client ended with status {self.process.wait()}")
            raise RuntimeError(f"the client said {line!r}, not {word!r}")
        return rest

    def go(self):
        """Lets it go on."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.watch.cancel()
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Nothing:
    """What is behind a server that stores in its own folder, and tells nobody. `driver.s3.Bucket`,
    `driver.hooks.Application` and `driver.grants.Granting` are the others."""

    def __init__(self, server):
        self.server = server

    def arguments(self, mode, address):
        """What the client is told."""
        return [mode.work, address, self.server.path, self.server.kind, *mode.arguments]

    def begin(self, pids, made):
        """Right before the timed work; `made` is the number of uploads made before it."""

    def settle(self, made):
        """When the client has all its answers: waits for what the server still has to do for the
        `made` uploads. Its processor time counts."""

    def end(self, pids):
        """Right after it: the figures it adds, and the processor time that it took itself."""
        return {}, 0.0

    def after(self):
        """When all is checked: more figures."""
        return {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def run_once(server, mode, loadgen, root, pin=(None, None), keep=False, behind=Nothing):
    """Starts the server on an empty folder, does the work, checks what was stored.

    Raises RuntimeError when the server answers or stores anything wrong.
    """
    if proc.memory_available() < mode.memory:
        raise RuntimeError(f"needs {show_bytes(mode.memory // MIB * MIB)} of free memory")
    with behind(server) as store, Running(store.server, root, pin[0], keep) as running:
        arguments = store.arguments(mode, f"127.0.0.1:{running.port}")
        with Client(loadgen, arguments, pin[1]) as client:
            made = int(client.wait("ready"))
            pids = proc.tree(running.process.pid)
            resident = proc.memory_kib(pids, "VmRSS")
            store.begin(pids, made)
            began, busy, cpu = time.time(), proc.machine_busy_seconds(), proc.cpu_seconds(pids)
            ticks = proc.ticks(pids)
            client.go()
            result = json.loads(client.wait("done"))
            store.settle(made + result["operations"])
            pids = proc.tree(running.process.pid)
            cpu = proc.cpu_seconds(pids) - cpu
            in_kernel = proc.kernel_share(ticks, proc.ticks(pids))
            figures, beside = store.end(pids)
            busy, lasted = proc.machine_busy_seconds() - busy, time.time() - began
            known = cpu + beside + result["client_cpu_s"]
            result.update(
                figures,
                cpu_s=round(cpu, 6),
                kernel_share=in_kernel,
                peak_kib=proc.memory_kib(pids, "VmHWM"),
                resident_kib=resident,
                resident_growth_kib=proc.memory_kib(pids, "VmRSS") - resident,
                start_s=round(running.start_seconds, 6),
                other_cpus=round(max(0, busy - known) / lasted, 3))
            client.go()
            client.wait("verified")
            if running.process.poll() is not None:
                raise RuntimeError(f"{server.name} ended: {running.last_words()}")
            result.update(store.after())
    derive(result, mode)
    return result


def derive(result, mode):
    """Adds the figures that the tables show."""
    if mode.work == "stream":
        result["cpu_s_per_gib"] = result["cpu_s"] / result["bytes"] * GIB
        result["mib_per_s"] = result["bytes"] / MIB / result["wall_s"]
    elif mode.work == "slow":
        result["kib_per_connection"] = result["resident_growth_kib"] / mode.arguments[0]
    elif mode.work == "idle":
        if result["operations"]:
            result["kib_per_connection"] = result["resident_growth_kib"] / result["operations"]
    else:
        result["per_s"] = result["operations"] / result["wall_s"]
        result["cpu_us_each"] = result["cpu_s"] / result["operations"] * 1e6
        if result.get("kernel_share") is not None:
            result["kernel_us_each"] = result["cpu_us_each"] * result["kernel_share"]


def start_once(server, root, pin=(None, None)):
    """Starts and stops it: the time until its first answer, and its memory when it is idle."""
    with Running(server, root, pin[0]) as running:
        time.sleep(SETTLED)
        return {"start_ms": running.start_seconds * 1e3,
                "idle_kib": proc.memory_kib(proc.tree(running.process.pid), "VmRSS")}


def sync_cost(loadgen, folder, count):
    """What a new file of 4 KiB, synced with its folder, takes on a disk."""
    done = subprocess.run([loadgen, "sync", folder, str(count)], text=True, check=True,
                          stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def build(cargo_arguments, folder, target, name):
    """Builds a release binary and returns its path."""
    environment = dict(os.environ, CARGO_TARGET_DIR=target)
    done = subprocess.run(["cargo", "build", "--release", *cargo_arguments], cwd=folder,
                          env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{name} did not build")
    return os.path.join(target, "release", name)
