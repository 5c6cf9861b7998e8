"""The driver's part with hooks: what must have come, what that adds, and where Landfall must get."""

import http.client
import http.server
import json
import os
import sys
import tempfile
import threading
import unittest
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from driver import (  # noqa: E402
    hooks, modes, place, postgres, proc, servers, starts, tables, targets)

BENCH = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def result(change=None, missing=()):
    """A run in which Landfall meets every target; `change`: (server, mode, key) -> value."""
    values = {
        ("landfall", "hooks-create", "plain_p50_us"): 60,
        ("landfall", "hooks-create", "p50_us"): 200,
        ("landfall", "hooks-create", "added_p50_us"): 140,
        ("node", "hooks-create", "added_p50_us"): 900,
        ("tusd", "hooks-create", "added_p50_us"): 200,
        ("landfall", "hooks-told", "events_per_s"): 4000,
        ("landfall", "hooks-start", "added_own_kib"): 400,
        ("landfall", "hooks-start", "added_files"): 0,
    }
    values |= change or {}
    return {
        "date": "2026-01-01", "rounds": 1, "pin": None,
        "machine": {"processors": 2, "processor": "P", "kernel": "6", "file_system": "tmpfs"},
        "servers": {name: {"title": name, "missing": "not here"} if name in missing
                    else {"title": name, "version": "1"} for name in ("landfall", "tusd", "node")},
        "rows": [{"server": name, "mode": mode, key: value}
                 for (name, mode, key), value in values.items() if name not in missing],
        "modes": {"hooks-create": "creations"}, "faults": [],
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
        added = "added by a pre-create hook, p50 µs"
        for server, mode, key, value, name in [
            ("landfall", "hooks-create", "added_p50_us", 201, added),
            ("node", "hooks-create", "added_p50_us", 139, added),
            ("landfall", "hooks-told", "events_per_s", 1_999, "events per second, SQLite"),
            ("landfall", "hooks-start", "added_own_kib", 513,
             "KiB added by a hook without events"),
            ("landfall", "hooks-start", "added_files", 1,
             "files made for a hook without events"),
        ]:
            with self.subTest(server=server, key=key):
                self.assertEqual(unmet(result({(server, mode, key): value})), ([name], False))
        # Slower than allowed, though no other server is here.
        alone = result({("landfall", "hooks-create", "added_p50_us"): 301}, ["tusd", "node"])
        self.assertEqual(unmet(alone), ([added], False))

    def test_who_is_missing_is_told(self):
        table, met = targets.check(result(missing=["tusd"]))
        self.assertIn("| 140; tusd missing; node 900 | yes |", table)
        self.assertTrue(met)


class Tables(unittest.TestCase):
    def test_section_and_rows(self):
        run = result()
        self.assertEqual(tables.section(run), "hooks")
        text = tables.peers(run)
        self.assertIn("server and client share them with the receiver", text)
        self.assertIn("| one creation after the other: p50 µs, added | 140 | 200 | 900 |", text)
        self.assertIn("| one creation after the other: p50 µs, added ↓ | 0.70 | 0.16 |", text)
        self.assertNotIn("files made because of it ↓", text)

    def test_the_places_of_all_sections_are_in_the_docs(self):
        with open(os.path.join(BENCH, "results.md")) as file:
            docs = file.read()
        for section in ("peers", "layers", "disk", "s3", "hooks"):
            self.assertIn(f"<!-- measured: {section} -->", docs)


class Kinds(unittest.TestCase):
    def test_only_landfall_has_an_outbox_to_place(self):
        landfall, node = (servers.Server(name, "/", "tus", {}, ["true"])
                          for name in ("landfall", "node"))
        for mode in hooks.modes().values():
            self.assertTrue(hooks.takes_part(landfall, mode))
            self.assertEqual(hooks.takes_part(node, mode), not mode.place)

    def test_what_a_machine_lacks(self):
        disk, other = (hooks.modes()[name].place for name in ("hooks-disk", "hooks-postgres"))
        with mock.patch.object(proc, "file_system", return_value="tmpfs"):
            self.assertEqual(place.lacks(disk, "/x"), "/x is in memory")
            self.assertIsNone(place.lacks(None, "/x"))
        with mock.patch.object(postgres, "program", side_effect=servers.Missing("none")):
            self.assertEqual(place.lacks(other, "/x"), "none")

    def test_added(self):
        run = {"p50_us": 200, "p99_us": 900, "cpu_us_each": 80, "per_s": 50, "other_cpus": 0.1}
        without = {"p50_us": 60, "p99_us": 100, "cpu_us_each": 50, "per_s": 90, "other_cpus": 0.3}
        hooks.compare(run, without)
        self.assertEqual((run["plain_p50_us"], run["added_p50_us"]), (60, 140))
        self.assertEqual((run["added_p99_us"], run["added_cpu_us_each"]), (800, 30))
        self.assertEqual(run["other_cpus"], 0.3)


class Behind(unittest.TestCase):
    """With the real receiver."""

    @classmethod
    def setUpClass(cls):
        cls.loadgen = modes.build([], os.path.join(BENCH, "loadgen"),
                                  os.path.join(BENCH, "loadgen", "target"), "loadgen")

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def application(self, name, environment=None, server="probe"):
        one = servers.Server(server, "/", "tus", environment or dict(os.environ), ["true"])
        return hooks.Application(one, hooks.modes()[name], self.loadgen, self.folder, self.folder)

    def send(self, application, *events):
        """Events as (name, upload, place)."""
        connection = http.client.HTTPConnection("127.0.0.1", application.receiver.connection.port)
        for name, upload, place in events:
            message = json.dumps({"Type": name, "Event": {"Upload": {"ID": upload}}})
            connection.request("POST", "/", message.replace(" ", ""), {
                "webhook-id": f"{upload}{place}", "Landfall-Sequence": str(place)})
            self.assertEqual(connection.getresponse().read(), b"{}")
        connection.close()

    def test_the_server_is_told_where_and_uses_no_proxy(self):
        with self.application("hooks-disk", {"HTTP_PROXY": "http://x", "a": "b"}) as application:
            environment = dict(application.server.environment)
            self.assertEqual(environment.pop("BENCH_HOOK_URL"), application.receiver.url)
            state = environment.pop("BENCH_STATE")
            self.assertTrue(os.path.isdir(state))
            self.assertEqual(environment, {"a": "b", "BENCH_HOOK_EVENTS": "post-create,post-finish"})
            pid = application.receiver.process.pid
        self.assertFalse(os.path.exists(f"/proc/{pid}"))
        self.assertEqual(os.listdir(self.folder), [])

    def test_all_events_of_the_timed_part_count(self):
        with self.application("hooks-told") as application:
            self.send(application, ("post-create", "a", 1), ("post-finish", "a", 2))
            application.begin([], 1)
            later = threading.Timer(0.3, self.send, [application, ("post-finish", "b", 4)])
            self.send(application, ("post-create", "b", 3), ("post-create", "b", 3))
            later.start()
            application.settle(2)
            later.join()
            figures, cpu = application.end([])
            self.assertEqual(figures["events"], 2)
            self.assertLess(figures["events_per_s"], 2 / 0.3)
            self.assertGreater(figures["behind_ms"], 200)
            self.assertGreater(cpu, 0)
            self.assertEqual(application.after(), {"repeated": 1, "disordered": 0})
            self.send(application, ("post-finish", "c", 5))
            with self.assertRaisesRegex(RuntimeError, "'post-finish': 3} came to the hook, not"):
                application.after()

    def test_lost_events_are_found_out(self):
        with self.application("hooks-told") as application, \
                mock.patch.object(hooks, "SILENCE", 0.2):
            with self.assertRaisesRegex(RuntimeError, "2 post-create, 2 post-finish never came"):
                application.begin([], 2)
            self.send(application, ("post-create", "a", 1))
            with self.assertRaisesRegex(RuntimeError, "hook: 1 post-finish never came"):
                application.begin([], 1)

    def test_order_is_a_matter_of_who_promised_it(self):
        for server in ("probe", "tusd"):
            with self.subTest(server=server), \
                    self.application("hooks-told", server=server) as application:
                self.send(application, ("post-finish", "a", 2), ("post-create", "a", 1))
                application.begin([], 1)
                if server == "tusd":
                    self.assertEqual(application.after()["disordered"], 1)
                else:
                    with self.assertRaisesRegex(RuntimeError, "after its post-finish"):
                        application.after()

    def test_postgres_is_empty_and_goes_without_a_trace(self):
        with self.application("hooks-postgres") as application:
            url = application.server.environment["BENCH_DATABASE"]
            self.assertRegex(url, r"^postgres://landfall@127\.0\.0\.1:\d+/postgres$")
            pid = application.services[1].process.pid
            application.begin([], 0)
            self.assertGreater(application.cpu[1], 0)
        self.assertFalse(os.path.exists(f"/proc/{pid}"))
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_refused_creation_ends_the_starts(self):
        class Refusing(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.send_error(503)

            def log_message(self, *_):
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
            threading.Thread(target=server.handle_request).start()
            with self.assertRaisesRegex(RuntimeError, "POST answered 503"):
                starts.create(server.server_port, "/files/")


if __name__ == "__main__":
    unittest.main()
