"""What the layers cost, from made-up runs."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from driver import layers, servers, tables  # noqa: E402

MEDIANS = {"landfall": 33.0, "bare-hyper": 20.0, "bare-httparse": 17.5, "bare-memory": 15.0}


def result(modes=layers.MODES, without=()):
    rows = [{"server": name, "mode": mode, "cpu_us_each": each * share, "one_request_each": True}
            for name, each in MEDIANS.items() if name not in without
            for mode in modes for share in (0.9, 1.0, 7.0)]
    return {
        "date": "2026-01-01", "rounds": 3, "pin": None, "rows": rows, "faults": [],
        "servers": {name: {"title": servers.TITLES[name], "version": "1"} for name in layers.LAYERS},
        "machine": {"processors": 2, "processor": "P", "kernel": "6", "file_system": "tmpfs"},
        "modes": {mode: mode for mode in modes},
    }


class Layers(unittest.TestCase):
    def test_each_costs_what_it_adds_and_together_they_are_all(self):
        whole, *costs = layers.costs(result()).values()
        self.assertEqual([row[0] for row in costs], [13000.0, 2500.0, 2500.0, 15000.0])
        self.assertEqual([sum(column) for column in zip(*costs)], whole)
        self.assertEqual(whole, [33000.0] * len(layers.MODES))

    def test_what_was_not_measured_is_not_a_cost(self):
        costs = layers.costs(result(without=("bare-hyper",)))
        self.assertEqual([row[0] for row in costs.values()], [33000.0, None, None, 2500.0, 15000.0])
        _, landfall, *_ = layers.costs(result(modes=("head",))).values()
        self.assertEqual(landfall, [13000.0, None, None])

    def test_the_table(self):
        run = result()
        self.assertEqual(tables.section(run), "layers")
        text = layers.table(run)
        self.assertIn("| sum: Landfall | 33,000 | 33,000 | 33,000 |", text)
        self.assertIn("| hyper, beyond httparse | 2,500 | 2,500 | 2,500 |", text)
        self.assertIn("| HEAD: CPU µs each | 33.0 | 20.0 | 17.5 | 15.0 |", tables.peers(run))

    def test_every_server_has_a_script_and_a_layer(self):
        for name in layers.LAYERS:
            one = servers.Server.on_layer(name, {"LAYERS": "/bin/true", "LANDFALL": "/bin/true", **os.environ})
            self.assertTrue(os.access(one.script, os.X_OK), name)
            if name != "landfall":
                self.assertEqual(one.command(1, "folder"), ["/bin/true", name.removeprefix("bare-"), "1", "folder"])


if __name__ == "__main__":
    unittest.main()
