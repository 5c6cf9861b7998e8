"""Hooks: the same work without one and with one, and events until the last has arrived."""

import http.client
import json
import os
import time

from .modes import Mode, Nothing, run_once
from .place import Place
from .servers import free_port
from .service import Service
from .starts import STARTS, compare as compare_starts

SILENCE = 10  # seconds without an event until those that are missing count as lost
TOLD = ("post-create", "post-finish")
UNORDERED = ("tusd",)  # promise no order of events
COMPARED = ("p50_us", "p99_us", "cpu_us_each", "per_s")


class HookMode(Mode):
    """One kind of work with hooks. `place`: where Landfall's events wait, if not where it keeps
    them by default: `disk` or `postgres`; then no other server takes part, and the work without
    hooks isn't measured again."""

    def __init__(self, name, title, work, arguments, events, place=None, rounds=None):
        super().__init__(name, title, work, arguments, rounds)
        self.events, self.place = events, place


def modes(quick=False):
    """All kinds of work, at full size or small enough for a smoke test."""
    asked, crowd, told = (400, 800, 400) if quick else (5_000, 8_000, 6_000)
    small = f"{told:,} uploads of 1 to 64 KiB (log-uniform), 16 connections, post-create and post-finish"
    return {mode.name: mode for mode in [
        HookMode("hooks-create", f"{asked:,} creations without bytes, one connection; a pre-create "
                 "hook", "creations", [1, asked], ["pre-create"]),
        HookMode("hooks-crowd", f"{crowd:,} creations without bytes, 16 connections; a pre-create "
                 "hook", "creations", [16, crowd], ["pre-create"]),
        HookMode("hooks-told", f"{small} of each told", "small", [16, told], TOLD),
        HookMode("hooks-disk", f"{small} of each told, the outbox (SQLite) on a disk", "small",
                 [16, told], TOLD, "disk"),
        HookMode("hooks-postgres", f"{small} of each told, the outbox in PostgreSQL", "small",
                 [16, told], TOLD, "postgres"),
        HookMode("hooks-start", f"{STARTS} starts and creations; a pre-create hook, and nobody who "
                 "is told", "start", [], ["pre-create"]),
    ]}


def takes_part(server, mode):
    """Only Landfall has an outbox to choose the place of."""
    return not mode.place or server.name == "landfall"


class Receiver(Service):
    """The application behind hooks: `loadgen receiver`."""

    def __init__(self, loadgen, root, pin=None):
        super().__init__("receiver", root, pin)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/hooks"
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            self.launch([loadgen, "receiver", str(port)], dict(os.environ), self.counts)
        except BaseException:
            self.stop()
            raise

    def counts(self):
        """What came so far: see `arrivals.rs`."""
        try:
            self.connection.request("GET", "/")
            with self.connection.getresponse() as answer:
                return json.load(answer)
        except OSError:
            self.connection.close()  # the next try connects again
            raise

    def stop(self):
        self.connection.close()
        super().stop()


class Application(Nothing):
    """What is behind a server with hooks: a new receiver, and where the outbox is, if the mode
    says so. `disk` is a folder on a disk."""

    def __init__(self, server, mode, loadgen, root, disk=None, pin=None):
        super().__init__(server)
        self.mode, self.place = mode, None
        self.told = [event for event in mode.events if event.startswith("post-")]
        self.receiver = Receiver(loadgen, root, pin)
        self.services = [self.receiver]
        try:
            environment = {name: value for name, value in server.environment.items()
                           if not name.lower().endswith("_proxy")}
            environment.update(BENCH_HOOK_URL=self.receiver.url,
                               BENCH_HOOK_EVENTS=",".join(mode.events))
            self.place = Place(mode.place, root, disk)
            self.services += self.place.services
            environment.update(self.place.environment)
            self.server = server.within(environment)
        except BaseException:
            self.__exit__()
            raise

    def begin(self, pids, made):
        self.wait_for(made)
        self.cpu = [one.cpu_seconds() for one in self.services]
        self.made, self.began = made, time.perf_counter()

    def settle(self, made):
        answered = time.perf_counter()
        latest = self.wait_for(made)
        self.figures = {}
        if self.told:
            events = len(self.told) * (made - self.made)
            self.figures = {"events": events, "events_per_s": events / (latest - self.began),
                            "behind_ms": max(0.0, latest - answered) * 1e3}
        self.made = made

    def end(self, pids):
        cpu = sum(one.cpu_seconds() - before for one, before in zip(self.services, self.cpu))
        return dict(self.figures, behind_cpu_s=round(cpu, 6)), cpu

    def after(self):
        """Nothing came that nobody was to be asked or told, or in any other way than promised."""
        counts = self.receiver.counts()
        wanted = {name: self.made for name in self.mode.events}
        wrong = counts["fault"]
        if counts["first"] != wanted:
            wrong = wrong or f"{counts['first']} came to the hook, not {wanted}"
        if self.server.name not in UNORDERED:
            wrong = wrong or counts["disorder"]
        if wrong:
            raise RuntimeError(f"hook: {wrong}")
        return {key: counts[key] for key in ("repeated", "disordered")}

    def wait_for(self, made):
        """Waits until each event of so many uploads has come; the moment when the last one did."""
        began = time.perf_counter()
        while True:
            counts = self.receiver.counts()
            now = time.perf_counter()
            latest = began if counts["quiet_us"] is None else now - counts["quiet_us"] / 1e6
            missing = {name: made - counts["first"].get(name, 0) for name in self.told}
            if all(count <= 0 for count in missing.values()):
                return latest
            if now - max(began, latest) > SILENCE:
                lost = ", ".join(f"{count} {name}" for name, count in missing.items() if count > 0)
                raise RuntimeError(f"hook: {lost} never came")
            time.sleep(0.01)

    def __exit__(self, *_):
        self.receiver.stop()
        if self.place:
            self.place.stop()


def measure(server, mode, loadgen, root, disk, pin=(None, None)):
    """One run of one kind of work; RuntimeError when anything comes out wrong."""
    def behind(one):
        return Application(one, mode, loadgen, root, disk, pin[1])

    if mode.work == "start":
        return starts(server, root, pin, behind)
    without = None if mode.place else run_once(server, mode, loadgen, root, pin)
    result = run_once(server, mode, loadgen, root, pin, behind=behind)
    if without:
        compare(result, without)
    return result


def compare(result, without):
    """Adds what it was without hooks, and what they added."""
    for key in COMPARED:
        result[f"plain_{key}"] = without[key]
        result[f"added_{key}"] = result[key] - without[key]
    result["other_cpus"] = max(result["other_cpus"], without["other_cpus"])


def starts(server, root, pin, behind):
    """Without hooks and with one that is told nothing."""
    with behind(server) as application:
        result = compare_starts(server, application.server, root, pin)
        asked = application.receiver.counts()["first"]
        if asked != {"pre-create": STARTS}:
            raise RuntimeError(f"hook: {asked} came, not {STARTS} pre-create")
    return result
