"""Where Landfall must get and where it aims to get, held against a run."""

from .direct_figures import CROWDS
from .grant_figures import ASKED
from .tables import FIGURES, SHORT, figure, grid, section

COPIERS = ("aws", "rclone")  # the faster one is the ceiling
S3_MEMORY = 256  # MiB: the default of --max-buffered-bytes
S3_ROOM = 64  # MiB beside it
PAGE_MS = 50  # for a page of anything, with a million rows in the queue
# nginx keeps no offsets and can't resume: a bound to aim at, not a peer to be below.
NOT_PEERS = ("landfall", "bare-loop", "nginx")


def check(run):
    """The table of targets, and whether each "must" was measured and met."""
    rows, met = [], True
    for name, must, aim, judge in OF_SECTION[section(run)]:
        try:
            measured, must_met, aim_met = judge(run)
        except LookupError as missing:
            measured, must_met, aim_met = f"not measured: {missing.args[0]}", False, None
        verdict = "no" if not must_met else "yes" if aim_met is None else \
            "yes, and the aim" if aim_met else "yes, not the aim"
        rows.append([name, must, aim or "–", measured, verdict])
        met = met and must_met
    return grid(["work", "must", "aim", "measured", "met"], rows) + "\n", met


def value(run, mode, key, server):
    """A median; LookupError if there is none, or if the server did that work wrongly."""
    if any((fault["server"], fault["mode"]) == (server, mode) for fault in run["faults"]):
        raise LookupError(f"{server} failed at {mode}")
    found = figure(mode, key).median(run["rows"], server)
    if found is None:
        raise LookupError(f"{mode} of {server}")
    return found


def name_of(server):
    """As the targets are written: `bare loop`."""
    return server.replace("-", " ")


def against(mode, key, server, must, aim=None):
    """A target as a multiple of one server's median."""
    one = figure(mode, key)

    def judge(run):
        mine = value(run, mode, key, "landfall")
        ratio = mine / value(run, mode, key, server)
        good = (lambda want: ratio >= want) if one.high else (lambda want: ratio <= want)
        return f"{one.show(mine)}: {ratio:.2f} × {name_of(server)}", good(must), aim and good(aim)

    return judge


def below_every_peer(mode, key, aim=None):
    """Below each tus server that was measured; the aim is a multiple of the bare loop."""
    one = figure(mode, key)

    def judge(run):
        mine = value(run, mode, key, "landfall")
        peers = {}
        for name, server in run["servers"].items():
            # A peer that wasn't there can't be beaten; its absence is said in the text.
            if name not in NOT_PEERS and not server.get("missing"):
                peers[name] = value(run, mode, key, name)
        if not peers:
            raise LookupError("no peer is here")
        text = f"{one.show(mine)}; " + ", ".join(f"{name} {one.show(peers[name])}" for name in peers)
        absent = [name for name in run["servers"] if run["servers"][name].get("missing")]
        text += f" (missing: {', '.join(absent)})" if absent else ""
        aim_met = None
        if aim:
            ratio = mine / value(run, mode, key, "bare-loop")
            text += f"; {ratio:.2f} × bare loop"
            aim_met = ratio <= aim
        return text, mine < min(peers.values()), aim_met

    return judge


def at_most(mode, key, must, aim=None):
    """An absolute target."""
    one = figure(mode, key)

    def judge(run):
        mine = value(run, mode, key, "landfall")
        return one.show(mine), mine <= must, aim and mine <= aim

    return judge


def at_least(mode, key, must, aim=None):
    """The same, where more is better."""
    one = figure(mode, key)

    def judge(run):
        mine = value(run, mode, key, "landfall")
        return one.show(mine), mine >= must, aim and mine >= aim

    return judge


def no_more_than_others(mode, key, must):
    """An absolute target that also holds against each other server that was measured."""
    one = figure(mode, key)

    def judge(run):
        mine, text, good = value(run, mode, key, "landfall"), [], True
        for name in run["servers"]:
            if name != "landfall":
                # One that isn't here can't be held against; its absence is said in the text.
                if run["servers"][name].get("missing"):
                    text.append(f"{name} missing")
                    continue
                other = value(run, mode, key, name)
                text.append(f"{name} {one.show(other)}")
                good = good and mine <= other
        return "; ".join([one.show(mine), *text]), good and mine <= must, None

    return judge


def share_of_ceiling(mode, must):
    """A share of the MiB/s of the fastest copier."""
    one = figure(mode, "mib_per_s")

    def judge(run):
        mine, ceilings = value(run, mode, "mib_per_s", "landfall"), {}
        for name in COPIERS:
            if name in run["servers"] and not run["servers"][name].get("missing"):
                ceilings[name] = value(run, mode, "mib_per_s", name)
        if not ceilings:
            raise LookupError("no copier is here")
        best = max(ceilings, key=ceilings.get)
        text = f"{one.show(mine)}: {mine / ceilings[best]:.2f} × {best}"
        absent = [name for name in COPIERS if name not in ceilings]
        text += f" (missing: {', '.join(absent)})" if absent else ""
        return text, mine / ceilings[best] >= must, None

    return judge


