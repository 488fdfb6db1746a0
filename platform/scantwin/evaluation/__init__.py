"""Metrics as sources.md, 6 defines them, the simple references, and the report."""
