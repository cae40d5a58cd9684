"""The tables of docs/results.md, from the files: ``python -m benchmarks.results``."""
