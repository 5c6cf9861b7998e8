"""Uploads straight to S3: requests that are signed, by Landfall and by Companion."""

from .direct_figures import CROWDS, WHAT
from .garage import Garage
from .grant_figures import PLACES
from .grants import key
from .modes import Mode, Nothing, run_once
from .place import Place

SIZE = 1 << 10  # bytes of what is really uploaded, as the load generator has it
WARM = 3_200  # requests that don't count: Node compiles what it runs often


class SignMode(Mode):
    """One kind of work with signed requests. `place` is where Landfall keeps its queue. Who is slower
    gets a `share` of the requests, to be done in about the time. `alone`: nobody else can, or does
    anything that depends on the place."""

    def __init__(self, name, title, work, place, count, share=1, alone=False):
        super().__init__(name, title, work, [count])
        self.place, self.share, self.alone = place, share, alone
        self.crowds = CROWDS if work != "multiparts" else {"": CROWDS[""]}

    def counted(self, server):
        """How many requests, and how many before them that don't count."""
        count = self.arguments[0] // (1 if server.name == "landfall" else self.share)
        return count, min(count // 2, WARM)


def modes(quick=False):
    """All kinds of work, at full size or small enough for a smoke test."""
    parts, batches, rows, whole = (6_400, 1_280, 640, 128) if quick else (64_000, 12_800, 12_800, 1_280)
    slower = (lambda share: 1) if quick else (lambda share: share)
    begun = "each of a multipart upload of its connection"
    return {mode.name: mode for mode in [
        SignMode("direct-part", f"{parts:,} URLs of parts, one by one, {begun}", "sign-part",
                 "memory", parts, slower(20)),
        SignMode("direct-batch", f"{batches:,} batches of ten URLs of parts, {begun}", "sign-batch",
                 "memory", batches, slower(20)),
        *(SignMode(f"direct-{kind}-{where}", f"{rows:,} times {name}; {words}", f"sign-{kind}", where,
                   rows, slower(10), kind == "put" or where != "memory")
          for kind, name in WHAT.items() for where, words in PLACES.items()),
        SignMode("direct-multipart", f"{whole:,} uploads of 1 KiB from beginning to end: begun, a part "
                 "signed and uploaded, completed", "multiparts", "memory", whole, slower(2)),
    ]}


def takes_part(server, mode):
    """Companion knows nothing of `sign_s3`, and keeps nothing in any place."""
    return server.name != "companion" or not mode.alone


class Bucket(Nothing):
    """What is behind a server that signs: a fresh Garage, and where it keeps what it has to remember."""

    def __init__(self, server, mode, connections, root, disk, pin):
        super().__init__(server)
        self.connections = connections
        self.garage, self.place = Garage(root, pin), None
        try:
            self.place = Place(mode.place, root, disk, pin)
            self.server = server.within(
                dict(self.garage.environment(server.environment), **self.place.environment))
            self.key = key(self.server)
        except BaseException:
            self.__exit__()
            raise
        self.services = [self.garage, *self.place.services]
        count, warm = mode.counted(server)
        self.told = [connections, count, warm]
        self.wanted = count + warm if mode.work == "multiparts" else connections

    def arguments(self, mode, address):
        return [mode.work, address, self.key, *self.told]

    def begin(self, pids, made):
        self.cpu = [one.cpu_seconds() for one in self.services]

    def end(self, pids):
        spent = sum(one.cpu_seconds() - before for one, before in zip(self.services, self.cpu))
        return {"behind_cpu_s": round(spent, 6)}, spent

    def after(self):
        """What was uploaded with the last signatures is in the bucket, and nothing else."""
        kept = self.garage.settled()
        found = (kept["objects"], kept["bytes"], kept["unfinishedMultipartUploads"])
        if found != (self.wanted, self.wanted * SIZE, 0):
            raise RuntimeError("objects, bytes and unfinished multipart uploads in the bucket are "
                               f"{found}, not {(self.wanted, self.wanted * SIZE, 0)}")
        return {}

    def __exit__(self, *_):
        self.garage.stop()
        if self.place:
            self.place.stop()


def measure(server, mode, loadgen, root, disk, pin=(None, None)):
    """One run of one kind of work, with each number of connections on a new server; RuntimeError when
    anything comes out wrong."""
    result = {"other_cpus": 0}
    for which, connections in mode.crowds.items():
        run = run_once(server, mode, loadgen, root, pin, behind=lambda one: Bucket(
            one, mode, connections, root, disk, pin[1]))
        run["client_cpus"] = run["client_cpu_s"] / run["wall_s"]
        run["resident_mib"] = (run["resident_kib"] + run["resident_growth_kib"]) / 1024
        result["other_cpus"] = max(result["other_cpus"], run.pop("other_cpus"))
        resident = max(result.get("resident_mib", 0), run.pop("resident_mib"))
        result |= {which + figure: value for figure, value in run.items()}
        result["resident_mib"] = resident
    return result
