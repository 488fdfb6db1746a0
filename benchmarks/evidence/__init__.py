"""`python -m benchmarks.evidence`: every system trained and measured, for docs/evidence.md."""
