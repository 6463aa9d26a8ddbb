"""The verb that makes a page of a registry: site."""

from __future__ import annotations

from pathlib import Path

import click

from tupate_hub.cli import output


@click.command("site")
@click.option("--out", "target", type=click.Path(path_type=Path), metavar="DIR", required=True, help="The folder.")
@click.option("--title", help="The page's title. [default: the card's]")
@click.option("--location", metavar="OWNER/NAME", help="How the page's commands call the registry. [default: DIR]")
@click.option("--hub", is_flag=True, help="Let the page ask the Hub for an adapter that a visitor names.")
@output.registry_option
@output.json_option
def site_command(
    target: Path, title: str | None, location: str | None, hub: bool, registry: str | None, as_json: bool
) -> None:
    """Make a page on which people search a registry and drop adapters.

    A static page: it needs no server, loads nothing from elsewhere, and works when index.html is opened from the
    folder. `tupate-hub push --space OWNER/NAME` publishes it on the Hub.

    \b
      tupate-hub site --out ./page
      tupate-hub site --registry ./my-zoo --out ./page --location me/my-zoo
    """
    from tupate_hub.publish.site import about_site, site_files, write_site

    zoo = output.opened(registry)
    files = site_files(zoo, about_site(zoo, title, location), hub=hub)
    removed = write_site(target, files)
    sizes = {name: len(data) for name, data in files.items()}
    whole = sum(sizes.values())
    factors = sum(size for name, size in sizes.items() if "/" in name)
    index = target / "index.html"
    if as_json:
        output.document({"folder": str(target), "files": sizes, "bytes": whole, "factors": factors, "removed": removed})
        return
    output.note(
        f"{len(files)} files, {whole:,} bytes; {factors:,} of them are embeddings, which a browser loads when "
        "something is dropped"
    )
    output.text(str(index))
