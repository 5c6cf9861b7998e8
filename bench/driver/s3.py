"""The work on S3: the same uploads through a server, or by a program that only copies a file."""

from . import proc
from .copier import copy_once
from .garage import Garage
from .modes import BROWSER_CHUNK, GIB, MIB, Mode, Nothing, run_once, show_bytes
from .servers import Missing


def modes(quick=False):
    """All kinds of work, at full size or small enough for a smoke test."""
    big, four, browser, files = GIB, 256 * MIB, 256 * MIB, 128 * MIB
    if quick:
        big, four, browser, files = 64 * MIB, 32 * MIB, 32 * MIB, 32 * MIB
    return {mode.name: mode for mode in [
        Mode("s3-big", f"{show_bytes(big)} in one PATCH; copied in parts of 8 MiB, 10 at once",
             "stream", [1, big, big], memory=4 * big),
        Mode("s3-four", f"one PATCH of {show_bytes(four)} on each of 4 connections; copied by 4 "
             "processes", "stream", [4, four, four], rounds=2, memory=16 * four),
        Mode("s3-browser", f"an upload of {show_bytes(browser)}, one connection", "stream",
             [1, browser, BROWSER_CHUNK], rounds=2, memory=4 * browser),
        Mode("s3-files", f"an upload of {show_bytes(files)} in PATCHes of 2,000,000 bytes, with the "
             "folder for temporary files on a disk", "stream", [1, files, BROWSER_CHUNK], rounds=1,
             memory=4 * files),
    ]}


def takes_part(server, mode):
    """A copier can only copy, and only a server is asked what it writes."""
    return server.kind != "copier" or mode.name in ("s3-big", "s3-four")


class Bucket(Nothing):
    """What is behind a server on S3: a fresh Garage, and the `redis` of the run, if it wants one.

    `disk`: a folder on a disk, for temporary files; then what is written to disk is a figure. By
    default they go to where the data is, in memory.
    """

    def __init__(self, server, root, uploads, redis=None, disk=None):
        self.garage = Garage(root)
        self.services = [self.garage]
        self.uploads, self.disk = uploads, disk
        try:
            environment = self.garage.environment(server.environment)
            environment["TMPDIR"] = disk or self.garage.folder
            if server.name == "landfall-redis":
                self.services.append(redis)
                environment["REDIS_URL"] = redis.url
            self.server = server.within(environment)
        except BaseException:
            self.garage.stop()
            raise

    def begin(self, pids, made):
        self.written = proc.written(pids)
        self.calls = self.garage.calls()
        self.cpu = [one.cpu_seconds() for one in self.services]

    def end(self, pids):
        cpu = [one.cpu_seconds() - before for one, before in zip(self.services, self.cpu)]
        figures = {"behind_cpu_s": round(sum(cpu), 6),
                   "calls": self.garage.calls_since(self.calls)}
        if self.disk:
            figures["written"] = proc.written(pids) - self.written
        return figures, sum(cpu)

    def after(self):
        """What is in the bucket, per upload, and multiparts without end."""
        kept = self.garage.settled()
        return {"objects_per_upload": kept["objects"] / self.uploads,
                "multiparts_left": kept["unfinishedMultipartUploads"]}

    def __exit__(self, *_):
        self.garage.stop()


def measure(server, mode, loadgen, root, disk, redis=None, pin=(None, None)):
    """One run of one kind of work; RuntimeError when anything comes out wrong."""
    if server.kind == "copier":
        result = copy_once(server, mode, loadgen, root, pin[1])
    else:
        if mode.name != "s3-files":
            disk = None
        elif proc.file_system(disk) in ("tmpfs", "ramfs"):
            raise Missing(f"{disk} is in memory: what is written there can't be counted")
        uploads = mode.arguments[0] + 1  # and the one to warm up
        result = run_once(server, mode, loadgen, root, pin,
                          behind=lambda one: Bucket(one, root, uploads, redis, disk))
    derive(result, mode)
    return result


def derive(result, mode):
    """Adds the figures that the tables show, but those that every stream has."""
    gib = result["bytes"] / GIB
    result["behind_cpu_s_per_gib"] = result["behind_cpu_s"] / gib
    result["calls_per_gib"] = sum(result["calls"].values()) / gib
    if mode.arguments[2] < mode.arguments[1]:
        result["calls_per_patch"] = sum(result["calls"].values()) / result["operations"]
    if "written" in result:
        result["written_mib_per_gib"] = result["written"] / MIB / gib
