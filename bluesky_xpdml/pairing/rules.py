"""Which spectrum and which pair distribution function are of one sample: the rules, without server or models.

Two answers belong together if they are of one element, their raw runs began within a settable time of each
other, and they agree in the first of these that applies:

====================  ==================================================================================
the planner's trial   both carry one: campaign and id are the same; samples and keys may differ
the user's key        one is set: both carry the same value
the sample's uid      both have one
the sample's name     at most one of them has a uid
====================  ==================================================================================

One name with two uids, and compositions of other elements, contradict each other: the joint answer is a
failure that states so. One sample with two ratios of the same elements is answered as suspect.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from math import nan

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.publish import PublishedPrediction
from bluesky_xpdml.publish.documents import plain_key
from bluesky_xpdml.reduction.composition import atom_fractions
from bluesky_xpdml.settings import PairingSettings
from bluesky_xpdml.vocabulary import Reason, ReasonCode, Technique

SAME_FRACTION = 0.005
"""Fractions of the atoms that differ by no more are the same: formulas are rounded."""


class Agreement(StrEnum):
    """What two answers agree in, as joint answers publish it."""

    TRIAL = "trial"
    KEY = "key"
    SAMPLE_UID = "sample uid"
    SAMPLE_NAME = "sample name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A spectrum and a pair distribution function that belong together, or contradict each other."""

    xanes: PublishedPrediction
    pdf: PublishedPrediction
    by: Agreement
    contradictions: tuple[Reason, ...] = ()
    """Why they cannot be of one sample."""
    doubts: tuple[Reason, ...] = ()
    """Why they may not be of one sample."""
    notes: tuple[Reason, ...] = ()
    n_candidates: int = 1
    """Number of runs from which the nearest was chosen."""

    @property
    def apart(self) -> float:
        """Time between the starts of the raw runs [s], positive."""
        return abs(start_time(self.xanes) - start_time(self.pdf))

    @property
    def rank(self) -> int:
        """0 if both have an answer, 1 if one has failed, 2 if they contradict each other."""
        return 2 if self.contradictions else int(self.xanes.failed or self.pdf.failed)

    @property
    def element(self) -> str:
        """The metal; a failed measurement may not state it."""
        return self.xanes.element or self.pdf.element

    @property
    def raw_uids(self) -> tuple[str, ...]:
        """Start uids of the raw runs of both."""
        return tuple(dict.fromkeys((*self.xanes.raw_uids, *self.pdf.raw_uids)))

    @property
    def source(self) -> str:
        """File names or scan ids of both."""
        sources = (each.start.get("source") for each in (self.xanes, self.pdf))
        return " + ".join(str(source) for source in sources if source)

    @property
    def completeness(self) -> float:
        """The lower one of both."""
        return min(self.xanes.completeness, self.pdf.completeness)

    def other(self, single: PublishedPrediction) -> PublishedPrediction:
        """Return the partner of one of the two."""
        return self.pdf if single.uid == self.xanes.uid else self.xanes


def start_time(prediction: PublishedPrediction) -> float:
    """Return when the raw run began [s since 1970]; NaN if it is not stated."""
    return nan if prediction.origin.time is None else prediction.origin.time


def key_of(prediction: PublishedPrediction, settings: PairingSettings) -> str:
    """Return the user's key of a prediction; empty if none is set or carried."""
    return prediction.origin.keys.get(plain_key(settings.key), "")


def trial_of(prediction: PublishedPrediction) -> tuple[str, str] | None:
    """Return campaign and id of the trial of a prediction; None if no planner requested it."""
    trial = prediction.origin.trial
    campaign, identifier = str(trial.get("campaign", "")), str(trial.get("id", ""))
    return (campaign, identifier) if campaign and identifier else None


def can_be_paired(prediction: PublishedPrediction, settings: PairingSettings) -> bool:
    """Return whether a prediction can be half of a pair: one measurement with a known start time.

    Answers of a series of repeats cannot: each of its runs has an answer of its own. Nor can those of another
    kind of differential function than the modality has.
    """
    curve = settings.modality.curve
    return (
        prediction.technique in settings.techniques
        and prediction.origin.time is not None
        and bool(prediction.raw_uids)
        and "repeats" not in prediction.settings
        and (prediction.technique is Technique.XANES or prediction.settings.get("modality", curve) == curve)
    )


def ranked(
    single: PublishedPrediction, candidates: Iterable[PublishedPrediction], settings: PairingSettings
) -> list[Match]:
    """Return the matches of a prediction among candidates, the best first.

    Those without contradiction and failure come first, of these the nearest in time.
    """
    found = [match for match in (_match(single, each, settings) for each in candidates) if match is not None]

    def order(match: Match) -> tuple[int, float, float, str]:
        partner = match.other(single)
        return match.rank, match.apart, start_time(partner), partner.uid

    return sorted(found, key=order)