def never_above(key, must):
    """What no run of any kind of work on S3 may exceed, in whichever way leases are kept."""

    def judge(run):
        for server in ("landfall", "landfall-redis"):
            for mode in {fault["mode"] for fault in run["faults"] if fault["server"] == server}:
                raise LookupError(f"{server} failed at {mode}")
        found = [(row[key] * figure(row["mode"], key).scale, row) for row in run["rows"]
                 if row["server"].startswith("landfall") and key in row
                 and any((one.mode, one.key) == (row["mode"], key) for one in FIGURES)]
        if not found:
            raise LookupError(key)
        most, row = max(found, key=lambda one: one[0])
        return f"{figure(row['mode'], key).show(most)} ({SHORT[row['mode']]})", most <= must, None

    return judge


def many_times(mode, key, server, must, aim):
    """A multiple of one server's median; the aim is absolute."""
    one = figure(mode, key)

    def judge(run):
        mine = value(run, mode, key, "landfall")
        ratio = mine / value(run, mode, key, server)
        return f"{one.show(mine)}: {ratio:.1f} × {server}", ratio >= must, mine >= aim

    return judge


def added_against_by_hand(where, must, aim):
    """What a token adds to a creation, as a multiple of a grant that is written by hand. A check of
    tokens by hand would be two such requests: whether it is good, and that the upload has begun."""
    def judge(run):
        added = value(run, f"grants-create-{where}", "added_p50_us", "landfall")
        ratio = added / value(run, f"grants-ask-{where}", "one_p50_us", "fastapi")
        return f"{added:,.0f}: {ratio:.2f} × fastapi", ratio <= must, ratio <= aim

    return judge


def never_slower(mode, must):
    """What no kind of request may exceed."""
    def judge(run):
        slowest = {label: value(run, mode, f"{key}_p99_ms", "landfall") for key, label in ASKED}
        label = max(slowest, key=slowest.get)
        return f"{slowest[label]:.1f} ({label})", slowest[label] <= must, None

    return judge


def beside_s3(mode, key, server, must):
    """A multiple of what the same takes on S3."""
    one = figure(mode, key)

    def judge(run):
        mine, ours = value(run, mode, key, server), value(run, mode, key, "landfall-s3")
        return f"{one.show(mine)}: {mine / ours:.2f} × S3", mine / ours <= must, None

    return judge


def of_server(mode, key, server, must):
    """An absolute target of one server."""
    one = figure(mode, key)

    def judge(run):
        mine = value(run, mode, key, server)
        return one.show(mine), mine <= must, None

    return judge


