"""The reference of the command line, made by typer of what `--help` says."""

import click
import typer.main
from typer.cli import get_docs_for_click

from acredssp.cli.app import command_line


def page() -> str:
    """Return the page."""
    command = typer.main.get_command(command_line())
    command.commands = {name: each for name, each in command.commands.items() if not each.hidden}
    context = click.Context(command, info_name="acredssp")
    text = get_docs_for_click(obj=command, ctx=context, name="acredssp")
    return text.replace("# `acredssp`", "# The command line: `acredssp`", 1)
