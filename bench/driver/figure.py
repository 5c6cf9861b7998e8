"""A row of the tables."""

import statistics


class Figure:
    """One row of the tables: where its values are, how they are shown, and which way is better."""

    def __init__(self, mode, key, label, style, high=False, scale=1.0):
        self.mode, self.key, self.label = mode, key, label
        self.style, self.high, self.scale = style, high, scale

    def median(self, rows, server):
        """The median over the rounds in the shown unit, or None."""
        values = [row[self.key] for row in rows
                  if row["server"] == server and row["mode"] == self.mode and self.key in row]
        return statistics.median(values) * self.scale if values else None

    def show(self, value):
        """The value as text."""
        return self.style.format(value)


REQUEST = [("per_s", "per second"), ("p50_us", "p50 µs"), ("p99_us", "p99 µs"),
           ("cpu_us_each", "CPU µs each")]
