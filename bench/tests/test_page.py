"""The figures of docs/benchmarks.md are those of the lab book and of its results."""

import os
import re
import sys
import unittest

BENCH = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, BENCH)

from driver import page  # noqa: E402


def text(*path):
    with open(os.path.join(BENCH, *path)) as file:
        return file.read()


def section(of, heading):
    return of.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def figures(of):
    """The numbers in a text, as they are written."""
    return set(re.findall(r"\d[\d,.]*\d|\d", of))


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.page, cls.book = text("..", "docs", "benchmarks.md"), text("results.md")

    def test_the_comparison_follows_from_the_results(self):
        table = self.page.split(page.BEGIN)[1].split(page.END)[0].strip()
        self.assertEqual(table, page.table(os.path.join(BENCH, "results")))

    def test_other_tables_have_figures_of_the_lab_book(self):
        for heading, chapters in {
            "On S3": ["On S3"],
            "On Google Cloud Storage and Azure": ["On Google Cloud Storage and Azure"],
            "TLS, HTTP/2 and HTTP/3": ["TLS, HTTP/2 and HTTP/3"],
            "What options cost": ["What durability costs on a disk", "With hooks", "With grants"],
        }.items():
            known = figures("".join(section(self.book, one) for one in chapters))
            rows = [line for line in section(self.page, heading).splitlines() if line.startswith("|")]
            # The first column names the work.
            cells = " ".join(" ".join(row.split("|")[2:]) for row in rows)
            unknown = figures(re.sub(r"HTTP/\d[.\d]*|S3|p50", "", cells)) - known
            self.assertEqual(unknown, set(), heading)

    def test_it_is_one_page(self):
        self.assertLessEqual(len(self.page.splitlines()), 250)
        self.assertNotRegex(self.page, r"\bmissing\b|\bcommit [0-9a-f]{7}")


if __name__ == "__main__":
    unittest.main()
