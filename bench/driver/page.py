"""The table of docs/benchmarks.md: tusd and Landfall, and Landfall as a multiple of each peer.

Each ratio is of medians of one run. The page must not compare figures of different machines, but for memory,
which does not depend on them: the bare loop and rustus have the same in both runs.
"""

import json
import os

from . import tables

BEGIN, END = "<!-- table: peers -->", "<!-- end: peers -->"
# Mode, key, label on the page.
ROWS = [
    ("big", "cpu_s_per_gib", "1 GiB in one request: processor seconds"),
    ("big", "mib_per_s", "1 GiB in one request: MiB/s"),
    ("browser", "cpu_s_per_gib", "1 GiB in requests of 2 MB: processor seconds"),
    ("small", "per_s", "small files: uploads per second"),
    ("small", "cpu_us_each", "small files: processor µs each"),
    ("small", "p50_us", "small files: median µs of a request"),
    ("small", "p99_us", "small files: 99th percentile, µs"),
    ("small-patch", "per_s", "small files in two requests: uploads per second"),
    ("head", "per_s", "HEAD (offset): requests per second"),
]
MEMORY = [
    ("slow", "kib_per_connection", "memory of a slow connection, KiB"),
    ("peak", "peak_kib", "peak memory, one upload of 4 GiB, MiB"),
    ("start", "idle_kib", "memory when idle, MiB"),
    ("size", "bytes", "size installed, MiB"),
]


def read(results, name):
    with open(os.path.join(results, f"{name}.json")) as file:
        return json.load(file)["rows"]


def table(results):
    """The table, from the results in this folder."""
    tusd, old = read(results, "peers-tusd"), read(results, "peers-tusd-memory")
    here, node, newest = (read(results, name) for name in ("peers", "peers-epyc", "peers-amd"))
    lines = []
    for mode, key, label in [*ROWS, *MEMORY]:
        one = tables.figure(mode, key)
        is_memory = (mode, key, label) in MEMORY
        theirs = one.median(old if is_memory else tusd, "tusd")
        ours = one.median(newest if mode == "size" else here if is_memory else tusd, "landfall")

        def ratio(rows, name):
            mine = ours if mode == "size" else one.median(rows, "landfall")
            other = one.median(rows, name)
            return f"{mine / other:.2f}" if other else "–"

        lines.append([label, one.show(theirs), one.show(ours), f"{ours / theirs:.2f}",
                      ratio(here, "rustus"), ratio(node, "node"), ratio(here, "nginx")])
    return tables.grid(["work", "tusd", "Landfall", "÷ tusd", "÷ rustus", "÷ @tus/server", "÷ nginx PUT"], lines)
