"""The command line: ``resteutils COMMAND ...`` or ``python -m resteutils COMMAND ...``."""

from resteutils.cli.commands import main

__all__ = ["main"]
