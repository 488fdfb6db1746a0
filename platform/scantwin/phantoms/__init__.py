"""Parametric patients and cohorts of them, scanners with a site's faults, and QC objects. No torch here."""
