"""What a switch costs a server that makes no use of it."""

import http.client
import os
import statistics

from . import proc
from .servers import Running

STARTS = 5


def compare(plain, other, root, pin):
    """Starts each of two settings of a server in turn, and makes an upload: medians of the time to
    the first answer, of memory apart from the pages of the program, and of the files there are."""
    def once(one):
        with Running(one, root, pin[0]) as running:
            seen = {"start_ms": running.start_seconds * 1e3,
                    "own_kib": proc.memory_kib(proc.tree(running.process.pid), "RssAnon")}
            create(running.port, one.path)
            seen["files"] = sum(len(files) for _, _, files in os.walk(running.data))
        return seen

    without, switched = [], []
    for _ in range(STARTS):
        without.append(once(plain))
        switched.append(once(other))
    result = {}
    for key in ("start_ms", "own_kib", "files"):
        result[f"plain_{key}"] = statistics.median(one[key] for one in without)
        result[key] = statistics.median(one[key] for one in switched)
        result[f"added_{key}"] = result[key] - result[f"plain_{key}"]
    return result


def create(port, path):
    """Makes an upload that gets no bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, headers={"Tus-Resumable": "1.0.0", "Upload-Length": "1"})
        status = connection.getresponse().status
        if status != 201:
            raise RuntimeError(f"POST answered {status}, expected 201")
    finally:
        connection.close()
