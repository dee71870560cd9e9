"""The `workbook` command: one module per group of commands, heavy imports inside the commands."""

from core.cli.app import main

__all__ = ["main"]
