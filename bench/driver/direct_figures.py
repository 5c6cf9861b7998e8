"""What is measured of signed requests, and the names that it has."""

from .figure import Figure
from .grant_figures import PLACES

WHAT = {"form": "GET /s3/params", "put": "POST /api/sign_s3"}  # each a row of the queue
CROWDS = {"": 16, "many_": 64}  # connections at a time, and what the names of their figures begin with
EACH = [("per_s", "per second", "{:,.0f}"), ("p50_us", "p50 µs", "{:,.0f}"),
        ("p99_us", "p99 µs", "{:,.0f}"), ("cpu_us_each", "CPU ms per 1,000", "{:,.0f}")]
SHORT = {
    "direct-part": "part URLs",
    "direct-batch": "part URLs, ten at a time",
    **{f"direct-{kind}-{where}": f"{name}, {words}"
       for kind, name in WHAT.items() for where, words in PLACES.items()},
    "direct-multipart": "multipart uploads",
}
FIGURES = [
    figure
    for mode in SHORT for which, count in CROWDS.items()
    if mode != "direct-multipart" or not which
    for figure in [
        *(Figure(mode, which + key, f"{label}, {count} connections", style, key == "per_s")
          for key, label, style in EACH),
        *([Figure(mode, "resident_mib", "MiB resident afterwards", "{:,.0f}")]
          if which == list(CROWDS)[-1] or mode == "direct-multipart" else []),
    ]
]
