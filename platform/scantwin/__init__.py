"""ScanTwin: a federated digital-twin virtual scanner. SYNTHETIC, NOT FOR DIAGNOSIS."""

from importlib.metadata import version

__version__ = version("scantwin")
NOTICE = "SYNTHETIC, NOT FOR DIAGNOSIS"
"""The notice that every output of this software carries."""
