"""Measuring a scanner's calibration and charting it. No torch here."""
