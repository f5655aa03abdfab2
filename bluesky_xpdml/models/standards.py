"""Measured spectra of compounds with known labels, and what the models answer for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.edge_fit import Standard
from bluesky_xpdml.models.observation import XanesObservation
from bluesky_xpdml.models.xanes_answers import descriptors, edge_curve_state


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSpectrum:
    """One measured spectrum of a compound with known labels; NaN where a label is not known."""

    element: str
    compound: str
    file: str
    source: str
    """Which collection it is from."""
    valence: float
    coordination_number: float
    bond_length: float
    stated_offset: float | None
    """What its axis is known to be off by [eV]; None where nothing tells it."""
    observation: XanesObservation
    uncalibrated: XanesObservation | None
    """What it shows where nothing is said of its axis; None where it cannot be read so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompoundAnswer:
    """Truth and answers for one compound, means over its spectra."""

    element: str
    compound: str
    n_spectra: int
    calibrated: bool
    """Whether any of its axes was on the foil's scale."""
    truth: Mapping[str, float]
    """By descriptor; NaN where not known."""
    value: Mapping[str, float]
    state_sigma: float
    """Standard deviation of the oxidation state's posterior [e]."""
    edge_curve: float
    """Oxidation state by the edge position alone: the baseline [e]."""
    number_low: float
    number_high: float
    """Interval of the coordination number."""


def edge_standards(spectra: Sequence[MeasuredSpectrum], pre_edge_shift: float) -> list[Standard]:
    """Return one standard a compound: the mean edge of its spectra on a calibrated axis.

    Compounds without any calibrated axis give none.

    Parameters
    ----------
    spectra
        Measured spectra with labels.
    pre_edge_shift
        Added to an edge for every edge step of pre-edge peak [eV].
    """
    return [
        Standard(
            element=members[0].element,
            compound=members[0].compound,
            valence=members[0].valence,
            edge=float(np.mean([w.edge + pre_edge_shift * w.pre_edge_peak for w in observations])),
        )
        for members in by_compound([item for item in spectra if item.observation.calibrated])
        for observations in [[member.observation for member in members]]
    ]


def by_compound(spectra: Sequence[MeasuredSpectrum]) -> list[list[MeasuredSpectrum]]:
    """Group spectra by element and compound, in sorted order."""
    groups: dict[tuple[str, str], list[MeasuredSpectrum]] = {}
    for item in spectra:
        groups.setdefault((item.element, item.compound), []).append(item)
    return [groups[key] for key in sorted(groups)]


def answer_compound(members: Sequence[MeasuredSpectrum], bundle: Bundle) -> CompoundAnswer:
    """Answer one compound: the mean over its spectra.

    Parameters
    ----------
    members
        Its spectra.
    bundle
        Models whose intervals are one standard deviation wide.
    """
    predicted = [descriptors(bundle, member.observation) for member in members]
    states = [answer["oxidation_state"] for answer in predicted]
    numbers = [answer["coordination_number"] for answer in predicted]
    first = members[0]
    return CompoundAnswer(
        element=first.element,
        compound=first.compound,
        n_spectra=len(members),
        calibrated=any(member.observation.calibrated for member in members),
        truth={
            "oxidation_state": first.valence,
            "coordination_number": first.coordination_number,
            "bond_length": first.bond_length,
        },
        value={
            name: float(np.mean([answer[name].value for answer in predicted]))
            for name in ("oxidation_state", "coordination_number", "bond_length")
        },
        state_sigma=float(np.mean([state.high - state.value for state in states])),
        edge_curve=float(np.mean([edge_curve_state(bundle, member.observation) for member in members])),
        number_low=float(np.mean([number.low for number in numbers])),
        number_high=float(np.mean([number.high for number in numbers])),
    )
