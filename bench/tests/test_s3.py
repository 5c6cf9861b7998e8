"""The driver's part on S3: what it counts, what it forbids, and where Landfall must get."""

import os
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from driver import copier, garage, proc, s3, servers, tables, targets  # noqa: E402

METRICS = """
# HELP api_s3_request_counter Number of API calls to the various S3 API endpoints
# TYPE api_s3_request_counter counter
api_s3_request_counter{api_endpoint="CompleteMultipartUpload"} 1
api_s3_request_counter{api_endpoint="UploadPart"} 128
api_s3_request_duration_count{api_endpoint="UploadPart"} 128
api_s3_error_counter{api_endpoint="UploadPart",status_code="500"} 3
api_admin_request_counter{api_endpoint="Metrics"} 4
"""


def result(change=None, missing=(), faults=()):
    """A run on S3 in which Landfall meets every target; `change`: (server, mode, key) -> value."""
    values = {
        ("landfall", "s3-big", "mib_per_s"): 300, ("aws", "s3-big", "mib_per_s"): 280,
        ("rclone", "s3-big", "mib_per_s"): 170, ("node", "s3-big", "mib_per_s"): 110,
        ("landfall", "s3-files", "written_mib_per_gib"): 0,
        ("node", "s3-files", "written_mib_per_gib"): 3000,
        ("landfall", "s3-files", "multiparts_left"): 0,
        ("landfall", "s3-big", "peak_kib"): 300 << 10,
        ("landfall-redis", "s3-four", "peak_kib"): 310 << 10,
        ("node", "s3-big", "peak_kib"): 900 << 10,
    }
    for mode in ("s3-big", "s3-four", "s3-browser"):
        values |= {("landfall", mode, "cpu_s_per_gib"): 2.0, ("node", mode, "cpu_s_per_gib"): 7.0}
    values |= change or {}
    names = ("landfall", "landfall-redis", "node", "aws", "rclone")
    return {
        "date": "2026-01-01", "rounds": 1, "pin": None, "behind": "Garage 1",
        "machine": {"processors": 2, "processor": "P", "kernel": "6", "file_system": "tmpfs"},
        "servers": {name: {"title": name, "missing": "no network"} if name in missing
                    else {"title": name, "version": "1"} for name in names},
        "rows": [{"server": name, "mode": mode, key: value}
                 for (name, mode, key), value in values.items() if name not in missing],
        "modes": {"s3-big": "1 GiB"}, "faults": list(faults),
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
        for server, mode, key, value, name in [
            ("landfall", "s3-big", "mib_per_s", 237, "one big PATCH, MiB/s"),
            ("rclone", "s3-big", "mib_per_s", 360, "one big PATCH, MiB/s"),
            ("landfall", "s3-big", "cpu_s_per_gib", 3.6, "one big PATCH, CPU-s per GiB"),
            ("landfall", "s3-four", "cpu_s_per_gib", 3.6, "four at once, CPU-s per GiB"),
            ("node", "s3-browser", "cpu_s_per_gib", 3.9,
             "PATCHes of 2,000,000 bytes, CPU-s per GiB"),
            ("landfall", "s3-big", "peak_kib", 321 << 10, "peak MiB, most of all runs"),
            ("landfall-redis", "s3-four", "peak_kib", 321 << 10, "peak MiB, most of all runs"),
            ("landfall", "s3-files", "written_mib_per_gib", 0.01, "MiB written to disk per GiB"),
            ("landfall", "s3-files", "multiparts_left", 1, "unfinished multipart uploads left"),
        ]:
            with self.subTest(server=server, mode=mode, key=key):
                self.assertEqual(unmet(result({(server, mode, key): value})), ([name], False))

    def test_what_was_not_measured_is_not_met(self):
        self.assertEqual(unmet(result(missing=["aws", "rclone"])),
                         (["one big PATCH, MiB/s"], False))
        self.assertEqual(len(unmet(result(missing=["node"]))[0]), 3)
        fault = {"server": "landfall", "mode": "s3-files", "reason": "File too large"}
        self.assertIn("MiB written to disk per GiB", unmet(result(faults=[fault]))[0])

    def test_the_faster_copier_is_the_ceiling(self):
        table, _ = targets.check(result())
        self.assertIn("| 300: 1.07 × aws |", table)
        table, _ = targets.check(result(missing=["aws"]))
        self.assertIn("× rclone (missing: aws)", table)


class Tables(unittest.TestCase):
    def test_servers_and_what_is_behind_them(self):
        text = tables.peers(result())
        self.assertIn("on Garage 1, which shares them too, its data on tmpfs", text)
        self.assertIn("| one big PATCH: MiB/s | 300 | – | 110 | 280 | 170 |", text)
        self.assertIn("| local files: MiB written to disk per GiB | 0.0 | – | 3,000.0 |", text)


class Counting(unittest.TestCase):
    def test_calls_by_operation(self):
        self.assertEqual(garage.calls(METRICS), {"CompleteMultipartUpload": 1, "UploadPart": 128})

    def test_derived(self):
        mode = s3.modes(quick=True)["s3-browser"]
        run = {"bytes": 1 << 29, "behind_cpu_s": 2.0, "operations": 40, "written": 1 << 20,
               "calls": {"UploadPart": 60, "PutObject": 40}}
        s3.derive(run, mode)
        self.assertEqual((run["behind_cpu_s_per_gib"], run["calls_per_gib"]), (4.0, 200))
        self.assertEqual((run["calls_per_patch"], run["written_mib_per_gib"]), (2.5, 2.0))


class NoFiles(unittest.TestCase):
    """A server that may not write files is found out, wherever it writes."""

    def start(self, code):
        with tempfile.TemporaryDirectory() as folder:
            one = servers.Server("probe", "/", "tus", dict(os.environ, TMPDIR=folder),
                                 [sys.executable, "-c", code, "{port}", "{data}"])
            one.no_files = True
            with servers.Running(one, folder) as running:
                return running.process.poll()

    def test_files_of_every_kind(self):
        for where in ("open(sys.argv[2] + '/named', 'wb')",
                      "os.fdopen(os.open(sys.argv[2], os.O_TMPFILE | os.O_WRONLY), 'wb')",
                      "os.fdopen(os.memfd_create('x'), 'wb')"):
            with self.subTest(where=where), self.assertRaisesRegex(RuntimeError, "too large"):
                self.start(f"import os, sys\nfile = {where}\nfile.write(b'x')\nfile.flush()\n")

    def test_one_that_writes_none_may_log(self):
        self.assertIsNone(self.start(
            "import http.server, sys\nprint('x' * 100_000, flush=True)\n"
            "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), "
            "http.server.BaseHTTPRequestHandler).serve_forever()\n"))


class Copying(unittest.TestCase):
    class Copier:
        name, environment = "probe", dict(os.environ)

        def __init__(self, code):
            self.code = code

        def ask(self, _, file, key):
            return [sys.executable, "-c", self.code, file, key]

    def test_time_and_memory_of_all(self):
        began = time.perf_counter()
        wall, cpu, peak_kib = copier.run_all(
            self.Copier("import time; x = b'x' * (30 << 20); time.sleep(0.3)"), ["a", "b"], None)
        self.assertGreaterEqual(wall, 0.3)
        self.assertLess(wall, time.perf_counter() - began)
        self.assertGreater(cpu, 0)
        self.assertGreater(peak_kib, 60 << 10)

    def test_failure_is_told(self):
        with self.assertRaisesRegex(RuntimeError, "probe failed: no such bucket"):
            copier.run_all(self.Copier("import sys; sys.exit('no such bucket')"), ["a"], None)


class Behind(unittest.TestCase):
    """With the real Garage: what a server stored there is counted, and nothing stays behind."""

    def test_an_empty_bucket_of_its_own(self):
        with tempfile.TemporaryDirectory() as folder:
            probe = servers.Server("probe", "/", "tus", dict(os.environ, AWS_PROFILE="x"), ["true"])
            with s3.Bucket(probe, folder, 1) as behind:
                environment = behind.server.environment
                self.assertNotIn("AWS_PROFILE", environment)
                self.assertTrue(environment["S3_ENDPOINT"].startswith("http://127.0.0.1:"))
                behind.begin([], 0)
                figures, _ = behind.end([])
                self.assertEqual(figures["calls"], {})
                self.assertEqual(behind.after(), {"objects_per_upload": 0, "multiparts_left": 0})
                pid = behind.garage.process.pid
                self.assertGreater(proc.memory_kib([pid], "VmRSS"), 1000)
            self.assertFalse(os.path.exists(f"/proc/{pid}"))
            self.assertEqual(os.listdir(folder), [])


if __name__ == "__main__":
    unittest.main()
