"""One page per file; each has `show()`."""
