"""What each layer of Landfall adds to a request: differences between servers with ever fewer layers."""

from . import tables

MODES = ("head", "small", "small-patch")
# The servers, and the layer that each has and the next one has not.
LAYERS = {
    "landfall": "Landfall: checks, routes, engine, lock, `.info`",
    "bare-hyper": "hyper, beyond httparse",
    "bare-httparse": "file system: one file",
    "bare-memory": "sockets, runtime, httparse",
}


def costs(run):
    """Processor time in ns per request, by the kind of work: of Landfall, then of each layer; None where it was
    not measured."""
    def each(server, mode):
        value = tables.figure(mode, "cpu_us_each").median(run["rows"], server)
        return None if value is None else value * 1000

    def less(outer, inner):
        return None if None in (outer, inner) else outer - inner

    columns = []
    for mode in MODES:
        values = [each(server, mode) for server in LAYERS]
        columns.append([values[0], *map(less, values, [*values[1:], 0.0])])
    return dict(zip(["sum: Landfall", *LAYERS.values()], map(list, zip(*columns))))


def table(run):
    """The costs as a table."""
    show = lambda value: "–" if value is None else f"{value:,.0f}"
    return tables.grid(["CPU ns per request", *(tables.SHORT[mode] for mode in MODES)],
                       [[title, *map(show, values)] for title, values in costs(run).items()]) + "\n"
