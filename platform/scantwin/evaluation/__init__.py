"""Metrics as METRICS.md defines them, the simple references, and the report."""
