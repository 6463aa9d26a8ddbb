"""The verb doctor: what this installation has, and what it lacks for which command."""

from __future__ import annotations

import click

from tupate_hub.cli import output
from tupate_hub.errors import WorkFailed


@click.command("doctor")
@output.registry_option
@output.json_option
def doctor_command(registry: str | None, as_json: bool) -> int:
    """Say what this installation has, and what is missing for which command.

    Versions, devices, caches and their sizes, where the base model would come from, the registry in use. Nothing is
    fetched or changed. The exit code is 0 unless the core itself is broken.

    \b
      tupate-hub doctor
      tupate-hub doctor --json
    """
    from tupate_hub.diagnosis import as_facts, diagnose

    found = diagnose(registry)
    if as_json:
        output.document(as_facts(found))
        return WorkFailed.exit_code if found.broken else 0
    output.lines(
        [
            ("tupate-hub", f"{found.tupate_hub}{' (a checkout)' if found.checkout else ''}"),
            ("python", found.python),
            ("system", found.system),
            *((one.name, _version(one.version, one.wrong)) for one in found.packages),
            ("cores", f"{found.cores}{f', OMP_NUM_THREADS={found.threads}' if found.threads else ''}"),
            ("devices", ", ".join(found.devices) or "none: torch is not installed"),
            *((f"{one.name} cache", f"{one.folder}: {one.files} files, {_size(one.bytes)}") for one in found.caches),
            ("base model", found.base),
            ("registry", found.registry),
        ]
    )
    for reason in found.broken:
        output.note(f"broken: {reason}")
    for lack in found.lacks:
        output.note(f"missing: {lack.what}, for {lack.needed_for}")
        output.note(f"  {lack.command}{f'   ({lack.note})' if lack.note else ''}")
    if not (found.broken or found.lacks):
        output.note("nothing is missing")
    return WorkFailed.exit_code if found.broken else 0


def _version(version: str | None, wrong: str) -> str:
    if version is None:
        return "not installed"
    return f"{version}: {wrong}" if wrong else version


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
