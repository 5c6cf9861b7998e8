"""The driver's part with grants: what it fills a queue with, what it asks, and where Landfall must get."""

import http.server
import json
import os
import sqlite3
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from driver import (  # noqa: E402
    grant_figures, grant_tables, grants, million, place, postgres, servers, tables, targets)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MIGRATIONS = os.path.join(ROOT, "crates", "state", "migrations")


def result(change=None, missing=()):
    """A run in which Landfall meets every target; `change`: (server, mode, key) -> value."""
    values = {("landfall", "grants-off", "plain_files"): 2,
              ("landfall", "grants-off", "plain_own_kib"): 1000,
              ("landfall", "grants-listen", "p99_ms"): 90,
              ("landfall", "grants-listen", "idle_cpu_percent"): 0.1}
    for where in grant_figures.PLACES:
        for server, per_s, micros in [("landfall", 9_000, 800), ("fastapi", 1_000, 5_000)]:
            values[server, f"grants-ask-{where}", "per_s"] = per_s
            values[server, f"grants-ask-{where}", "p99_us"] = micros
            values[server, f"grants-ask-{where}", "one_p50_us"] = micros
        values["landfall", f"grants-create-{where}", "added_p50_us"] = 300
        values["landfall", f"grants-create-{where}", "plain_p50_us"] = 60
    for where in ("memory", "postgres"):
        for key, _ in grant_figures.ASKED:
            values["landfall", f"grants-million-{where}", f"{key}_p99_ms"] = 5
    values |= change or {}
    return {
        "date": "2026-01-01", "rounds": 1, "pin": None,
        "machine": {"processors": 2, "processor": "P", "kernel": "6", "file_system": "tmpfs"},
        "servers": {name: {"title": name, "missing": "not here"} if name in missing
                    else {"title": name, "version": "1"} for name in ("landfall", "fastapi")},
        "rows": [{"server": name, "mode": mode, key: value}
                 for (name, mode, key), value in values.items() if name not in missing],
        "modes": {"grants-off": "starts"}, "faults": [],
    }


def unmet(run):
    """Names of the targets that aren't met, and whether all are."""
    table, met = targets.check(run)
    lines = [[cell.strip() for cell in line.strip("|").split("|")]
             for line in table.splitlines()[2:]]
    return [line[0] for line in lines if line[-1] == "no"], met


class Targets(unittest.TestCase):
    def test_all_met(self):
        self.assertEqual(unmet(result()), ([], True))

    def test_each_can_be_missed(self):
        for mode, key, value, name in [
            ("grants-ask-memory", "per_s", 1_000, "grants, SQLite in memory, per second"),
            ("grants-ask-disk", "per_s", 1_000, "grants, SQLite on a disk, per second"),
            ("grants-ask-postgres", "per_s", 1_000, "grants, PostgreSQL, per second"),
            ("grants-ask-postgres", "p99_us", 5_001, "grants, PostgreSQL, p99 µs"),
            ("grants-create-memory", "added_p50_us", 10_001,
             "added to a creation by a grant, p50 µs, SQLite"),
            ("grants-create-postgres", "added_p50_us", 10_001,
             "added to a creation by a grant, p50 µs, PostgreSQL"),
            ("grants-off", "plain_files", 3, "files after one creation, grants off"),
            ("grants-off", "plain_own_kib", 1_300, "own KiB resident when idle, grants off"),
            ("grants-million-memory", "search_none_p99_ms", 50.1,
             "a million rows, SQLite in memory, slowest ms of all, p99"),
            ("grants-million-postgres", "ask_p99_ms", 51,
             "a million rows, PostgreSQL, slowest ms of all, p99"),
            ("grants-listen", "p99_ms", 501,
             "1,000 listeners, ms from a request to its completion, p99"),
            ("grants-listen", "idle_cpu_percent", 2.1,
             "1,000 listeners, % of a processor while nothing happens"),
        ]:
            with self.subTest(mode=mode, key=key):
                self.assertEqual(unmet(result({("landfall", mode, key): value})), ([name], False))

    def test_the_slowest_is_named(self):
        table, _ = targets.check(result({("landfall", "grants-million-memory", "live_p99_ms"): 7}))
        self.assertIn("| ≤ 50 | – | 7.0 (admin: active) | yes |", table)

    def test_what_is_not_measured_is_not_met(self):
        alone = result(missing=["fastapi"])
        self.assertIn("grants, PostgreSQL, per second", unmet(alone)[0])
        run = result()
        run["rows"] = [row for row in run["rows"] if "overview_p99_ms" not in row]
        self.assertEqual(len(unmet(run)[0]), 2)


