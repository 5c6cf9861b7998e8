"""Medians, ratios, and the Markdown that goes into bench/results.md."""

import statistics

from .crowds import FIGURES as CROWD_FIGURES, SHORT as CROWD_SHORT
from .direct_figures import FIGURES as DIRECT_FIGURES, SHORT as DIRECT_SHORT
from .figure import REQUEST, Figure
from .grant_figures import FIGURES as GRANT_FIGURES, SHORT as GRANT_SHORT

MIB = 1 << 20
FIGURES = [
    Figure("big", "cpu_s_per_gib", "CPU-s per GiB", "{:.3f}"),
    Figure("big", "mib_per_s", "MiB/s", "{:,.0f}", high=True),
    Figure("four", "cpu_s_per_gib", "CPU-s per GiB", "{:.3f}"),
    Figure("four", "mib_per_s", "MiB/s", "{:,.0f}", high=True),
    Figure("browser", "cpu_s_per_gib", "CPU-s per GiB", "{:.3f}"),
    Figure("browser", "mib_per_s", "MiB/s", "{:,.0f}", high=True),
    Figure("small", "per_s", "per second", "{:,.0f}", high=True),
    Figure("small", "cpu_us_each", "CPU µs each", "{:.0f}"),
    Figure("small", "kernel_us_each", "of it in the kernel", "{:.0f}"),
    Figure("small", "p50_us", "p50 µs", "{:,.0f}"),
    Figure("small", "p99_us", "p99 µs", "{:,.0f}"),
    Figure("small-patch", "per_s", "per second", "{:,.0f}", high=True),
    Figure("small-patch", "cpu_us_each", "CPU µs each", "{:.0f}"),
    Figure("small-patch", "kernel_us_each", "of it in the kernel", "{:.0f}"),
    Figure("small-patch", "p50_us", "p50 µs", "{:,.0f}"),
    Figure("small-patch", "p99_us", "p99 µs", "{:,.0f}"),
    Figure("head", "per_s", "per second", "{:,.0f}", high=True),
    Figure("head", "cpu_us_each", "CPU µs each", "{:.1f}"),
    Figure("head", "kernel_us_each", "of it in the kernel", "{:.1f}"),
    Figure("head", "p99_us", "p99 µs", "{:,.0f}"),
    Figure("slow", "kib_per_connection", "resident KiB each", "{:.1f}"),
    Figure("idle", "kib_per_connection", "resident KiB each", "{:.1f}"),
    Figure("peak", "peak_kib", "peak MiB", "{:,.1f}", scale=1 / 1024),
    Figure("start", "start_ms", "ms to the first answer", "{:.1f}"),
    Figure("start", "idle_kib", "idle MiB resident", "{:.1f}", scale=1 / 1024),
    Figure("size", "bytes", "MiB installed", "{:.1f}", scale=1 / MIB),
    *(Figure(mode, *rest) for mode in ("s3-big", "s3-four", "s3-browser") for rest in [
        ("mib_per_s", "MiB/s", "{:,.0f}", True),
        ("cpu_s_per_gib", "CPU-s per GiB", "{:.3f}"),
        ("behind_cpu_s_per_gib", "CPU-s per GiB of Garage (and Redis)", "{:.2f}"),
        ("peak_kib", "peak MiB", "{:,.0f}", False, 1 / 1024),
        ("calls_per_gib", "S3 calls per GiB", "{:,.0f}"),
        ("calls_per_patch", "S3 calls per PATCH", "{:.2f}"),
    ] if mode == "s3-browser" or rest[0] != "calls_per_patch"),
    *(Figure(mode, *rest) for mode in ("clouds-big", "clouds-four", "clouds-browser") for rest in [
        ("mib_per_s", "MiB/s", "{:,.0f}", True),
        ("cpu_s_per_gib", "CPU-s per GiB", "{:.3f}"),
        ("behind_cpu_s_per_gib", "CPU-s per GiB of the service", "{:.2f}"),
        ("peak_kib", "peak MiB", "{:,.0f}", False, 1 / 1024),
        ("calls_per_gib", "calls per GiB", "{:,.0f}"),
        ("objects_per_gib", "most objects at once per GiB", "{:,.0f}"),
    ] if mode == "clouds-browser" or rest[0] != "objects_per_gib"),
    Figure("s3-files", "written_mib_per_gib", "MiB written to disk per GiB", "{:,.1f}"),
    Figure("s3-files", "objects_per_upload", "objects kept per upload", "{:.1f}"),
    Figure("s3-files", "multiparts_left", "unfinished multipart uploads left", "{:.0f}"),
    *(Figure("hooks-create", f"{which}{key}", f"{unit}, {label}", "{:,.0f}")
      for key, unit in REQUEST[1:]
      for which, label in [("plain_", "no hook"), ("", "a hook"), ("added_", "added")]),
    *(Figure("hooks-crowd", f"{which}per_s", f"per second, {label}", "{:,.0f}", high=True)
      for which, label in [("plain_", "no hook"), ("", "a hook")]),
    *(Figure("hooks-told", f"{which}{key}", f"{unit}, {label}", "{:,.0f}", key == "per_s")
      for key, unit in REQUEST for which, label in [("plain_", "none told"), ("", "told")]),
    *(Figure(mode, key, unit, "{:,.0f}", key.endswith("per_s"))
      for mode in ("hooks-told", "hooks-disk", "hooks-postgres")
      for key, unit in [*(REQUEST if mode != "hooks-told" else ()),
                        ("events_per_s", "events per second"),
                        ("behind_ms", "ms from the last answer to the last event")]),
    Figure("hooks-told", "disordered", "events out of order", "{:,.0f}"),
    *(Figure("hooks-start", f"{which}own_kib", f"own KiB resident when idle, {label}", "{:,.0f}")
      for which, label in [("plain_", "no hook"), ("", "a hook"), ("added_", "added")]),
    Figure("hooks-start", "plain_start_ms", "ms to the first answer, no hook", "{:.1f}"),
    Figure("hooks-start", "start_ms", "ms to the first answer, a hook", "{:.1f}"),
    Figure("hooks-start", "added_files", "files made because of it", "{:.0f}"),
    *GRANT_FIGURES,
    *DIRECT_FIGURES,
    *CROWD_FIGURES,
]
SHORT = {
    "big": "one big PATCH", "four": "four at once", "browser": "PATCHes of 2,000,000 bytes",
    "small": "small uploads", "small-patch": "small uploads, POST + PATCH", "head": "HEAD",
    "slow": "slow connections", "idle": "idle connections",
    "peak": "peak memory", "start": "start", "size": "size",
    "s3-big": "one big PATCH", "s3-four": "four at once",
    "s3-browser": "PATCHes of 2,000,000 bytes", "s3-files": "local files",
    "clouds-big": "one big PATCH", "clouds-four": "four at once",
    "clouds-browser": "PATCHes of 2,000,000 bytes",
    "hooks-create": "one creation after the other", "hooks-crowd": "creations, 16 at once",
    "hooks-told": "small uploads and events", "hooks-disk": "outbox on a disk",
    "hooks-postgres": "outbox in PostgreSQL", "hooks-start": "a hook without events",
    **GRANT_SHORT,
    **DIRECT_SHORT,
    **CROWD_SHORT,
}
# Counts that should be 0, and what only Landfall does: nothing to divide by.
NO_RATIOS = ("s3-files", "hooks-disk", "hooks-postgres", "hooks-start", *CROWD_SHORT)


