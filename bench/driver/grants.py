"""Grants: leave to upload, what it adds to an upload, who listens, and a queue of a million rows."""

import json
import time

from . import hooks, million, proc, starts
from .grant_figures import PLACES
from .modes import Client, Mode, Nothing, run_once
from .place import Place
from .servers import Running

PATH = "/uploadjobs"
UPLOADS = "/files/"
MADE_UP_KEY = "lfk_" + "0" * 43  # for a server of --server, which has no way to make one
# By hand nobody writes what the other kinds of work need.
BY_HAND = "fastapi"


class GrantMode(Mode):
    """One kind of work with grants, which are kept in `place`. `durability` is Landfall's."""

    def __init__(self, name, title, work, place=None, arguments=(), rounds=None,
                 durability="none"):
        super().__init__(name, title, work, list(arguments), rounds)
        self.place, self.durability = place, durability


def modes(quick=False):
    """All kinds of work, at full size or small enough for a smoke test."""
    crowd, one, tokens, small, heard = (320, 100, 320, 320, 5) if quick else \
        (6_000, 1_500, 3_000, 4_000, 50)
    running, asked, progress = (200, 320, 2) if quick else (10_000, 6_000, 30)
    rows, reads, listening, idle = (20_000, 10, 50, 0.5) if quick else (1_000_000, 100, 1_000, 5)
    ask = f"{crowd:,} grants, 16 connections, then {one:,}, one connection"
    create = f"{tokens:,} creations without bytes, one connection"
    upload = f"{small:,} uploads of 1 to 64 KiB (log-uniform), 16 connections"
    shown = "without grants and with one for each"
    return {mode.name: mode for mode in [
        *(GrantMode(f"grants-ask-{where}", f"{ask}; {words}", "asks", where, [crowd, one],
                    durability="complete") for where, words in PLACES.items()),
        *(GrantMode(f"grants-create-{where}", f"{create}, {shown}; {words}", "creations", where,
                    [1, tokens]) for where, words in PLACES.items()),
        *(GrantMode(f"grants-small-{where}", f"{upload}, {shown}; {PLACES[where]}", "small", where,
                    [16, small]) for where in ("memory", "postgres")),
        GrantMode("grants-off", f"{starts.STARTS} starts and creations, without grants and with; "
                  "no grant is requested", "start"),
        GrantMode("grants-listen", f"{listening:,} listeners, {heard} uploads under a grant, one "
                  "after the other; SQLite in memory", "listeners", "memory",
                  [listening, heard, idle], 1),
        *(GrantMode(f"grants-running-{where}", f"{asked:,} grants, 16 connections, alone and while "
                    f"{running:,} uploads under a grant receive 64 bytes every two seconds; "
                    f"{PLACES[where]}", "running", where, [running, asked, progress], 1)
          for where in ("memory", "postgres")),
        *(GrantMode(f"grants-million-{where}", f"{rows:,} rows in the queue, {reads} requests of each "
                    f"kind, one after the other; {PLACES[where]}", "million", where, [rows, reads], 1)
          for where in ("memory", "postgres")),
    ]}


def takes_part(server, mode):
    """Only Landfall has a queue that can be looked at, and only it has more than the endpoint."""
    if mode.work in ("million", "running"):
        return server.name == "landfall"
    return server.name != BY_HAND or mode.work == "asks"


class Granting(Nothing):
    """What is behind a server that asks for grants: where they are kept, and who asks."""

    def __init__(self, server, mode, root, disk=None):
        super().__init__(server)
        self.place = Place(mode.place, root, disk)
        try:
            self.server = granting(server, mode.durability, self.place.environment)
            self.key = key(self.server)
        except BaseException:
            self.place.stop()
            raise

    def arguments(self, mode, address):
        if mode.work == "creations" or mode.work == "small":
            return [*super().arguments(mode, address), PATH, self.key]
        path = [UPLOADS] if mode.work == "listeners" else []
        return [mode.work, address, *path, PATH, self.key, *mode.arguments]

    def begin(self, pids, made):
        self.cpu = [one.cpu_seconds() for one in self.place.services]

    def end(self, pids):
        spent = sum(one.cpu_seconds() - before
                    for one, before in zip(self.place.services, self.cpu))
        return {"behind_cpu_s": round(spent, 6)}, spent

    def __exit__(self, *_):
        self.place.stop()


def granting(server, durability, environment, switch="--require-grant"):
    """The server with grants."""
    return server.within(dict(server.environment, DURABILITY=durability, BENCH_GRANTS=switch,
                              **environment))


def key(server, *words):
    """A new API key."""
    return MADE_UP_KEY if server.template else server.ask("key", *words)[-1]


