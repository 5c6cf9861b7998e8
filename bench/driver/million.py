"""A queue of a million rows: how long it takes to look at it."""

import http.client
import json
import os
import sqlite3
import statistics
import subprocess
import time

from . import proc
from .postgres import program
from .servers import Running

ADMIN_KEY = "bench-admin-key-0123456789"
MINE = "bench"  # the subject of the key; a fifth of all rows
DAY = 86_400_000  # milliseconds
LIVE = 500
# Kept below the time that ended jobs are kept: from 25 days ago to an hour ago.
SPAN = 25 * DAY
# What each row is made of, by its number n in 1..={rows}, at {now}. Both databases understand it.
JOBS = """
INSERT INTO queue_jobs (number, subject, request_id, filename, filename_key, filetype,
    request_fingerprint, max_size, metadata, quota_period, created_at, expires_at, state, reason, size,
    upload_offset, rate, rate_measured_at, upload_id, upload_fingerprint, node, prepared_end,
    reserved_bytes, started_at, updated_at, updated_minute, ended_at)
SELECT n, subject, 'request-' || n, name, name, 'video/mp4', size, NULL, '{{"folder":"' || (n % 50) || '"}}',
    0, made, made + 3600000, state,
    CASE state WHEN 4 THEN 'not wanted any more' WHEN 5 THEN 'refused by a hook' END, size,
    CASE WHEN state = 3 THEN size WHEN state = 5 THEN size / 2 ELSE 0 END, 0, made,
    CASE WHEN state IN (3, 4, 5) THEN 'upload' || (n * 48271 % 2147483647) END,
    CASE WHEN state IN (3, 4, 5) THEN 'digest' || n END, 'node-' || (n % 3), NULL, 0,
    CASE WHEN state IN (3, 4, 5) THEN made + 500 END, made + 9000, (made + 9000) / 60000,
    CASE WHEN state > 2 THEN made + 9000 END
FROM (
    SELECT n, CASE WHEN n % 5 = 0 THEN '{mine}' ELSE 'user-' || (n % 997) END AS subject,
        'holiday ' || (n * 7919 % 1000003) || '.mp4' AS name, 1000000 + n % 9000000 AS size,
        {now} - 3600000 - ({rows} - n) * {span} / {rows} AS made,
        CASE WHEN n % 20 < 17 THEN 3 ELSE n % 20 - 13 END AS state
    FROM series
) AS made_up
"""
# Under way only once the server runs: at its start it asks the store after them.
UNDER_WAY = """
INSERT INTO queue_jobs (number, subject, request_id, filename, filename_key, filetype,
    request_fingerprint, max_size, metadata, quota_period, created_at, expires_at, state, reason, size,
    upload_offset, rate, rate_measured_at, upload_id, upload_fingerprint, node, prepared_end,
    reserved_bytes, started_at, updated_at, updated_minute, ended_at)
SELECT {rows} + n, 'user-' || (n % 997), 'request-' || ({rows} + n), 'now ' || n || '.mp4',
    'now ' || n || '.mp4', 'video/mp4', 1000000, NULL, '{{}}', 0, {now}, {now} + 3600000, n % 3, NULL,
    1000000, CASE n % 3 WHEN 2 THEN 500000 ELSE 0 END, CASE n % 3 WHEN 2 THEN 90000 ELSE 0 END, {now},
    CASE n % 3 WHEN 0 THEN NULL ELSE 'now' || n END, CASE n % 3 WHEN 0 THEN NULL ELSE 'd' || n END,
    'node-1', NULL, 1000000, CASE n % 3 WHEN 0 THEN NULL ELSE {now} END, {now}, {now} / 60000, NULL
FROM series
"""
# What the server keeps beside the rows as they change.
COUNTS = """
DELETE FROM queue_state_totals;
INSERT INTO queue_state_totals (state, slot, jobs, bytes)
    SELECT state, 0, COUNT(*), COALESCE(SUM(upload_offset), 0) FROM queue_jobs GROUP BY state;
DELETE FROM queue_usage;
INSERT INTO queue_usage (subject, quota_period, slot, reserved_bytes, used_bytes)
    SELECT subject, 0, 0, SUM(reserved_bytes),
        SUM(CASE WHEN state = 3 THEN upload_offset ELSE 0 END)
    FROM queue_jobs GROUP BY subject;
"""
THROUGHPUT = """
INSERT INTO queue_throughput (minute, node, bytes, started, completed, failed)
SELECT ({now} / 60000 - n) {unit}, 'node-' || (n % 3), 60000000, 40, 34, 2 FROM series
"""


