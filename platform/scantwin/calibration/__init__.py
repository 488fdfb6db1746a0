"""Measures a scanner's calibration and charts it. No torch here."""