S3_TARGETS = [
    ("one big PATCH, MiB/s", "≥ 0.85 × ceiling", None, share_of_ceiling("s3-big", 0.85)),
    *((f"{SHORT[mode]}, CPU-s per GiB", "≤ 0.5 × @tus/s3-store", None,
       against(mode, "cpu_s_per_gib", "node", 0.5)) for mode in ("s3-big", "s3-four", "s3-browser")),
    ("peak MiB, most of all runs", f"≤ {S3_MEMORY + S3_ROOM}", None,
     never_above("peak_kib", S3_MEMORY + S3_ROOM)),
    ("MiB written to disk per GiB", "0", None, never_above("written_mib_per_gib", 0)),
    ("unfinished multipart uploads left", "0", None, never_above("multiparts_left", 0)),
]
TARGETS = [
    ("one big PATCH, CPU-s per GiB", "≤ 0.85 × bare loop", "≤ 0.6 × bare loop",
     against("big", "cpu_s_per_gib", "bare-loop", 0.85, 0.6)),
    ("four at once, CPU-s per GiB", "≤ 0.95 × bare loop", "≤ 0.75 × bare loop",
     against("four", "cpu_s_per_gib", "bare-loop", 0.95, 0.75)),
    ("2,000,000-byte PATCHes, CPU-s per GiB", "≤ 0.97 × bare loop", "≤ 0.9 × bare loop",
     against("browser", "cpu_s_per_gib", "bare-loop", 0.97, 0.9)),
    ("2,000,000-byte PATCHes, and peers", "below every peer", None, below_every_peer("browser", "cpu_s_per_gib")),
    ("small uploads per second", "≥ 1.15 × nginx", "≥ 1.3 × nginx", against("small", "per_s", "nginx", 1.15, 1.3)),
    ("small uploads per second, and rustus", "≥ 2.5 × rustus", None, against("small", "per_s", "rustus", 2.5)),
    ("small uploads, p99 µs", "≤ 1 × nginx", "≤ 0.8 × nginx", against("small", "p99_us", "nginx", 1, 0.8)),
    ("small uploads, p99 µs, and peers", "below every peer", None, below_every_peer("small", "p99_us")),
    ("POST + PATCH, uploads per second", "≥ 0.75 × nginx", "≥ 0.9 × nginx",
     against("small-patch", "per_s", "nginx", 0.75, 0.9)),
    ("POST + PATCH, and rustus", "≥ 2.3 × rustus", None, against("small-patch", "per_s", "rustus", 2.3)),
    ("HEAD per second", "≥ 0.9 × nginx", "≥ 1.1 × nginx", against("head", "per_s", "nginx", 0.9, 1.1)),
    ("HEAD per second, and rustus", "≥ 2 × rustus", None, against("head", "per_s", "rustus", 2)),
    ("KiB per slow connection", "≤ 7", "≤ 5", at_most("slow", "kib_per_connection", 7, 5)),
    ("KiB per idle connection", "≤ 1.2", "≤ 1", at_most("idle", "kib_per_connection", 1.2, 1)),
    ("peak MiB, one 4 GiB upload", "≤ 14", "≤ 12", at_most("peak", "peak_kib", 14, 12)),
    ("idle MiB", "≤ 9", "≤ 7", at_most("start", "idle_kib", 9, 7)),
]
HOOK_TARGETS = [
    ("added by a pre-create hook, p50 µs", "≤ 300, and no more than others", None,
     no_more_than_others("hooks-create", "added_p50_us", 300)),
    ("events per second, SQLite", "≥ 2,000", None, at_least("hooks-told", "events_per_s", 2_000)),
    ("KiB added by a hook without events", "≤ 512", None,
     at_most("hooks-start", "added_own_kib", 512)),
    ("files made for a hook without events", "0", None, at_most("hooks-start", "added_files", 0)),
]
GRANT_TARGETS = [
    *((f"{SHORT[f'grants-ask-{where}']}, per second", f"≥ {least:g} × by hand", None,
       against(f"grants-ask-{where}", "per_s", "fastapi", least))
      for where, least in [("memory", 3), ("disk", 1.5), ("postgres", 1.5)]),
    *((f"{SHORT[f'grants-ask-{where}']}, p99 µs", "≤ 1 × by hand", None,
       against(f"grants-ask-{where}", "p99_us", "fastapi", 1))
      for where in ("memory", "disk", "postgres")),
    *((f"added to a creation by a grant, p50 µs, {words}", "≤ 2 × a grant by hand", "≤ 1 ×",
       added_against_by_hand(where, 2, 1))
      for where, words in [("memory", "SQLite"), ("postgres", "PostgreSQL")]),
    ("files after one creation, grants off", "2, the upload's own", None,
     at_most("grants-off", "plain_files", 2)),
    ("own KiB resident when idle, grants off", "≤ 1,256", None,
     at_most("grants-off", "plain_own_kib", 1_256)),
    *((f"{SHORT[f'grants-million-{where}']}, slowest ms of all, p99", f"≤ {PAGE_MS}", None,
       never_slower(f"grants-million-{where}", PAGE_MS)) for where in ("memory", "postgres")),
    ("1,000 listeners, ms from a request to its completion, p99", "≤ 500", "≤ 100",
     at_most("grants-listen", "p99_ms", 500, 100)),
    ("1,000 listeners, % of a processor while nothing happens", "≤ 2", None,
     at_most("grants-listen", "idle_cpu_percent", 2)),
]
DIRECT_TARGETS = [
    (f"part URLs per second, {count} connections", "≥ 10 × @uppy/companion", "≥ 20,000",
     many_times("direct-part", f"{which}per_s", "companion", 10, 20_000))
    for which, count in CROWDS.items()
]
CROWD_TARGETS = [
    (f"{SHORT['crowd-quiet']}, share of its speed alone", "≥ 0.80", None,
     at_least("crowd-quiet", "share", 0.8)),
    *((f"{SHORT[mode]}, share of its speed alone", "≥ 0.50", None, at_least(mode, "share", 0.5))
      for mode in ("crowd-greedy", "crowd-greedier")),
    *((f"{SHORT[mode]}, KiB each", "≤ 64", "≤ 32", at_most(mode, "kib_per_connection", 64, 32))
      for mode in ("crowd-stalled", "crowd-trailers", "crowd-http2")),
    *((f"{SHORT[mode]}, MiB left after 10 s", "≤ 30", None, at_most(mode, "left_mib", 30))
      for mode in ("crowd-stalled", "crowd-trailers", "crowd-http2")),
]
CLOUD_TARGETS = [
    *((f"{SHORT[mode]}, CPU-s per GiB, {where}", "≤ 1.3 × S3", None,
       beside_s3(mode, "cpu_s_per_gib", f"landfall-{server}", 1.3))
      for mode in ("clouds-big", "clouds-four", "clouds-browser")
      for server, where in [("gcs", "Google"), ("azure", "Azure")]),
    *((f"{SHORT['clouds-browser']}, most objects at once per GiB, {where}", "≤ 140", None,
       of_server("clouds-browser", "objects_per_gib", f"landfall-{server}", 140))
      for server, where in [("gcs", "Google"), ("azure", "Azure")]),
]
OF_SECTION = {"clouds": CLOUD_TARGETS, "crowds": CROWD_TARGETS, "peers": TARGETS, "s3": S3_TARGETS, "hooks": HOOK_TARGETS, "grants": GRANT_TARGETS,
              "direct": DIRECT_TARGETS}
