"""`xpdml profile`: the known conventions, and what one of them would read from a run."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import (
    JSON,
    answer_console,
    print_json,
    print_table,
    progress_console,
    visible,
)
from bluesky_xpdml.errors import MissingDataError
from bluesky_xpdml.settings import resolve_settings

LONGEST_PLACE = 66
"""Longer descriptions of a place are cut in tables; --json has all of them."""

app = typer.Typer(help="List the conventions of beamlines, and try one on a run.", no_args_is_help=True)


@app.command(name="list", epilog="Example: xpdml profile list")
def list_profiles(*, json: bool = JSON) -> None:
    """List the profiles that the package brings, and those in the folders that XPDML_PROFILES names."""
    from bluesky_xpdml.documents.profile import load_profile, profile_file, profile_names

    rows = []
    for name in profile_names():
        profile = load_profile(name)
        kind = "step and continuous scans" if profile.fly.analog else "step scans"
        rows.append({"name": name, "absorption": kind, "file": str(profile_file(name))})
    if json:
        print_json({"profiles": rows})
        return
    print_table("", ("profile", "absorption", "file"), [list(row.values()) for row in rows])


@app.command(epilog="Example: xpdml profile check my.toml --documents run.jsonl")
def check(
    profile: Annotated[str, typer.Argument(help="Name of a profile, or the path of a .toml file.")],
    *,
    run: Annotated[str, typer.Option(help="Uid of the run; the first in the file if not given.")] = "",
    documents: Annotated[
        Path | None, typer.Option(help="File of documents, one [name, document] per line.")
    ] = None,
    tiled: Annotated[str, typer.Option(help="Address of the Tiled server that holds the run.")] = "",
    path: Annotated[str, typer.Option(help="Container of the runs on that server.")] = "raw",
    api_key: options.Key = None,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Show what a profile would read from a run, and what is missing.

    Without --documents or --tiled, only the file itself is checked. The exit status is 1 if something is
    missing that an answer needs.
    """
    from bluesky_xpdml.documents import collector_for, load_profile
    from bluesky_xpdml.documents.profile_check import check_profile

    known = load_profile(profile)
    if not tiled and documents is None:
        progress_console.print(f"{profile}: a profile that can be read; give a run to try it on")
        return
    if tiled:
        resolved = resolve_settings(settings)
        stored = _stored(tiled, api_key or resolved.api_key(), path, run)
        # Whoever wrote the run may have named any file.
        roots = resolved.scattering.root_map
        collected = _collected(stored, partial(collector_for, root_map=roots, anywhere=False), profile, run)
    else:
        from bluesky_xpdml.sources.runs import documents_in

        collected = _collected(documents_in(documents or ""), collector_for, profile, run)
    findings = check_profile(collected, known)
    if json:
        entries = [asdict(finding) | {"missing": finding.is_missing} for finding in findings]
        print_json({"profile": known.name, "run": collected.uid, "findings": entries})
    else:
        _show(findings)
    if any(finding.is_missing for finding in findings):
        raise typer.Exit(1)


def _stored(tiled: str, api_key: str | None, path: str, uid: str) -> Iterator[tuple[str, dict[str, Any]]]:
    from bluesky_xpdml.sources.runs import open_runs, stored_documents

    if not uid:
        raise MissingDataError("expected the uid of a run beside --tiled, found none: give it with --run")
    with open_runs(tiled, api_key=api_key, path=path) as runs:
        yield from stored_documents(runs, uid)


def _collected(
    documents: Iterable[tuple[str, dict[str, Any]]], collect: Callable[..., Any], profile: str, uid: str
) -> Any:
    """Return the collected run of that uid, or the first."""
    collector = None
    for name, document in documents:
        if name == "start":
            if collector is None and document.get("uid", "").startswith(uid):
                collector = collect(document, profile=profile)
            elif collector is not None:
                break
        elif collector is not None:
            collector.feed(name, document)
    if collector is None:
        raise MissingDataError(f"expected the start document of a run {uid}, found none; check the uid")
    return collector.finish()


def _show(findings: Sequence[Any]) -> None:
    rows = []
    for finding in findings:
        nothing = Text("missing", style="red") if finding.needed else Text("none", style="dim")
        rows.append([finding.what, finding.found or nothing, visible(finding.where, LONGEST_PLACE)])
    print_table("", ("what", "would be read", "where"), rows)
    for finding in findings:
        if finding.is_missing:
            answer_console.print(f"{finding.what} is missing: {finding.where}", style="red")
