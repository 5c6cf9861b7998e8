"""What bench/results.md states of the program: its commit, size and memory."""

import re
import subprocess

# The program is compiled by other linkers and with other C libraries elsewhere.
TOLERANCE = {"size: MiB installed": 0.05, "start: idle MiB resident": 0.20}


def commit(root):
    """The commit that is checked out, `-dirty` if files differ from it; None outside a repository."""
    done = subprocess.run(["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=root,
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.strip() or None


def is_ancestor(root, one):
    """Whether a commit is part of the history that is checked out."""
    return subprocess.run(["git", "merge-base", "--is-ancestor", one, "HEAD"], cwd=root,
                          stderr=subprocess.DEVNULL, check=False).returncode == 0


def read(page):
    """The commit, and the figures of Landfall by their labels, in the section of peers."""
    section = page.split("<!-- measured: peers -->")[1].split("<!-- end: peers -->")[0]
    found = re.search(r"\bcommit ([0-9a-f]+)\b", section)
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in section.splitlines() if line.startswith("|")]
    column = next(row for row in rows if row[0] == "median").index("Landfall")
    figures = {row[0]: float(row[column].replace(",", "")) for row in rows if row[0] in TOLERANCE}
    return found and found[1], figures


def differences(page, measured):
    """What the page states otherwise than measured, as lines; `measured` has the labels of TOLERANCE."""
    _, stated = read(page)
    lines = []
    for label, tolerance in TOLERANCE.items():
        if label not in stated:
            lines.append(f"{label}: not stated; measured {measured[label]:.1f}")
        elif abs(measured[label] / stated[label] - 1) > tolerance:
            lines.append(f"{label}: stated {stated[label]:.1f}, measured {measured[label]:.1f}")
    return lines
