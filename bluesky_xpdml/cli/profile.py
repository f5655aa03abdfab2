"""`xpdml profile`: which conventions are known, and what one of them would read from a run."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, answer_console, print_json, print_table, progress_console
from bluesky_xpdml.errors import MissingDataError

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
        Path | None, typer.Option(help="File of documents, one [name, document] a line.")
    ] = None,
    tiled: Annotated[str, typer.Option(help="Address of the Tiled server that holds the run.")] = "",
    path: Annotated[str, typer.Option(help="Container of the runs on that server.")] = "raw",
    api_key: options.ApiKey = None,
    json: bool = JSON,
) -> None:
    """Say what a profile would read from a run, and what is missing.

    Without --documents or --tiled, only the file itself is checked. The exit status is 1 where something is
    missing that an answer needs.
    """
    from bluesky_xpdml.documents import load_profile
    from bluesky_xpdml.documents.profile_check import check_profile

    known = load_profile(profile)
    if not tiled and documents is None:
        progress_console.print(f"{profile}: a profile that can be read; give a run to try it on")
        return
    if tiled:
        collected = _collected(_stored(tiled, api_key, path, run), profile, run)
    else:
        from bluesky_xpdml.sources.jsonl import documents_in

        collected = _collected(documents_in(documents or ""), profile, run)
    findings = check_profile(collected, known)
    if json:
        said = [asdict(finding) | {"missing": finding.is_missing} for finding in findings]
        print_json({"profile": known.name, "run": collected.uid, "findings": said})
    else:
        _show(findings)
    if any(finding.is_missing for finding in findings):
        raise typer.Exit(1)


def _stored(tiled: str, api_key: str | None, path: str, uid: str) -> Iterator[tuple[str, dict[str, Any]]]:
    from bluesky_xpdml.sources.stored import open_runs, stored_documents

    if not uid:
        raise MissingDataError("expected the uid of a run beside --tiled, found none: give it with --run")
    with open_runs(tiled, api_key=api_key, path=path) as runs:
        yield from stored_documents(runs, [uid])


def _collected(told: Iterable[tuple[str, dict[str, Any]]], profile: str, uid: str) -> Any:
    """Collect the run that is meant: the one of that uid, or the first."""
    from bluesky_xpdml.documents import collector_for

    collector = None
    for name, document in told:
        if name == "start":
            if collector is None and document.get("uid", "").startswith(uid):
                collector = collector_for(document, profile=profile)
            elif collector is not None:
                break
        elif collector is not None:
            collector.feed(name, document)
    if collector is None:
        raise MissingDataError(f"expected the start document of a run {uid}, found none; check the uid")
    return collector.finish()


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_PLACE else f"{text[:LONGEST_PLACE]} ..."


def _show(findings: Sequence[Any]) -> None:
    rows = []
    for finding in findings:
        nothing = "[red]missing[/]" if finding.needed else "[dim]none[/]"
        rows.append([finding.what, escape(finding.found) or nothing, escape(_shortened(finding.where))])
    print_table("", ("what", "would be read", "where"), rows)
    for finding in findings:
        if finding.is_missing:
            line = f"{finding.what} is missing: {finding.where}"
            answer_console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
