"""The command line: one file a command, collected from entry points."""
