"""The command ``doctor``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import json

import click


def add_to(group: click.Group) -> None:
    """Add this module's command to ``group``."""
    group.add_command(doctor)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Show what this machine has, and what to do about what is missing.

    \b
    Example:
      facelatent doctor
    """
    from dataclasses import asdict

    from facelatent.doctor import examine

    findings = examine()
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        return
    for finding in findings:
        advice = f"  ({finding.advice})" if finding.advice and not finding.ok else ""
        click.echo(f"{'ok' if finding.ok else '--':<3} {finding.name:<24} {finding.seen}{advice}")