def _match(
    single: PublishedPrediction, other: PublishedPrediction, settings: PairingSettings
) -> Match | None:
    if {single.technique, other.technique} != set(settings.techniques):
        return None
    xanes, pdf = (single, other) if single.technique is Technique.XANES else (other, single)
    in_time = abs(start_time(xanes) - start_time(pdf)) <= settings.within
    by = _agreement(xanes, pdf, settings)
    if not (in_time and by and _of_one_element(xanes, pdf) and can_be_paired(other, settings)):
        return None
    identity = tuple(_two_uids(xanes, pdf))
    found = _with_compositions(Match(xanes=xanes, pdf=pdf, by=by))
    if by is Agreement.SAMPLE_NAME:
        return replace(found, contradictions=(*identity, *found.contradictions))
    return replace(found, doubts=(*identity, *found.doubts)) if by is Agreement.KEY else found


def _of_one_element(xanes: PublishedPrediction, pdf: PublishedPrediction) -> bool:
    """Return whether two answers are of one metal; a failed one may not state it."""
    unknown = [each for each in (xanes, pdf) if not each.element]
    return xanes.element == pdf.element or bool(unknown and all(each.failed for each in unknown))


def _agreement(
    xanes: PublishedPrediction, pdf: PublishedPrediction, settings: PairingSettings
) -> Agreement | None:
    """Return what two answers agree in; None if they do not belong together."""
    trials = [trial_of(each) for each in (xanes, pdf)]
    if all(trials):
        return Agreement.TRIAL if trials[0] == trials[1] else None
    if settings.key:
        keys = [key_of(each, settings) for each in (xanes, pdf)]
        return Agreement.KEY if keys[0] and keys[0] == keys[1] else None
    one, other = xanes.sample, pdf.sample
    if one.uid and one.uid == other.uid:
        return Agreement.SAMPLE_UID
    return Agreement.SAMPLE_NAME if one.name and one.name == other.name else None


def _two_uids(xanes: PublishedPrediction, pdf: PublishedPrediction) -> Iterator[Reason]:
    one, other = xanes.sample, pdf.sample
    if one.uid and other.uid and one.uid != other.uid:
        named = f"both are called {one.name}" if one.name == other.name else "they count as one sample"
        yield Reason(
            f"two samples or one? The spectrum is of sample {one.uid}, the PDF of {other.uid}, and {named}: "
            "give one sample one uid, or two samples two names",
            ReasonCode.PAIR_CONTRADICTED,
        )


def _with_compositions(match: Match) -> Match:
    """Return a match with the differences of its compositions, compared as formulas rather than as text."""
    texts = (match.xanes.sample.composition, match.pdf.sample.composition)
    if not all(texts):
        return match
    try:
        one, other = (atom_fractions(text) for text in texts)
    except ReductionError as error:
        text = f"the compositions of the two runs were not compared: {error}"
        return replace(match, notes=(Reason(text, ReasonCode.PAIR_UNCERTAIN),))
    found = f"the spectrum is of {texts[0]}, the PDF of {texts[1]}"
    if set(one) != set(other):
        text = f"two samples? {found}: correct the composition, or the sample's name or uid"
        return replace(match, contradictions=(Reason(text, ReasonCode.PAIR_CONTRADICTED),))
    if any(abs(one[symbol] - other[symbol]) > SAME_FRACTION for symbol in one):
        text = f"one sample with two compositions: {found}: correct one of them"
        return replace(match, doubts=(Reason(text, ReasonCode.PAIR_UNCERTAIN),))
    return match


class CandidateIndex:
    """Predictions of single measurements, by what others may agree with them in."""

    def __init__(self, singles: Iterable[PublishedPrediction], settings: PairingSettings) -> None:
        self._settings = settings
        self._by_label: dict[tuple[str, ...], list[PublishedPrediction]] = {}
        for single in singles:
            for label in self._labels(single):
                self._by_label.setdefault((single.technique, *label), []).append(single)

    def candidates(self, single: PublishedPrediction) -> list[PublishedPrediction]:
        """Return those that may belong to a prediction."""
        techniques = [each for each in self._settings.techniques if each is not single.technique]
        found = {
            each.uid: each
            for technique in techniques
            for label in self._labels(single)
            for each in self._by_label.get((technique, *label), ())
        }
        return list(found.values())

    def _labels(self, single: PublishedPrediction) -> Iterator[tuple[str, ...]]:
        trial = trial_of(single)
        if trial is not None:
            yield (Agreement.TRIAL, *trial)
        if self._settings.key:
            yield (Agreement.KEY, key_of(single, self._settings))
            return
        yield (Agreement.SAMPLE_UID, single.sample.uid)
        yield (Agreement.SAMPLE_NAME, single.sample.name)
