"""Tests of what bench/results.md states of the program."""

import os
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench"))

from driver import stated  # noqa: E402

PAGE = """<!-- measured: peers -->

2026-01-01, Landfall at commit 0123abc

| median | bare loop | Landfall |
| --- | --- | --- |
| start: idle MiB resident | 2.6 | 15.0 |
| size: MiB installed | 0.7 | 1,030.0 |
<!-- end: peers -->"""


class Stated(unittest.TestCase):
    def test_page(self):
        with open(os.path.join(ROOT, "bench", "results.md")) as file:
            commit, figures = stated.read(file.read())
        self.assertTrue(commit and stated.is_ancestor(ROOT, commit), f"unknown commit {commit}")
        self.assertEqual(set(figures), set(stated.TOLERANCE))

    def test_unknown_commit(self):
        self.assertFalse(stated.is_ancestor(ROOT, "0" * 40))

    def test_differences(self):
        self.assertEqual(stated.read(PAGE)[0], "0123abc")
        same = {"start: idle MiB resident": 16.0, "size: MiB installed": 1020.0}
        self.assertEqual(stated.differences(PAGE, same), [])
        larger = {"start: idle MiB resident": 19.0, "size: MiB installed": 1120.0}
        self.assertEqual(len(stated.differences(PAGE, larger)), 2)
        unstated = PAGE.replace("size: MiB installed", "size")
        self.assertEqual(len(stated.differences(unstated, same)), 1)


if __name__ == "__main__":
    unittest.main()
