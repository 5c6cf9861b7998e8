"""The driver's part with signed requests: who does what, and where Landfall must get."""

import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from driver import direct, servers, service, tables, targets  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NAMES = ("landfall", "companion")
PARTS = "part URLs per second, {} connections"


def result(change=None, missing=()):
    """A run in which Landfall meets every target and aim; `change`: (server, mode, key) -> value."""
    values = {("landfall", "direct-part", "per_s"): 21_000, ("companion", "direct-part", "per_s"): 900,
              ("landfall", "direct-part", "many_per_s"): 22_000,
              ("companion", "direct-part", "many_per_s"): 800,
              ("landfall", "direct-put-disk", "per_s"): 700}
    values |= change or {}
    return {
        "date": "2026-01-01", "rounds": 1, "pin": "0:1", "behind": "Garage 1",
        "machine": {"processors": 2, "processor": "P", "kernel": "6", "file_system": "tmpfs"},
        "servers": {name: {"title": name, "missing": "not here"} if name in missing
                    else {"title": name, "version": "1"} for name in NAMES},
        "rows": [{"server": name, "mode": mode, key: value}
                 for (name, mode, key), value in values.items() if name not in missing],
        "modes": {"direct-part": "parts"}, "faults": [],
    }


def judged(run):
    """The last cell of each target by its name, and whether all are met."""
    table, met = targets.check(run)
    lines = [[cell.strip() for cell in line.strip("|").split("|")]
             for line in table.splitlines()[2:]]
    return {line[0]: line[-1] for line in lines}, met


class Targets(unittest.TestCase):
    def test_all_met(self):
        both = {PARTS.format(count): "yes, and the aim" for count in (16, 64)}
        self.assertEqual(judged(result()), (both, True))

    def test_each_can_be_missed(self):
        for key, count in [("per_s", 16), ("many_per_s", 64)]:
            for server, value, verdict in [("landfall", 19_000, "yes, not the aim"),
                                           ("companion", 2_500, "no")]:
                with self.subTest(key=key, server=server):
                    verdicts, met = judged(result({(server, "direct-part", key): value}))
                    self.assertEqual(verdicts[PARTS.format(count)], verdict)
                    self.assertEqual(list(verdicts.values()).count("yes, and the aim"), 1)
                    self.assertEqual(met, verdict != "no")

    def test_what_is_not_measured_is_not_met(self):
        verdicts, met = judged(result(missing=["companion"]))
        self.assertEqual((set(verdicts.values()), met), ({"no"}, False))


class Tables(unittest.TestCase):
    def test_section_and_rows(self):
        run = result()
        self.assertEqual(tables.section(run), "direct")
        text = tables.peers(run)
        for line in [
            "| part URLs: per second, 16 connections | 21,000 | 900 |",
            "| part URLs: per second, 64 connections ↑ | 27.50 |",
            "| POST /api/sign_s3, SQLite on a disk: per second, 16 connections | 700 | – |",
            "server and client on processors 0:1, services with the client, ",
        ]:
            self.assertIn(line, text)

    def test_its_place_is_in_the_docs(self):
        with open(os.path.join(ROOT, "bench", "results.md")) as file:
            docs = file.read()
        self.assertIn("<!-- measured: direct -->", docs)
        self.assertIn("<!-- end: direct -->", docs)


class Kinds(unittest.TestCase):
    def setUp(self):
        known = {"PATH": os.environ["PATH"], "LANDFALL": "/landfall", "CACHE": "/cache",
                 "S3_BUCKET": "b", "S3_ENDPOINT": "http://127.0.0.1:1", "BENCH_STATE": "/a b"}
        self.landfall, self.companion = (servers.Server.on_direct(name, known) for name in NAMES)

    def test_who_takes_part(self):
        theirs = {mode.name for mode in direct.modes().values()
                  if direct.takes_part(self.companion, mode)}
        self.assertEqual(theirs, {"direct-part", "direct-batch", "direct-form-memory",
                                  "direct-multipart"})
        self.assertTrue(all(direct.takes_part(self.landfall, mode)
                            for mode in direct.modes().values()))

    def test_all_kinds_have_a_name_and_figures(self):
        self.assertLessEqual(set(direct.modes()), set(tables.SHORT))
        for mode in direct.modes().values():
            for which in mode.crowds:
                self.assertEqual(tables.figure(mode.name, f"{which}per_s").high, True)

    def test_each_connection_gets_as_many(self):
        for quick in (False, True):
            for mode in direct.modes(quick).values():
                for count in mode.crowds.values():
                    for server in (self.landfall, self.companion):
                        for number in mode.counted(server):
                            self.assertEqual(number % count, 0, (mode.name, server.name, count))
                            self.assertGreater(number, 0)

    def test_command_lines(self):
        self.assertEqual(self.landfall.command(7, "/data"), [
            "/landfall", "--host", "127.0.0.1", "--port", "7", "--direct", "--s3-bucket", "b",
            "--s3-endpoint", "http://127.0.0.1:1", "--state-dir", "/a b"])
        command = self.companion.command(7, "/data")
        self.assertEqual(command[-5:], ["/cache/companion/server.mjs", "7", "/data", "b",
                                        "http://127.0.0.1:1"])
        self.assertIn("NODE_ENV=production", command)
        self.assertEqual(self.companion.ask("key"), ["-"])


class Services(unittest.TestCase):
    def test_are_kept_to_their_processors(self):
        pin = str(min(os.sched_getaffinity(0)))
        with tempfile.TemporaryDirectory() as root, service.Service("sleep", root, pin) as one:
            def settled():
                """OSError until it runs itself."""
                with open(f"/proc/{one.process.pid}/comm") as file:
                    if file.read().strip() != "sleep":
                        raise OSError("not yet")

            one.launch(["sleep", "60"], dict(os.environ), settled)
            self.assertEqual(os.sched_getaffinity(one.process.pid), {int(pin)})


if __name__ == "__main__":
    unittest.main()
