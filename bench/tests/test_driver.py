"""The driver's own arithmetic."""

import os
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from driver import proc, servers, tables, targets  # noqa: E402


def result(landfall=None, missing=(), faults=()):
    """A side-by-side result in which Landfall meets every target, unless changed."""
    medians = {
        "bare-loop": {"big": 0.5, "four": 0.5, "browser": 0.4, "small": (60000, 500), "head": 100000},
        "rustus": {"big": 1.1, "four": 1.1, "browser": 0.54, "small": (14000, 2400), "small-patch": 7000,
                   "head": 40000},
        "node": {"big": 1.6, "four": 1.6, "browser": 2.4, "small": (2000, 20000), "small-patch": 1000, "head": 6000},
        "nginx": {"big": 0.9, "four": 0.9, "browser": 0.9, "small": (26000, 1200), "small-patch": 20000,
                  "head": 85000},
        "landfall": {"big": 0.28, "four": 0.3, "browser": 0.28, "small": (36000, 900), "small-patch": 19000,
                     "head": 95000, "slow": 4.5, "idle": 0.9, "peak": 11.0, "start": 6.0} | (landfall or {}),
    }
    rows = []
    for name, modes in medians.items():
        if name in missing:
            continue
        for mode, value in modes.items():
            for share in (0.9, 1.0, 7.0):  # the median is 1.0, the mean is not
                row = {"server": name, "mode": mode, "one_request_each": True}
                if mode in ("big", "four", "browser"):
                    row["cpu_s_per_gib"] = value * share
                elif mode == "small":
                    row["per_s"], row["p99_us"] = (one * share for one in value)
                elif mode in ("small-patch", "head"):
                    row["per_s"] = value * share
                elif mode in ("slow", "idle"):
                    row["kib_per_connection"] = value * share
                else:
                    row["idle_kib" if mode == "start" else "peak_kib"] = value * share * 1024
                rows.append(row)
    described = {name: {"title": servers.TITLES.get(name, name), "version": f"{name} 1"}
                 for name in ("landfall", "bare-loop", "rustus", "node", "nginx")}
    for name in missing:
        described[name] = {"title": name, "missing": "no network"}
    return {
        "date": "2026-01-01", "rounds": 3, "pin": None, "servers": described, "rows": rows,
        "machine": {"processors": 2, "processor": "P", "kernel": "6", "file_system": "tmpfs"},
        "modes": {"big": "1 GiB"}, "faults": list(faults),
    }


def verdicts(run):
    table, met = targets.check(run)
    lines = [[cell.strip() for cell in line.strip("|").split("|")]
             for line in table.splitlines()[2:]]
    return {line[0]: line[-1] for line in lines}, {line[0]: line[-2] for line in lines}, met


