"""The dashboard: the consortium, its rounds, its sites' calibration and its scans, read and never written."""
