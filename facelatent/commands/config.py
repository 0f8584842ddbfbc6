"""The commands about the command line itself: ``config`` and ``completion``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import click

from facelatent.commands.config_file import EXAMPLE, config_path


def add_to(group: click.Group) -> None:
    """Add this module's commands to ``group``."""
    group.add_command(config)
    group.add_command(completion)


@click.command()
def config() -> None:
    """Show where the config file is, and what it says.

    It holds your own defaults of options, in a table for each command. FACELATENT_CONFIG names another file; set to
    nothing, none is read.

    \b
    Example:
      facelatent config
    """
    path = config_path()
    if path is None:
        click.echo("no config file is read: FACELATENT_CONFIG is empty")
    elif path.is_file():
        click.echo(f"config: {path}\n\n{path.read_text(encoding='utf-8').rstrip()}")
    else:
        click.echo(f"config: {path} (does not exist)\n\nIt could say:\n\n{EXAMPLE.rstrip()}")


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands, options, files and attributes.

    \b
    Examples:
      eval "$(facelatent completion bash)"                # in ~/.bashrc
      eval "$(facelatent completion zsh)"                 # in ~/.zshrc
      facelatent completion fish > ~/.config/fish/completions/facelatent.fish
    """
    from click.shell_completion import get_completion_class

    writer = get_completion_class(shell)
    assert writer is not None
    click.echo(writer(context.find_root().command, {}, "facelatent", "_FACELATENT_COMPLETE").source())
