"""`demo`."""

import argparse

from remediator.demo.show import play


def demo(arguments: argparse.Namespace) -> int:
    """0 only if the service that was broken really answers again."""
    return play(keep=arguments.keep)