def section(run):
    """The section of bench/results.md that a run belongs to."""
    if any(mode.startswith("hooks-") for mode in run["modes"]):
        return "hooks"
    if any(mode.startswith("grants-") for mode in run["modes"]):
        return "grants"
    if any(mode.startswith("direct-") for mode in run["modes"]):
        return "direct"
    if any(mode.startswith("clouds-") for mode in run["modes"]):
        return "clouds"
    if any(mode.startswith("crowd-") for mode in run["modes"]):
        return "crowds"
    if "bare-memory" in run["servers"]:
        return "layers"
    return "disk" if "sync" in run else "s3" if "behind" in run else "peers"


def figure(mode, key):
    """The figure of that name."""
    return next(one for one in FIGURES if (one.mode, one.key) == (mode, key))


def shown(run):
    """The figures that this run measured, or failed to, in order."""
    tried = {entry["mode"] for entry in run["rows"] + run["faults"]}
    return [one for one in FIGURES if one.mode in tried]


def stated(run):
    """The medians of Landfall by the labels of the tables."""
    return {f"{SHORT[one.mode]}: {one.label}": one.median(run["rows"], "landfall") for one in shown(run)}


def grid(header, rows):
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def peers(run):
    """All that is to be said of a side-by-side run."""
    return "\n".join([about(run), "", *beside(run, shown(run)), *what(run)]) + "\n"


