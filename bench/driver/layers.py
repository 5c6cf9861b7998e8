"""What each layer of Landfall adds to a request: differences between servers that stop at one."""

from . import tables

MODES = ("head", "small", "small-patch")
# Each layer is what its server takes more than the one after it.
LAYERS = (
    ("landfall", "bare-hyper", "Landfall: checks, routes, engine, lock, `.info`"),
    ("bare-hyper", "bare-httparse", "hyper, beyond httparse"),
    ("bare-httparse", "bare-memory", "file system: one file"),
    ("bare-memory", None, "sockets, runtime, httparse"),
)


def costs(run):
    """Processor time of each layer in ns per request, by the kind of work; None where it was not measured."""
    def each(server, mode):
        return tables.figure(mode, "cpu_us_each").median(run["rows"], server) if server else 0.0

    def cost(outer, inner, mode):
        values = each(outer, mode), each(inner, mode)
        return None if None in values else (values[0] - values[1]) * 1000

    return [(title, [cost(outer, inner, mode) for mode in MODES]) for outer, inner, title in LAYERS]


def text(run):
    """All that is to be said of the run."""
    show = lambda value: "–" if value is None else f"{value:,.0f}"
    whole = [tables.figure(mode, "cpu_us_each").median(run["rows"], "landfall") for mode in MODES]
    rows = [["sum: Landfall", *(show(value and value * 1000) for value in whole)]]
    rows += [[title, *map(show, values)] for title, values in costs(run)]
    table = tables.grid(["CPU ns per request", *(tables.SHORT[mode] for mode in MODES)], rows)
    return f"{tables.about(run)}\n\n{table}\n\n" + "\n".join(
        [*tables.beside(run, tables.shown(run)), *tables.what(run)]) + "\n"
