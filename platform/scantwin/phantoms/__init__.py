"""Parametric patients, scanners with a site's faults, QC objects and cohorts of them. No torch here."""
