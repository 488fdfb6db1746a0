"""Volumes, studies, SUV, body, districts and pictures. No torch here."""