class Sqlite:
    """The database in a file."""

    # It counts rows by itself.
    counts = COUNTS

    def __init__(self, folder):
        self.file = os.path.join(folder, "landfall.db")

    def indexes(self):
        """Those of the rows, but for the numbers': by name, what makes them again."""
        connection = sqlite3.connect(self.file)
        try:
            return dict(connection.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND "
                "tbl_name = 'queue_jobs' AND sql IS NOT NULL"))
        finally:
            connection.close()

    def run(self, statements, series):
        """Runs statements in one transaction; `series` are the numbers 1 to that."""
        connection = sqlite3.connect(self.file, timeout=30, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements.split(";"):
                if statement.strip():
                    connection.execute(self.with_series(statement, series))
            connection.execute("COMMIT")
        finally:
            connection.close()

    @staticmethod
    def with_series(statement, series):
        if "FROM series" not in statement:
            return statement
        return (f"WITH RECURSIVE series (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series "
                f"WHERE n < {series}) {statement}")

    def settle(self):
        """Writes out what the log holds."""
        connection = sqlite3.connect(self.file, timeout=30)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    def size(self):
        """Bytes that it takes."""
        return sum(os.path.getsize(self.file + end) for end in ("", "-wal", "-shm")
                   if os.path.exists(self.file + end))


class Postgresql:
    """The database in a PostgreSQL."""

    counts = COUNTS + "SELECT setval('queue_job_number', (SELECT MAX(number) FROM queue_jobs))"

    def __init__(self, url):
        self.url = url

    def indexes(self):
        """As for SQLite."""
        lines = self.ask("--no-align", "--field-separator=\t", "--command=SELECT indexname, indexdef "
                         "FROM pg_indexes WHERE tablename = 'queue_jobs' AND indexname NOT IN "
                         "(SELECT conname FROM pg_constraint)").splitlines()
        return dict(line.split("\t") for line in lines)

    def run(self, statements, series):
        """As for SQLite."""
        table = f"generate_series(1::bigint, {series}) AS series (n)"
        statements = statements.replace("FROM series", f"FROM {table}")
        self.ask("--single-transaction", f"--command={statements}")

    def settle(self):
        """Does what it would do by itself in the next minutes."""
        self.ask("--command=VACUUM ANALYZE")

    def size(self):
        """Bytes that it takes."""
        return int(self.ask("--command=SELECT pg_database_size('postgres')"))

    def ask(self, *words):
        done = subprocess.run(
            [program("psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--set=ON_ERROR_STOP=1",
             f"--dbname={self.url}", *words], text=True, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"psql: {done.stderr.strip()[-500:]}")
        return done.stdout.strip()


def database(environment):
    """The one that a server is told of."""
    url = environment.get("BENCH_DATABASE")
    return Postgresql(url) if url else Sqlite(environment["BENCH_STATE"])


def fill(kept, rows, now):
    """A history of so many rows, and throughput of a day."""
    indexes = kept.indexes()
    if not indexes:
        raise RuntimeError("the queue has no index")
    # Made again afterwards: that takes half the time.
    kept.run("".join(f"DROP INDEX {name};" for name in indexes), 0)
    kept.run(JOBS.format(rows=rows, now=now, mine=MINE, span=SPAN), rows)
    kept.run(";".join(indexes.values()), 0)
    kept.run(kept.counts, 0)
    kept.run(THROUGHPUT.format(now=now, unit=""), 1440)
    kept.settle()


def requests(rows, api_key, small_key):
    """What is asked: name, path, key, and how many rows the answer must have at least and at most."""
    middle = rows // 2
    half_mine = middle // 5 * 5
    api, ended = "/admin/api/", "completed,cancelled,failed,expired"
    return [
        ("list_first", "/uploadjobs", api_key, 100, 100),
        ("list_middle", f"/uploadjobs?after={half_mine}", api_key, 100, 100),
        ("list_state", f"/uploadjobs?state=failed&after={half_mine}", api_key, 0, 100),
        ("list_small", "/uploadjobs", small_key, min(100, rows // 997 * 4 // 5), 100),
        ("overview", api + "overview", ADMIN_KEY, None, None),
        ("live", api + "uploads?state=received,started,progress", ADMIN_KEY, 1, 50),
        ("history", api + f"uploads?state={ended}", ADMIN_KEY, 50, 50),
        ("history_middle", api + f"uploads?state={ended}&after={middle}", ADMIN_KEY, 50, 50),
        ("search", api + "uploads?search=holiday%201", ADMIN_KEY, 50, 50),
        ("search_one", api + f"uploads?search=request-{middle}", ADMIN_KEY, 1, 50),
        ("search_none", api + "uploads?search=nothing%20like%20this", ADMIN_KEY, 0, 0),
        ("throughput", api + "throughput?minutes=1440", ADMIN_KEY, 144, 144),
    ]


def measure(behind, mode, root, pin):
    """Fills the queue of a server that made its tables, and asks it for pages."""
    rows, count = mode.arguments
    small_key = behind.server.ask("key", "user-7")[-1]
    kept = database(behind.place.environment)
    server = behind.server.within(dict(behind.server.environment, LANDFALL_ADMIN_KEY=ADMIN_KEY))
    empty = kept.size()
    with Running(server, root, pin[0]) as running:
        alone = proc.memory_kib(proc.tree(running.process.pid), "RssAnon")
    began = time.perf_counter()
    fill(kept, rows, int(time.time() * 1000))
    result = {"fill_s": time.perf_counter() - began,
              "disk_mib": (kept.size() - empty) / (1 << 20)}
    with Running(server, root, pin[0]) as running:
        kept.run(UNDER_WAY.format(rows=rows, now=int(time.time() * 1000)), LIVE)
        kept.run(kept.counts, 0)
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
        pids = proc.tree(running.process.pid)
        cpu, busy, began = proc.cpu_seconds(pids), proc.machine_busy_seconds(), time.time()
        own = time.process_time()
        behind.begin(pids, 0)
        try:
            for name, path, key, least, most in requests(rows, behind.key, small_key):
                note(result, name, [get(connection, path, key, least, most)
                                    for _ in range(count + 3)][3:])
            note(result, "ask", [ask(connection, behind.key, turn) for turn in range(count + 3)][3:])
        finally:
            connection.close()
        _, beside = behind.end(pids)
        known = proc.cpu_seconds(pids) - cpu + beside + time.process_time() - own
        busy = proc.machine_busy_seconds() - busy - known
        result.update(start_ms=running.start_seconds * 1e3,
                      own_mib=(proc.memory_kib(pids, "RssAnon") - alone) / 1024,
                      other_cpus=round(max(0, busy) / (time.time() - began), 3))
    return result


def note(result, name, times):
    """Median and 99th percentile (nearest rank), in milliseconds."""
    times = sorted(times)
    result[f"{name}_p50_ms"] = statistics.median(times) * 1e3
    result[f"{name}_p99_ms"] = times[-(-len(times) * 99 // 100) - 1] * 1e3


def send(connection, method, path, key, body=None):
    """A request, and what came of it: seconds, and the answer."""
    headers = {"Authorization": f"Bearer {key}"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    began = time.perf_counter()
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    took = time.perf_counter() - began
    if answer.status not in (200, 201):
        raise RuntimeError(f"{method} {path} answered {answer.status}: {text[:300].decode(errors='replace')}")
    return took, json.loads(text)


def get(connection, path, key, least, most):
    """Seconds that a page takes; it must have as many rows as there should be."""
    took, said = send(connection, "GET", path, key)
    if least is not None:
        found = said if isinstance(said, list) else said.get("uploads", said.get("minutes"))
        if not least <= len(found) <= most:
            raise RuntimeError(f"GET {path} has {len(found)} rows, not {least} to {most}")
    return took


def ask(connection, key, turn):
    """Seconds that a grant takes."""
    body = json.dumps({"id": f"new-{turn}", "filename": "new.mp4", "filesize": 1000})
    took, said = send(connection, "POST", "/uploadjobs", key, body)
    if not said.get("upload_token"):
        raise RuntimeError(f"POST /uploadjobs answered without a token: {sorted(said)}")
    return took
