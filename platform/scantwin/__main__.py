"""`python -m scantwin` is `scantwin`."""

from scantwin.cli.main import main

if __name__ == "__main__":
    main()
