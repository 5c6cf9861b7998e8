"""The driver of Landfall's benchmark: starts servers, runs the load, reads /proc, writes tables."""
