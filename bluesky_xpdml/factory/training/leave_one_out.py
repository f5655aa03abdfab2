"""How good the recipe is on measured compounds that it was not fitted to.

Each compound in turn is left out of everything that real standards enter: the edge curve, and the alignment
of the simulated classes that follows it. Leaving out a whole source with all compounds in it is harder, and
nearer to what a new laboratory meets. The answer of a compound is the mean over its spectra. To test
intervals, leave the compound out of `calibrate_intervals` too; shipped bundles use all of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bluesky_xpdml.factory.dataset.library import SiteSpectra
from bluesky_xpdml.factory.training.conformal import conformal_quantile
from bluesky_xpdml.factory.training.xanes import Intervals, XanesRecipe, train_bundle
from bluesky_xpdml.models.bundle import Bundle, manifest_sha256
from bluesky_xpdml.models.edge_model import fit_edge_models
from bluesky_xpdml.models.standards import (
    CompoundAnswer,
    MeasuredSpectrum,
    answer_compound,
    by_compound,
    edge_standards,
)
from bluesky_xpdml.vocabulary import Descriptor, Modality

UNIT_INTERVALS = Intervals(state_factor=1.0, uncalibrated_factor=1.0, length_half_width=0.1)
"""Intervals of one standard deviation, for runs whose intervals are calibrated afterwards."""


def leave_one_compound_out(
    spectra: Sequence[MeasuredSpectrum],
    sites: Mapping[str, SiteSpectra],
    recipe: XanesRecipe,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[CompoundAnswer]:
    """Predict each compound with models that were built without it, calibrated or not."""
    answers = []
    for members, bundle in left_out_folds(spectra, sites, recipe, progress):
        answers.append(answer_compound(members, bundle))
        unknown = as_uncalibrated(members)
        if answers[-1].calibrated and unknown:
            answers.append(answer_compound(unknown, bundle))
    return answers


def left_out_folds(
    spectra: Sequence[MeasuredSpectrum],
    sites: Mapping[str, SiteSpectra],
    recipe: XanesRecipe,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[tuple[list[MeasuredSpectrum], Bundle]]:
    """Yield the spectra of each compound with a bundle that was built without it.

    Intervals of the bundles are one standard deviation wide.
    """
    groups = by_compound(spectra)
    for done, members in enumerate(groups, start=1):
        known = [item for item in spectra if _name(item) != _name(members[0])]
        yield members, _built_from(known, members[0], sites, recipe)
        progress(done, len(groups))


def left_out_sources(
    spectra: Sequence[MeasuredSpectrum],
    sites: Mapping[str, SiteSpectra],
    recipe: XanesRecipe,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[tuple[list[MeasuredSpectrum], Bundle]]:
    """Yield the spectra of each source and element with a bundle built without the source.

    The compounds of the source are left out wherever else they were measured, too.
    """
    folds = sorted({(item.source, item.element) for item in spectra})
    for done, (source, element) in enumerate(folds, start=1):
        members = [item for item in spectra if (item.source, item.element) == (source, element)]
        yield members, _built_from(without_source(spectra, members), members[0], sites, recipe)
        progress(done, len(folds))


def without_source(
    spectra: Sequence[MeasuredSpectrum], members: Sequence[MeasuredSpectrum]
) -> list[MeasuredSpectrum]:
    """Return the spectra of other sources, of other compounds."""
    left_out = {_name(item) for item in members}
    return [item for item in spectra if item.source != members[0].source and _name(item) not in left_out]


def as_uncalibrated(members: Sequence[MeasuredSpectrum]) -> list[MeasuredSpectrum]:
    """Return the spectra with uncalibrated axes, without those that cannot be reduced so."""
    return [replace(item, observation=item.uncalibrated) for item in members if item.uncalibrated is not None]


def _name(item: MeasuredSpectrum) -> tuple[str, str]:
    return item.element, item.compound


def _built_from(
    known: Sequence[MeasuredSpectrum],
    asked: MeasuredSpectrum,
    sites: Mapping[str, SiteSpectra],
    recipe: XanesRecipe,
) -> Bundle:
    """Build the bundle of an element from some standards, as if there were no others."""
    element, shift = asked.element, recipe.pre_edge_shift
    standards = edge_standards(known, shift)
    model = fit_edge_models(standards, [element], pre_edge_shift=shift)[element]
    bundle = train_bundle(sites[element], model, recipe, UNIT_INTERVALS)
    named = {"name": f"{element}-xanes", "version": 0, "modality": Modality.XANES, "left_out": asked.compound}
    manifest = {**bundle.manifest, **named}
    return replace(bundle, manifest=manifest, sha256=manifest_sha256(manifest))


def calibrate_intervals(answers: Sequence[CompoundAnswer]) -> Intervals:
    """Choose the interval widths from the errors of left-out compounds."""
    known, length = [a for a in answers if a.calibrated], Descriptor.BOND_LENGTH
    measured = [a for a in known if np.isfinite(a.truth[length])]
    uncalibrated = [state_score(a) for a in answers if not a.calibrated]
    lengths = [abs(a.value[length] - a.truth[length]) for a in measured]
    return Intervals(
        state_factor=round(conformal_quantile([state_score(a) for a in known]), 4),
        uncalibrated_factor=round(conformal_quantile(uncalibrated), 4),
        length_half_width=round(conformal_quantile(lengths), 4),
    )


def state_score(answer: CompoundAnswer) -> float:
    """Return the error of the oxidation state in standard deviations of its posterior."""
    state = Descriptor.OXIDATION_STATE
    return abs(answer.value[state] - answer.truth[state]) / answer.state_sigma
