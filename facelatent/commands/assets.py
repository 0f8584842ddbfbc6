"""The commands about weights and images that can be fetched: ``assets``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import json

import click


def add_to(group: click.Group) -> None:
    """Add this module's command to ``group``."""
    group.add_command(assets)


@click.group()
def assets() -> None:
    """Weights and images that facelatent can fetch: list, fetch, locate them.

    \b
    Examples:
      facelatent assets list
      facelatent assets pull all
      facelatent assets path astronaut
    """


@assets.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def assets_list(as_json: bool) -> None:
    """Show every asset with its size, its licence and whether it is cached.

    \b
    Example:
      facelatent assets list
    """
    from facelatent.assets import ASSETS, cache_dir, is_cached

    if as_json:
        rows = [
            {
                "name": a.name,
                "what": a.what,
                "licence": a.licence,
                "source": a.source,
                "size": a.size,
                "cached": is_cached(a),
            }
            for a in ASSETS
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for asset in ASSETS:
        state = "cached" if is_cached(asset) else "not cached"
        click.echo(f"{asset.name}  ({asset.size / 1e6:.1f} MB, {state})")
        click.echo(f"    {asset.what}\n    licence: {asset.licence}\n    source:  {asset.source}")
    click.echo(f"\ncache: {cache_dir()}")


@assets.command("pull")
@click.argument("names", nargs=-1, required=True, metavar="NAME...|all")
def assets_pull(names: tuple[str, ...]) -> None:
    """Fetch assets into the cache, checked; `all` for every one.

    \b
    Examples:
      facelatent assets pull face-landmarks-68
      facelatent assets pull all
    """
    from facelatent.assets import ASSETS, pull

    for name in [asset.name for asset in ASSETS] if "all" in names else names:
        pull(name, click.echo)
        click.echo(f"{name}: ready")


@assets.command("path")
@click.argument("name")
def assets_path(name: str) -> None:
    """Print where an asset lies, fetching it if needed.

    \b
    Example:
      facelatent assets path astronaut
    """
    from facelatent.assets import asset_path

    click.echo(asset_path(name, lambda line: click.echo(line, err=True)))