class Tables(unittest.TestCase):
    def test_section_and_rows(self):
        run = result()
        self.assertEqual(tables.section(run), "grants")
        text = grant_tables.grants(run)
        for line in [
            "| grants, PostgreSQL: per second, 16 connections | 9,000 | 1,000 |",
            "| grants, PostgreSQL: per second, 16 connections ↑ | 9.00 |",
            "| one creation after the other: p50 µs, added | 300 | 300 | 300 |",
            "| admin: search without a hit | – | 5.0 | – | 5.0 |",
            "| files after one creation | 2 | – |",
        ]:
            self.assertIn(line, text)

    def test_what_was_not_run_is_not_shown(self):
        run = result()
        run["rows"] = [row for row in run["rows"] if row["mode"] == "grants-off"]
        run["faults"] = [{"server": "landfall", "mode": "grants-listen", "reason": "silence"}]
        text = grant_tables.grants(run)
        self.assertNotIn("million", text)
        self.assertIn("| % of a processor while nothing happens | failed |", text)
        self.assertIn("- landfall, grants-listen: silence", text)

    def test_its_place_is_in_the_docs(self):
        with open(os.path.join(ROOT, "bench", "results.md")) as file:
            docs = file.read()
        self.assertIn("<!-- measured: grants -->", docs)
        self.assertIn("<!-- end: grants -->", docs)


class Kinds(unittest.TestCase):
    def test_who_takes_part(self):
        landfall, hand, other = (servers.Server(name, "/", "tus", {}, ["true"])
                                 for name in ("landfall", grants.BY_HAND, "other"))
        for mode in grants.modes().values():
            self.assertTrue(grants.takes_part(landfall, mode))
            self.assertEqual(grants.takes_part(hand, mode), mode.work == "asks")
            self.assertEqual(grants.takes_part(other, mode), mode.work not in ("million", "running"))

    def test_all_kinds_have_a_name(self):
        self.assertLessEqual(set(grants.modes()), set(tables.SHORT))


