"""Which spectrum and which pair distribution function are of one sample: the rules, without server or models.

Two answers belong together where they are of one element, their raw runs began within a settable time of
each other, and they agree in the first of these that applies:

====================  ==================================================================================
the planner's trial   both carry one: campaign and id are the same; samples and keys may then be any
the user's key        one is set: both carry the same value
the sample's uid      both give one
the sample's name     one of them gives no uid
====================  ==================================================================================

One name with two uids, and compositions of other elements, contradict each other: no joint answer is given,
and the failure says so. One sample with another ratio of the same elements is answered, as suspect.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.publish import PublishedPrediction
from bluesky_xpdml.reduction.composition import atom_fractions
from bluesky_xpdml.settings import PairingSettings
from bluesky_xpdml.vocabulary import Modality

SAME_FRACTION = 0.005
"""Fractions of the atoms that differ by no more are the same: formulas are rounded."""
TRIAL, KEY, SAMPLE_UID, SAMPLE_NAME = "trial", "key", "sample uid", "sample name"
"""What two answers can agree in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A spectrum and a pair distribution function that belong together, or contradict each other."""

    xanes: PublishedPrediction
    pdf: PublishedPrediction
    by: str
    """What they agree in: `trial`, `key`, `sample uid` or `sample name`."""
    contradictions: tuple[str, ...] = ()
    """Why they cannot be of one sample, though they say so."""
    doubts: tuple[str, ...] = ()
    """Why they may not be of one sample."""
    notes: tuple[str, ...] = ()
    """What else there is to say."""
    n_candidates: int = 1
    """Between how many the nearest was chosen."""

    @property
    def apart(self) -> float:
        """Time between the beginnings of the raw runs [s], positive."""
        return abs(began(self.xanes) - began(self.pdf))

    @property
    def rank(self) -> int:
        """0 where both have an answer, 1 where one has failed, 2 where they contradict each other."""
        return 2 if self.contradictions else int(self.xanes.failed or self.pdf.failed)

    @property
    def element(self) -> str:
        """The metal; a measurement that failed may not know it."""
        return self.xanes.element or self.pdf.element

    def other(self, single: PublishedPrediction) -> PublishedPrediction:
        """Return the partner of one of the two.

        Parameters
        ----------
        single
            One of the two.
        """
        return self.pdf if single.uid == self.xanes.uid else self.xanes


def began(prediction: PublishedPrediction) -> float:
    """Return when the raw run began [s since 1970]; never, where it does not say.

    Parameters
    ----------
    prediction
        Of one measurement.
    """
    time = prediction.origin.time
    return float("nan") if time is None else time


def key_of(prediction: PublishedPrediction, settings: PairingSettings) -> str:
    """Return the user's key of a prediction; empty if none is set or carried."""
    # Names in start documents have no dots.
    return prediction.origin.keys.get(settings.key.replace(".", "_").replace("/", "_"), "")


def is_single(prediction: PublishedPrediction, settings: PairingSettings) -> bool:
    """Return whether an answer can be half of a pair: one measurement that says when it began.

    Answers of a series of repeats are none: each of its runs has an answer of its own. Neither are those
    of other kinds of differential functions than the modality has.

    Parameters
    ----------
    prediction
        Any that was published.
    settings
        What is paired.
    """
    told = prediction.start.get("analysis", {}).get("settings", {})
    kind = Modality(settings.modality).curve
    return (
        prediction.technique in settings.techniques
        and prediction.origin.time is not None
        and bool(prediction.raw_uids)
        and "repeats" not in told
        and (prediction.technique == "xanes" or told.get("modality", str(kind)) == str(kind))
    )


def ranked(
    single: PublishedPrediction, candidates: Iterable[PublishedPrediction], settings: PairingSettings
) -> list[Match]:
    """Return the matches of an answer, the best first: those that agree and have answers, nearest in time.

    Parameters
    ----------
    single
        Answer to one measurement.
    candidates
        Others; those that have nothing to do with it are left out.
    settings
        Which belong together.
    """
    found = [match for match in (_match(single, each, settings) for each in candidates) if match is not None]

    def order(match: Match) -> tuple[int, float, float, str]:
        partner = match.other(single)
        return match.rank, match.apart, began(partner), partner.uid

    return sorted(found, key=order)