def beside(run, figures):
    """The figures of each server, and the ratios, as lines."""
    names = list(run["servers"])
    titles = {name: run["servers"][name]["title"] for name in names}
    missing = [name for name in names if run["servers"][name].get("missing")]
    failed = {(fault["server"], fault["mode"]) for fault in run["faults"]}

    def cell(one, name):
        if name in missing:
            return "missing"
        if (name, one.mode) in failed:
            return "failed"
        value = one.median(run["rows"], name)
        return "–" if value is None else one.show(value)

    def ratio(one, name):
        if name in missing:
            return "missing"
        mine, other = one.median(run["rows"], subject), one.median(run["rows"], name)
        return f"{mine / other:.2f}" if mine is not None and other else "–"

    subject = next((name for name in names if name not in missing), names[0])
    others = [name for name in names if name != subject]
    label = lambda one: f"{SHORT[one.mode]}: {one.label}"
    text = [grid(["median", *titles.values()],
                 [[label(one), *(cell(one, name) for name in names)] for one in figures]), ""]
    text += [f"{titles[subject]} as a multiple of each (ratio of medians; ↓ lower is better, ↑ "
             "higher is better):", ""]
    text += [grid(["ratio", *(f"÷ {titles[name]}" for name in others)],
                  [[f"{label(one)} {'↑' if one.high else '↓'}",
                    *(ratio(one, name) for name in others)] for one in figures
                   if one.mode not in NO_RATIOS]), ""]
    return text


def what(run):
    """Workloads, servers, and what went wrong, as lines."""
    titles = {name: one["title"] for name, one in run["servers"].items()}
    text = ["Workloads:", ""]
    text += [f"- {SHORT[mode]}: {title}" for mode, title in run["modes"].items()]
    two = sorted({titles[row["server"]] for row in run["rows"]
                  if not row.get("one_request_each", True)
                  and row["mode"] in ("small", "hooks-told")})
    text += [f"- a small upload was two requests with {', '.join(two)}"] if two else []
    text += ["", "Servers:", ""]
    text += [f"- {one['title']}: " + (f"**missing** ({one['missing']})" if one.get("missing")
                                      else one["version"]) for one in run["servers"].values()]
    return text + faults(run)


def disk(run):
    """All that is to be said of a run on a disk."""
    kinds = list(run["servers"])
    failed = {(fault["server"], fault["mode"]) for fault in run["faults"]}

    def cell(one, kind):
        if (kind, one.mode) in failed:
            return "failed"
        value, base = one.median(run["rows"], kind), one.median(run["rows"], kinds[0])
        if value is None:
            return "–"
        return one.show(value) + (f" ({value / base:.2f} ×)" if base and kind != kinds[0] else "")

    rows = [[f"{SHORT[one.mode]}: {one.label}", *(cell(one, kind) for kind in kinds)]
            for one in shown(run)]
    sync = run["sync"]
    text = [about(run), "", grid(["median (× `none`)", *(f"`{kind}`" for kind in kinds)], rows), ""]
    text += [f"The disk itself: a new file of 4 KiB, synced, and its folder synced, one after the "
             f"other: median {sync['p50_us']:,.0f} µs, 99th percentile {sync['p99_us']:,.0f} µs "
             f"({sync['count']} times).", "", "Workloads:", ""]
    text += [f"- {SHORT[mode]}: {what}" for mode, what in run["modes"].items()]
    text += faults(run)
    return "\n".join(text) + "\n"


def about(run):
    """One sentence on machine and method."""
    machine = run["machine"]
    others = [row["other_cpus"] for row in run["rows"] if "other_cpus" in row] or [0]
    pinned = f"server and client on processors {run['pin']}" if run["pin"] else \
        "server and client share them"
    if section(run) == "hooks":
        pinned += ", the receiver with the client" if run["pin"] else " with the receiver"
    if section(run) == "direct":
        pinned += ", services with the client" if run["pin"] else " with the services"
    behind = f"on {run['behind']}, which shares them too, its " if "behind" in run else ""
    commit = f"Landfall at commit {run['commit']}, " if run.get("commit") else ""
    return (f"{run['date']}, {commit}{machine['processors']} processors ({machine['processor']}), {pinned}, "
            f"Linux {machine['kernel']}, {behind}data on {machine['file_system']}, "
            f"{run['rounds']} interleaved round{'s' if run['rounds'] != 1 else ''}. "
            f"Processors busy with anything else meanwhile: median "
            f"{statistics.median(others):.2f}, most {max(others):.2f}.")


def faults(run):
    """What went wrong, if anything."""
    if not run["faults"]:
        return []
    return ["", "Failed:", ""] + [
        f"- {fault['server']}, {fault['mode']}: {fault['reason']}" for fault in run["faults"]]