class Targets(unittest.TestCase):
    def test_all_met(self):
        met, _, good = verdicts(result())
        self.assertTrue(good)
        peers = ["2,000,000-byte PATCHes, and peers", "small uploads, p99 µs, and peers",
                 *(f"{work}, and rustus" for work in ("small uploads per second", "POST + PATCH", "HEAD per second"))]
        self.assertEqual({name for name, met in met.items() if met == "yes"}, set(peers))
        self.assertEqual({met for name, met in met.items() if name not in peers}, {"yes, and the aim"})

    def test_each_can_be_missed(self):
        for change, work in [
            ({"big": 0.43}, ["one big PATCH, CPU-s per GiB"]),
            ({"four": 0.48}, ["four at once, CPU-s per GiB"]),
            ({"browser": 0.39}, ["2,000,000-byte PATCHes, CPU-s per GiB"]),
            ({"browser": 0.55}, ["2,000,000-byte PATCHes, CPU-s per GiB", "2,000,000-byte PATCHes, and peers"]),
            ({"small": (29000, 900)}, ["small uploads per second", "small uploads per second, and rustus"]),
            ({"small": (36000, 1300)}, ["small uploads, p99 µs"]),
            ({"small": (36000, 2500)}, ["small uploads, p99 µs", "small uploads, p99 µs, and peers"]),
            ({"small-patch": 14900}, ["POST + PATCH, uploads per second", "POST + PATCH, and rustus"]),
            ({"head": 76000}, ["HEAD per second", "HEAD per second, and rustus"]),
            ({"slow": 7.1}, ["KiB per slow connection"]),
            ({"idle": 1.3}, ["KiB per idle connection"]),
            ({"peak": 14.1}, ["peak MiB, one 4 GiB upload"]),
            ({"start": 9.5}, ["idle MiB"]),
        ]:
            with self.subTest(work=work):
                met, _, good = verdicts(result(change))
                self.assertFalse(good)
                self.assertEqual([name for name, met in met.items() if met == "no"], work)

    def test_aim_apart_from_must(self):
        met, text, good = verdicts(result({"big": 0.42, "head": 93500}))
        self.assertTrue(good)
        self.assertEqual(met["one big PATCH, CPU-s per GiB"], "yes, not the aim")
        self.assertEqual(met["HEAD per second"], "yes, and the aim")
        self.assertIn("0.84 × bare loop", text["one big PATCH, CPU-s per GiB"])
        self.assertIn("1.10 × nginx", text["HEAD per second"])

    def test_without_rustus_it_is_not_met(self):
        met, text, good = verdicts(result(missing=["rustus"]))
        self.assertFalse(good)
        self.assertEqual(met["small uploads per second, and rustus"], "no")
        self.assertIn("not measured", text["small uploads per second, and rustus"])
        self.assertIn("missing: rustus", text["small uploads, p99 µs, and peers"])

    def test_a_fault_is_no_measurement(self):
        fault = {"server": "landfall", "mode": "slow", "reason": "cut"}
        met, text, good = verdicts(result(faults=[fault]))
        self.assertFalse(good)
        self.assertEqual(met["KiB per slow connection"], "no")
        self.assertIn("landfall failed at slow", text["KiB per slow connection"])


class Tables(unittest.TestCase):
    def test_medians_and_ratios(self):
        text = tables.peers(result())
        self.assertIn("| one big PATCH: CPU-s per GiB | 0.280 | 0.500 | 1.100 |", text)
        self.assertIn("| one big PATCH: CPU-s per GiB ↓ | 0.56 | 0.25 |", text)
        self.assertIn("| HEAD: per second ↑ | 0.95 | 2.38 |", text)

    def test_missing_and_failed_are_said(self):
        fault = {"server": "node", "mode": "big", "reason": "PATCH answered 500"}
        text = tables.peers(result(missing=["rustus"], faults=[fault]))
        self.assertIn("| 0.280 | 0.500 | missing | failed |", text)
        self.assertIn("- rustus: **missing** (no network)", text)
        self.assertIn("- node, big: PATCH answered 500", text)


class Processes(unittest.TestCase):
    def test_cpu_of_another_process(self):
        used = proc.cpu_seconds([os.getpid()])
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass
        self.assertAlmostEqual(proc.cpu_seconds([os.getpid()]) - used, 0.05, delta=0.02)

    def test_share_in_the_kernel(self):
        before = proc.ticks([os.getpid()])
        self.assertIsNone(proc.kernel_share(before, before))
        until = time.process_time() + 0.3
        while time.process_time() < until:
            sum(range(10_000))
        self.assertLess(proc.kernel_share(before, proc.ticks([os.getpid()])), 0.5)

    def test_tree_has_children(self):
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
        try:
            self.assertIn(child, proc.tree(os.getpid()))
            self.assertGreater(proc.memory_kib([child], "VmRSS"), 100)
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)

    def test_file_system(self):
        self.assertEqual(proc.file_system("/proc/self"), "proc")


class GivenServers(unittest.TestCase):
    def test_command_and_path(self):
        one = servers.Server.given("x=run --addr 127.0.0.1:{port} -d {data}:/up/", {})
        self.assertEqual((one.name, one.path, one.kind), ("x", "/up/", "tus"))
        self.assertEqual(one.command(7, "/d"), ["run", "--addr", "127.0.0.1:7", "-d", "/d"])
        put = servers.Server.given("x=run {port} {data}:/up/:put", {})
        self.assertEqual((put.path, put.kind), ("/up/", "put"))

    def test_what_is_not_understood_is_refused(self):
        for text in ("x", "x=run:/files/", "=run {port} {data}:/files/", "x=run {port} {data}"):
            with self.subTest(text=text), self.assertRaises(SystemExit):
                servers.Server.given(text, {})


if __name__ == "__main__":
    unittest.main()
