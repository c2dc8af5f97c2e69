"""The command line. Exit status: 0 fine, 1 found something, 2 wrong use. Each command imports what it needs when it runs."""

from remediator.cli.main import main

__all__ = ["main"]