def measure(server, mode, loadgen, root, disk, pin=(None, None)):
    """One run of one kind of work; RuntimeError when anything comes out wrong."""
    if mode.work == "asks":
        return asks(server, mode, loadgen, root, disk, pin)
    if mode.work == "start":
        return starts.compare(server, granting(server, mode.durability, {}, "--grants"), root, pin)
    if mode.work == "listeners":
        return listeners(server, mode, loadgen, root, pin)
    if mode.work == "running":
        return running(server, mode, loadgen, root, disk, pin)
    if mode.work == "million":
        with Granting(server, mode, root, disk) as behind:
            return million.measure(behind, mode, root, pin)
    plain = server.within(dict(server.environment, DURABILITY=mode.durability))
    without = run_once(plain, mode, loadgen, root, pin)
    result = run_once(server, mode, loadgen, root, pin,
                      behind=lambda one: Granting(one, mode, root, disk))
    hooks.compare(result, without)
    return result


def asks(server, mode, loadgen, root, disk, pin):
    """Many at a time, then one after the other, each on a new server."""
    def run(connections, count):
        each = GrantMode(mode.name, mode.title, mode.work, mode.place, [connections, count],
                         durability=mode.durability)
        return run_once(server, each, loadgen, root, pin,
                        behind=lambda one: Granting(one, each, root, disk))

    crowd, one = mode.arguments
    result, single = run(16, crowd), run(1, one)
    result["other_cpus"] = max(result["other_cpus"], single["other_cpus"])
    result.update({f"one_{figure}": single[figure]
                   for figure in ("per_s", "p50_us", "p99_us", "cpu_us_each")})
    return result


def listeners(server, mode, loadgen, root, pin):
    """What many who listen cost: memory, processor while nothing happens, and how soon they hear."""
    count, _, idle = mode.arguments
    with Granting(server, mode, root) as behind, Running(behind.server, root, pin[0]) as running:
        words = behind.arguments(mode, f"127.0.0.1:{running.port}")[:-1]
        with Client(loadgen, words, pin[1]) as client:
            client.wait("alone")
            pids = proc.tree(running.process.pid)
            alone = proc.memory_kib(pids, "RssAnon")
            client.go()
            client.wait("ready")
            time.sleep(0.5)  # what is told of the last upload is on its way
            cpu, began = proc.cpu_seconds(pids), time.perf_counter()
            time.sleep(idle)
            idle_cpu = (proc.cpu_seconds(pids) - cpu) / (time.perf_counter() - began)
            grown = proc.memory_kib(pids, "RssAnon") - alone
            busy, cpu, began = proc.machine_busy_seconds(), proc.cpu_seconds(pids), time.time()
            client.go()
            result = json.loads(client.wait("done"))
            cpu = proc.cpu_seconds(pids) - cpu
            busy = proc.machine_busy_seconds() - busy - cpu - result["client_cpu_s"]
            result["other_cpus"] = round(max(0, busy) / (time.time() - began), 3)
            client.go()
            client.wait("verified")
        if running.process.poll() is not None:
            raise RuntimeError(f"{server.name} ended: {running.last_words()}")
    result.update({"idle_cpu_percent": idle_cpu * 100, "kib_per_listener": grown / count,
                   "cpu_us_each": cpu / result["operations"] * 1e6,
                   "p50_ms": result["p50_us"] / 1e3, "p99_ms": result["p99_us"] / 1e3})
    return result


def running(server, mode, loadgen, root, disk, pin):
    """What grants cost while many uploads run, and what progress costs by itself."""
    count, asked, seconds = mode.arguments
    with Granting(server, mode, root, disk) as behind, Running(behind.server, root, pin[0]) as one:
        address = f"127.0.0.1:{one.port}"
        pids = proc.tree(one.process.pid)

        def work(*words):
            with Client(loadgen, words, pin[1]) as client:
                client.wait("ready")
                client.go()
                result = json.loads(client.wait("done"))
                client.go()
                client.wait("verified")
            return result

        def ask():
            return work("asks", address, PATH, behind.key, 16, asked)

        def complete():
            return work("small", address, server.path, server.kind, 16, asked, PATH, behind.key)

        def spent():
            own = proc.cpu_seconds(pids)
            return own, sum(service.cpu_seconds() for service in behind.place.services)

        ask()  # what the first requests allocate stays
        behind.place.analyze()
        alone = ask()
        crowd = ["running", address, server.path, server.kind, count, PATH, behind.key]
        with Client(loadgen, crowd, pin[1]) as client:
            client.wait("ready")
            time.sleep(12)  # the first progress of each is written at once
            before, began = spent(), time.perf_counter()
            time.sleep(seconds)
            after, passed = spent(), time.perf_counter() - began
            within, completed = ask(), complete()
            client.go()
            client.wait("done")
            client.go()
        if one.process.poll() is not None:
            raise RuntimeError(f"{server.name} ended: {one.last_words()}")
    rate = within["operations"] / within["wall_s"]
    alone_rate = alone["operations"] / alone["wall_s"]
    return {"per_s": rate, "alone_per_s": alone_rate, "share": rate / alone_rate,
            "p99_ms": within["p99_us"] / 1e3, "alone_p99_ms": alone["p99_us"] / 1e3,
            "completed_p99_ms": completed["p99_us"] / 1e3,
            "own_cpu_percent": (after[0] - before[0]) / passed * 100,
            "behind_cpu_percent": (after[1] - before[1]) / passed * 100,
            "other_cpus": 0}
