"""How long things take, each beside its peer in the same run: ``python -m benchmarks.NAME`` in the project's folder."""
