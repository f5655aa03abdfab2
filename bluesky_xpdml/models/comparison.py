"""Two bundles for the same question side by side: what they were made of, and how they were measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bluesky_xpdml.errors import BundleError
from bluesky_xpdml.models.bundle import Bundle

Leaf: TypeAlias = str | int | float | bool | None
"""A single value of a manifest; None if a bundle does not have it."""

_NAMES = ("target", "metric", "split", "subset", "modality", "compound")
"""Entries that name a row of a table in a manifest, rather than measure something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One value of two bundles."""

    name: str
    """Dotted path in the manifest."""
    first: Leaf
    second: Leaf

    @property
    def difference(self) -> float | None:
        """Second minus first; None if one of them is no number.

        Examples
        --------
        >>> Pair(name="trees", first=150, second=100).difference
        -50
        """
        values = (self.first, self.second)
        if any(isinstance(value, bool | str | None) for value in values):
            return None
        first, second = values
        return second - first  # type: ignore[operator]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Differences of two bundles for the same element, edge and modality."""

    names: tuple[str, str]
    """With their versions."""
    hashes: tuple[str, str]
    """SHA-256 of the manifests, which hold those of all other files."""
    training: tuple[Pair, ...]
    """What differs in the data: hashes of files, numbers of sites, formulas held out."""
    recipe: tuple[Pair, ...]
    """What differs in the settings of the training."""
    packages: tuple[Pair, ...]
    """Versions at training, all of them."""
    simulated: tuple[Pair, ...]
    """Scores on simulated data, all of them."""
    measured: tuple[Pair, ...]
    """Mean absolute errors on the measured compounds that both bundles were judged on."""
    n_compounds: int
    """How many compounds these are."""
    other: tuple[Pair, ...]
    """What differs in all other figures."""


def compare_bundles(first: Bundle, second: Bundle) -> Comparison:
    """Compare two bundles; a BundleError if they are not for the same element, edge and modality."""
    _require_same_question(first, second)
    bundles = (first, second)
    metrics = [_entry(bundle, "metrics") for bundle in bundles]
    measured, n_compounds = _measured([table.get("measured", []) for table in metrics])
    other = [
        {key: value for key, value in table.items() if key not in {"simulated", "measured"}}
        for table in metrics
    ]
    return Comparison(
        names=(first.name, second.name),
        hashes=(first.sha256, second.sha256),
        training=_differing(*(_entry(bundle, "training") for bundle in bundles)),
        recipe=_differing(*(_entry(bundle, "recipe") for bundle in bundles)),
        packages=_pairs(*(_entry(bundle, "packages") for bundle in bundles)),
        simulated=_pairs(*(_scores(table.get("simulated", [])) for table in metrics)),
        measured=measured,
        n_compounds=n_compounds,
        other=_differing(*other),
    )


def _require_same_question(first: Bundle, second: Bundle) -> None:
    for key in ("element", "edge", "modality"):
        values = [str(bundle.manifest.get(key, "")) for bundle in (first, second)]
        if values[0] != values[1]:
            raise BundleError(
                f"expected two bundles of the same {key}, found {values[0] or 'none'} and "
                f"{values[1] or 'none'}: only answers to the same question can be compared"
            )


def _entry(bundle: Bundle, key: str) -> Mapping[str, Any]:
    entry: Mapping[str, Any] = bundle.manifest.get(key, {})
    return entry


def _pairs(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Pair, ...]:
    """Return every single value of two mappings under its dotted path, in the order of the first."""
    flat = [dict(_flat(mapping)) for mapping in (first, second)]
    names = [*flat[0], *(name for name in flat[1] if name not in flat[0])]
    return tuple(Pair(name=name, first=flat[0].get(name), second=flat[1].get(name)) for name in names)


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Pair, ...]:
    return tuple(pair for pair in _pairs(first, second) if pair.first != pair.second)


def _flat(value: object, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """Yield the single values below a value; lists of single values stay together."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _flat(below, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, row in enumerate(value):
            yield from _flat(row, f"{path}.{_row_name(row) or number}")
    elif isinstance(value, list):
        yield path, ", ".join(str(item) for item in value)
    else:
        yield path, value if isinstance(value, str | int | float | None) else str(value)


def _row_name(row: object) -> str:
    if not isinstance(row, Mapping):
        return ""
    return " ".join(str(row[key]) for key in _NAMES if isinstance(row.get(key), str))


def _scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the scores of a bundle by what they measure."""
    return {_row_name(row): row["value"] for row in rows if isinstance(row.get("value"), int | float)}


def _measured(tables: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[tuple[Pair, ...], int]:
    """Return the mean absolute errors on the compounds that both tables hold, and how many these are."""
    rows = [{str(row["compound"]): row for row in table if "compound" in row} for table in tables]
    shared = [compound for compound in rows[0] if compound in rows[1]]
    errors = [_mean_errors([table[compound] for compound in shared]) for table in rows]
    return _pairs(*errors), len(shared)


def _mean_errors(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    errors: dict[str, list[float]] = {}
    for row in rows:
        values = row.get("value", {})
        for target, truth in row.get("truth", {}).items():
            if target in values:
                errors.setdefault(target, []).append(abs(values[target] - truth))
    return {target: sum(found) / len(found) for target, found in errors.items()}
