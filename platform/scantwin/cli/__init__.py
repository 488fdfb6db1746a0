"""The command line: one file per command, collected from entry points."""