def _match(
    single: PublishedPrediction, other: PublishedPrediction, settings: PairingSettings
) -> Match | None:
    if {single.technique, other.technique} != set(settings.techniques):
        return None
    xanes, pdf = (single, other) if single.technique == "xanes" else (other, single)
    in_time = abs(began(xanes) - began(pdf)) <= settings.within
    by = _agreement(xanes, pdf, settings)
    if not (in_time and by and _one_element(xanes, pdf) and is_single(other, settings)):
        return None
    identity = tuple(_two_uids(xanes, pdf))
    found = _compared(Match(xanes=xanes, pdf=pdf, by=by))
    if by == SAMPLE_NAME:
        return replace(found, contradictions=(*identity, *found.contradictions))
    return replace(found, doubts=(*identity, *found.doubts)) if by == KEY else found


def _one_element(xanes: PublishedPrediction, pdf: PublishedPrediction) -> bool:
    """Return whether two answers are of one metal; a failure may not know whose it is."""
    unknown = [each for each in (xanes, pdf) if not each.element]
    return xanes.element == pdf.element or bool(unknown and all(each.failed for each in unknown))


def _agreement(xanes: PublishedPrediction, pdf: PublishedPrediction, settings: PairingSettings) -> str:
    """Return what two answers agree in; empty where they do not belong together."""
    trials = [trial_of(each) for each in (xanes, pdf)]
    if all(trials):
        return TRIAL if trials[0] == trials[1] else ""
    if settings.key:
        keys = [key_of(each, settings) for each in (xanes, pdf)]
        return KEY if keys[0] and keys[0] == keys[1] else ""
    one, other = xanes.sample, pdf.sample
    if one.uid and one.uid == other.uid:
        return SAMPLE_UID
    return SAMPLE_NAME if one.name and one.name == other.name else ""


def trial_of(prediction: PublishedPrediction) -> tuple[str, str] | None:
    """Return campaign and id of the trial that an answer belongs to; None where no planner asked for it.

    Parameters
    ----------
    prediction
        Of one measurement.
    """
    trial = prediction.origin.trial
    said = (str(trial.get("campaign", "")), str(trial.get("id", "")))
    return said if all(said) else None


def _two_uids(xanes: PublishedPrediction, pdf: PublishedPrediction) -> Iterator[str]:
    one, other = xanes.sample, pdf.sample
    if one.uid and other.uid and one.uid != other.uid:
        named = f"both are called {one.name}" if one.name == other.name else "they count as one sample"
        yield (
            f"two samples or one? The spectrum is of sample {one.uid}, the PDF of {other.uid}, and {named}: "
            "give one sample one uid, or two samples two names"
        )


def _compared(match: Match) -> Match:
    """Return a match that says in which its compositions differ, as formulas rather than texts."""
    texts = (match.xanes.sample.composition, match.pdf.sample.composition)
    if not all(texts):
        return match
    try:
        one, other = (atom_fractions(text) for text in texts)
    except ReductionError as error:
        return replace(match, notes=(f"the compositions of the two runs were not compared: {error}",))
    said = f"the spectrum is of {texts[0]}, the PDF of {texts[1]}"
    if set(one) != set(other):
        reason = f"two samples? {said}: correct the composition, or the sample's name or uid"
        return replace(match, contradictions=(reason,))
    if any(abs(one[symbol] - other[symbol]) > SAME_FRACTION for symbol in one):
        return replace(match, doubts=(f"one sample with two compositions: {said}: correct one of them",))
    return match


class Shelves:
    """Answers by what others may agree with them in.

    Parameters
    ----------
    singles
        Answers to one measurement each.
    settings
        Which belong together.
    """

    def __init__(self, singles: Iterable[PublishedPrediction], settings: PairingSettings) -> None:
        self._settings = settings
        self._shelves: dict[tuple[str, ...], list[PublishedPrediction]] = {}
        for single in singles:
            for label in self._labels(single):
                self._shelves.setdefault((single.technique, *label), []).append(single)

    def near(self, single: PublishedPrediction) -> list[PublishedPrediction]:
        """Return those that may belong to an answer.

        Parameters
        ----------
        single
            Answer to one measurement.
        """
        techniques = [each for each in self._settings.techniques if each != single.technique]
        found = {
            each.uid: each
            for technique in techniques
            for label in self._labels(single)
            for each in self._shelves.get((technique, *label), ())
        }
        return list(found.values())

    def _labels(self, single: PublishedPrediction) -> Iterator[tuple[str, ...]]:
        trial = trial_of(single)
        if trial is not None:
            yield ("trial", *trial)
        if self._settings.key:
            yield ("key", key_of(single, self._settings))
            return
        yield ("uid", single.sample.uid)
        yield ("name", single.sample.name)
