"""Where a server keeps what it has to remember: a folder for SQLite, or a PostgreSQL."""

import os
import tempfile

from . import postgres, proc
from .servers import Missing


class Place:
    """A new one of a kind: `memory` and `disk` are folders, `postgres` a server; with None a server
    keeps it where it does by default.

    `root` is in memory, `disk` a folder on a disk, `pin` the processors of a server. `environment` tells start scripts of it.
    """

    def __init__(self, kind, root, disk=None, pin=None):
        self.services, self.folder, self.environment = [], None, {}
        if kind == "postgres":
            self.services.append(postgres.Postgres(root, pin))
            self.environment["BENCH_DATABASE"] = self.services[0].url
        elif kind:
            if kind == "disk":
                os.makedirs(disk, exist_ok=True)
            self.folder = tempfile.TemporaryDirectory(
                prefix="state-", dir=disk if kind == "disk" else root)
            self.environment["BENCH_STATE"] = self.folder.name

    def analyze(self):
        """Brings the statistics of its planner up to date, if it has any."""
        for one in self.services:
            one.analyze()

    def stop(self):
        """Ends and removes it."""
        for one in self.services:
            one.stop()
        if self.folder:
            self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def lacks(kind, disk):
    """What this machine lacks for a place of that kind, in words. `disk`: a folder that should be on
    one."""
    if kind == "disk" and proc.file_system(disk) in ("tmpfs", "ramfs"):
        return f"{disk} is in memory"
    try:
        if kind == "postgres":
            postgres.program("postgres")
    except Missing as why:
        return str(why)
    return None
