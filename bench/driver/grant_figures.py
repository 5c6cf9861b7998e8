"""What is measured of grants, and the tables that hold it."""

from .figure import REQUEST, Figure

PLACES = {"memory": "SQLite in memory", "disk": "SQLite on a disk", "postgres": "PostgreSQL"}
# Requests with a million rows in the queue: what `driver.million` calls them, and people.
ASKED = [
    ("list_first", "caller's list, first page"),
    ("list_middle", "caller's list, a page in the middle"),
    ("list_state", "caller's list, one state, a page in the middle"),
    ("list_small", "caller's list, a caller with few"),
    ("ask", "a grant"),
    ("overview", "admin: overview"),
    ("live", "admin: active"),
    ("history", "admin: history, first page"),
    ("history_middle", "admin: history, a page in the middle"),
    ("search", "admin: search with many hits"),
    ("search_one", "admin: search with one hit"),
    ("search_none", "admin: search without a hit"),
    ("throughput", "admin: throughput of a day"),
]
WAYS = [("plain_", "no grant"), ("", "a grant each"), ("added_", "added")]
BESIDE = [(key, label, "{:,.1f}") for key, label in [
    ("start_ms", "ms from start to the first answer"), ("disk_mib", "MiB of the database"),
    ("own_mib", "own MiB resident more than with an empty queue")]]
LISTENING = [
    ("p50_ms", "ms from an upload's only request to its completion at a listener, p50", "{:.1f}"),
    ("p99_ms", "ms from an upload's only request to its completion at a listener, p99", "{:.1f}"),
    ("cpu_us_each", "CPU µs for each arrival, its upload included", "{:.1f}"),
    ("idle_cpu_percent", "% of a processor while nothing happens", "{:.2f}"),
    ("kib_per_listener", "own KiB resident for each listener", "{:.1f}"),
]
RUNNING = [
    ("per_s", "grants/s, 16 connections, while uploads run", "{:,.0f}"),
    ("alone_per_s", "grants/s, 16 connections, alone", "{:,.0f}"),
    ("share", "share of the grants alone", "{:.2f}"),
    ("p99_ms", "ms for a grant while uploads run, p99", "{:.1f}"),
    ("alone_p99_ms", "ms for a grant alone, p99", "{:.1f}"),
    ("completed_p99_ms", "ms for a whole small upload while uploads run, p99", "{:.1f}"),
    ("own_cpu_percent", "% of a processor for the running uploads, server", "{:.1f}"),
    ("behind_cpu_percent", "% of a processor for the running uploads, PostgreSQL", "{:.1f}"),
]
IDLE = [("own_kib", "own KiB resident when idle", "{:,.0f}"),
        ("start_ms", "ms to the first answer", "{:.1f}"),
        ("files", "files after one creation", "{:.0f}")]

COMPARED = [Figure(f"grants-ask-{where}", f"{which}{key}", f"{unit}, {label}", "{:,.0f}",
                   key == "per_s")
            for where in PLACES for which, label in [("", "16 connections"), ("one_", "1 connection")]
            for key, unit in REQUEST]
FIGURES = [
    *COMPARED,
    *(Figure(f"grants-{work}-{where}", f"{which}{key}", f"{unit}, {label}", "{:,.0f}", key == "per_s")
      for work in ("create", "small") for where in PLACES for key, unit in REQUEST
      for which, label in WAYS if work == "small" or key != "per_s"),
    *(Figure(f"grants-million-{where}", f"{key}_{share}_ms", f"ms, {share}, {label}", "{:.1f}")
      for where in PLACES for key, label in ASKED for share in ("p50", "p99")),
    *(Figure(f"grants-million-{where}", *one) for where in PLACES for one in BESIDE),
    *(Figure("grants-listen", *one) for one in LISTENING),
    *(Figure(f"grants-running-{where}", *one) for where in ("memory", "postgres")
      for one in RUNNING),
    *(Figure("grants-off", f"{which}{key}", label, style)
      for key, label, style in IDLE for which in ("plain_", "")),
]
SHORT = {
    **{f"grants-ask-{where}": f"grants, {words}" for where, words in PLACES.items()},
    **{f"grants-create-{where}": f"one creation after the other, {words}"
       for where, words in PLACES.items()},
    **{f"grants-small-{where}": f"small uploads, {words}" for where, words in PLACES.items()},
    "grants-off": "idle",
    "grants-listen": "listeners",
    **{f"grants-running-{where}": f"10,000 running uploads, {PLACES[where]}"
       for where in ("memory", "postgres")},
    **{f"grants-million-{where}": f"a million rows, {words}" for where, words in PLACES.items()},
}
# Of Landfall alone: heading, titles of the columns, and rows of a label with the cells (mode, key).
TABLES = [
    ("Overhead of a grant per upload", ["Landfall", *PLACES.values()], [
        (f"{words}: {unit}, {label}", [(f"grants-{work}-{where}", which + key) for where in PLACES])
        for work, words in [("create", "one creation after the other"), ("small", "small uploads")]
        for key, unit in REQUEST if work == "small" or key != "per_s"
        for which, label in WAYS if which != "added_" or key == "p50_us"]),
    ("A queue of a million rows", ["ms", "SQLite, p50", "SQLite, p99", "PostgreSQL, p50",
                                   "PostgreSQL, p99"], [
        (label, [(f"grants-million-{where}", f"{key}_{share}_ms")
                 for where in ("memory", "postgres") for share in ("p50", "p99")])
        for key, label in ASKED]),
    ("Other figures", ["", "SQLite", "PostgreSQL"], [
        (label, [(f"grants-million-{where}", key) for where in ("memory", "postgres")])
        for key, label, _ in BESIDE]),
    ("Running uploads", ["", "SQLite", "PostgreSQL"], [
        (label, [(f"grants-running-{where}", key) for where in ("memory", "postgres")])
        for key, label, _ in RUNNING]),
    ("Who listens", ["", "Landfall"], [
        (label, [("grants-listen", key)]) for key, label, _ in LISTENING]),
    ("Overhead of enabled grants", ["", "off", "on, idle"], [
        (label, [("grants-off", f"plain_{key}"), ("grants-off", key)]) for key, label, _ in IDLE]),
]