class Filling(unittest.TestCase):
    """With the tables as the server makes them."""

    ROWS = 20_000
    NOW = 1_700_000_000_000

    def filled(self, kept):
        """Fills it as a run does; what reading it gives."""
        indexes = kept.indexes()
        million.fill(kept, self.ROWS, self.NOW)
        self.assertEqual(kept.indexes(), indexes)
        self.assertIn("queue_search_name", indexes)
        self.assertNotIn("queue_jobs_pkey", indexes)
        kept.run(million.UNDER_WAY.format(rows=self.ROWS, now=self.NOW), million.LIVE)
        kept.run(kept.counts, 0)

    def expect(self, ask):
        """What must hold in both databases; `ask` gives the rows of a query."""
        all_rows = self.ROWS + million.LIVE
        self.assertEqual(ask("SELECT COUNT(*), COUNT(DISTINCT number), MAX(number) FROM queue_jobs"),
                         [(all_rows, all_rows, all_rows)])
        counted = ask("SELECT state, COUNT(*), SUM(upload_offset) FROM queue_jobs GROUP BY state ORDER BY state")
        self.assertEqual(ask("SELECT state, jobs, bytes FROM queue_state_totals ORDER BY state"), counted)
        self.assertEqual(len(counted), 7, "each state is there")
        mine = ask(f"SELECT COUNT(*) FROM queue_jobs WHERE subject = '{million.MINE}'")
        self.assertEqual(mine, [(self.ROWS // 5,)])
        self.assertEqual(ask("SELECT SUM(used_bytes), SUM(reserved_bytes) FROM queue_usage"), ask(
            "SELECT SUM(CASE WHEN state = 3 THEN upload_offset ELSE 0 END), SUM(reserved_bytes) FROM queue_jobs"))
        # Nothing that a server would sweep, or take for something it wasn't.
        self.assertEqual(ask(
            "SELECT COUNT(*) FROM queue_jobs WHERE upload_offset > size OR created_at > updated_at "
            f"OR created_at < {self.NOW - 26 * million.DAY} OR updated_at > {self.NOW} "
            "OR (state > 2) <> (ended_at IS NOT NULL) OR filename_key <> lower(filename) "
            f"OR (state = 0 AND (upload_id IS NOT NULL OR expires_at <= {self.NOW}))"), [(0,)])
        texts = ask("SELECT request_id, metadata, node FROM queue_jobs WHERE number = 7")
        self.assertEqual(texts, [("request-7", '{"folder":"7"}', "node-1")])
        self.assertEqual(ask("SELECT COUNT(*), COUNT(DISTINCT minute) FROM queue_throughput"),
                         [(1440, 1440)])

    def test_sqlite(self):
        with tempfile.TemporaryDirectory() as folder:
            kept = million.Sqlite(folder)
            connection = sqlite3.connect(kept.file)
            with open(os.path.join(MIGRATIONS, "0001-queue.sqlite.sql")) as file:
                connection.executescript(file.read())
            empty = kept.size()
            self.filled(kept)
            self.expect(lambda query: connection.execute(query).fetchall())
            connection.close()
            self.assertGreater(kept.size(), empty + self.ROWS * 100)

    def test_postgres(self):
        with tempfile.TemporaryDirectory() as folder, postgres.Postgres(folder) as server:
            kept = million.Postgresql(server.url)
            with open(os.path.join(MIGRATIONS, "0001-queue.postgres.sql")) as file:
                kept.ask(f"--command={file.read()}")
            empty = kept.size()
            self.filled(kept)

            def ask(query):
                lines = kept.ask("--no-align", "--field-separator=\t", f"--command={query}")
                return [tuple(int(field) if field.isdigit() else field for field in line.split("\t"))
                        for line in lines.splitlines()]

            self.expect(ask)
            self.assertGreater(kept.size(), empty + self.ROWS * 100)

    def test_a_wrong_statement_is_told(self):
        with tempfile.TemporaryDirectory() as folder, postgres.Postgres(folder) as server:
            with self.assertRaisesRegex(RuntimeError, "psql: ERROR:  relation"):
                million.Postgresql(server.url).run("DELETE FROM nowhere", 0)


class Asking(unittest.TestCase):
    """With a server that answers anything."""

    def answers(self, status, value):
        class Server(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Server)
        self.addCleanup(server.server_close)
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        self.addCleanup(thread.join)
        connection = million.http.client.HTTPConnection("127.0.0.1", server.server_port)
        self.addCleanup(connection.close)
        return connection

    def test_pages_have_as_many_rows_as_there_should_be(self):
        for value in ([1, 2], {"uploads": [1, 2]}, {"minutes": [1, 2]}):
            self.assertGreater(million.get(self.answers(200, value), "/", "k", 2, 2), 0)
            with self.assertRaisesRegex(RuntimeError, "GET / has 2 rows, not 3 to 9"):
                million.get(self.answers(200, value), "/", "k", 3, 9)
        self.assertGreater(million.get(self.answers(200, {"jobs": {}}), "/", "k", None, None), 0)

    def test_refusals_and_grants_without_a_token_are_found_out(self):
        with self.assertRaisesRegex(RuntimeError, 'POST /uploadjobs answered 503: {"a": 1}'):
            million.ask(self.answers(503, {"a": 1}), "k", 0)
        with self.assertRaisesRegex(RuntimeError, "without a token"):
            million.ask(self.answers(201, {"a": 1}), "k", 0)
        self.assertGreater(million.ask(self.answers(201, {"upload_token": "t"}), "k", 0), 0)

    def test_quantiles(self):
        noted = {}
        million.note(noted, "x", [turn / 1000 for turn in range(100, 0, -1)])
        self.assertAlmostEqual(noted["x_p50_ms"], 50.5)
        self.assertAlmostEqual(noted["x_p99_ms"], 99)

    def test_what_is_asked_is_what_is_shown(self):
        asked = [name for name, *_ in million.requests(1000, "a", "b")] + ["ask"]
        self.assertEqual(sorted(asked), sorted(key for key, _ in grant_figures.ASKED))


class Places(unittest.TestCase):
    def test_each_is_empty_and_goes_without_a_trace(self):
        with tempfile.TemporaryDirectory() as root, tempfile.TemporaryDirectory() as disk:
            for kind, name, where in [("memory", "BENCH_STATE", root), ("disk", "BENCH_STATE", disk)]:
                with place.Place(kind, root, disk) as one:
                    self.assertEqual(os.path.dirname(one.environment[name]), where)
                    self.assertEqual(os.listdir(one.environment[name]), [])
            with place.Place("postgres", root) as one:
                self.assertEqual(list(one.environment), ["BENCH_DATABASE"])
                self.assertGreater(one.services[0].cpu_seconds(), 0)
            with place.Place(None, root) as one:
                self.assertEqual(one.environment, {})
            self.assertEqual(os.listdir(root) + os.listdir(disk), [])

    def test_landfall_is_told_of_it(self):
        known = {"PATH": os.environ["PATH"], "LANDFALL": "echo", "BENCH_STATE": "/a b"}
        one = servers.Server("landfall", "/files/", "tus", known)
        self.assertEqual(one.ask("key", "who"), ["keys add who --state-dir /a b"])
        granting = grants.granting(one, "complete", {"BENCH_DATABASE": "postgres://x"})
        command = granting.command(1, "/data")
        self.assertEqual(command[command.index("--durability") + 1:],
                         ["complete", "--require-grant", "--state-dir", "/a b", "--database",
                          "postgres://x"])


if __name__ == "__main__":
    unittest.main()
