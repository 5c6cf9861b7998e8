"""The Markdown of a run with grants."""

from .grant_figures import COMPARED, TABLES
from .tables import about, beside, figure, grid, what


def grants(run):
    """All that is to be said of it."""
    tried = {entry["mode"] for entry in run["rows"] + run["faults"]}
    text = [about(run), ""]
    compared = [one for one in COMPARED if one.mode in tried]
    text += beside(run, compared) if compared else []
    for title, head, rows in TABLES:
        rows = [(label, cells) for label, cells in rows
                if any(mode in tried for mode, _ in cells)]
        if rows:
            text += [f"{title}:", "", grid(head, [
                [label, *(cell(run, *one) for one in cells)] for label, cells in rows]), ""]
    return "\n".join([*text, *what(run)]) + "\n"


def cell(run, mode, key):
    """A figure of Landfall, or of the one server that was measured in its place."""
    server = next(iter(run["servers"]))
    if any((fault["server"], fault["mode"]) == (server, mode) for fault in run["faults"]):
        return "failed"
    one = figure(mode, key)
    value = one.median(run["rows"], server)
    return "–" if value is None else one.show(value)
