"""One sample, two measurements: the joint answer of a spectrum and a pair distribution function in Tiled.

Nothing is remembered here. Who belongs together is asked of the server, by the start documents of derived
runs; curves are read back from their streams. The joint run is known by the derived runs that it stands on,
so that whoever makes it, and however often, there is one.

Each single answer gets a joint one with its best partner: one that agrees with it and has an answer, of these
the nearest in time. A contradiction is reported where neither of the two has a partner that agrees.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bluesky_xpdml.analysis.failed import failed_prediction
from bluesky_xpdml.analysis.request import Analysis, JointCurves, PredictionRequest
from bluesky_xpdml.errors import ModelNotFoundError
from bluesky_xpdml.pairing.rules import Match, Shelves, began, is_single, key_of, ranked, trial_of
from bluesky_xpdml.publish import PredictionCatalog, PublishedPrediction, Query
from bluesky_xpdml.publish.curves import read_distribution, read_xanes
from bluesky_xpdml.records import Prediction
from bluesky_xpdml.settings import PairingSettings
from bluesky_xpdml.vocabulary import Reason, ReasonCode

if TYPE_CHECKING:
    from tiled.client.container import Container
from bluesky_xpdml.records import Origin, Sample


def joint_origin(one: Origin, other: Origin) -> Origin:
    """Return where the joint answer of two raw runs comes from: what they agree in, and both beamlines.

    Parameters
    ----------
    one, other
        Of the spectrum and of the pair distribution function.

    Examples
    --------
    >>> found = joint_origin(Origin(time=9.0, beamline="a", proposal="1"), Origin(time=5.0, beamline="b"))
    >>> found.time, found.beamline, found.proposal
    (5.0, 'a + b', '1')
    """
    times = [each.time for each in (one, other) if each.time is not None]
    names = {*one.keys, *other.keys}
    keys = {name: _agreed(one.keys.get(name, ""), other.keys.get(name, "")) for name in sorted(names)}
    same_trial = all(one.trial.get(key) == other.trial.get(key) for key in ("campaign", "id"))
    return Origin(
        time=min(times) if times else None,
        beamline=" + ".join(dict.fromkeys(each for each in (one.beamline, other.beamline) if each)),
        proposal=_agreed(one.proposal, other.proposal),
        scan_id=" + ".join(each for each in (one.scan_id, other.scan_id) if each),
        trial=one.trial if same_trial or not other.trial else {} if one.trial else other.trial,
        keys={name: value for name, value in keys.items() if value},
    )


def _agreed(one: str, other: str) -> str:
    """Return what both say, or the one that says something; empty where they differ."""
    return one or other if one == other or not (one and other) else ""


def joint_sample(one: Sample, other: Sample) -> Sample:
    """Return the sample of a spectrum, with what only the other run knows of it.

    Parameters
    ----------
    one, other
        As the run of the spectrum, and the other one, say.

    Examples
    --------
    >>> joint_sample(Sample(name="LFP-3"), Sample(name="LFP-3", uid="s-1")).uid
    's-1'
    """
    return Sample(
        name=one.name or other.name,
        uid=one.uid or other.uid,
        composition=one.composition or other.composition,
    )


__all__ = ["Match", "Pairing", "PairingSettings"]

PAIRING = "pairing"
"""Entry of a joint answer's settings: the derived runs that it stands on, and what they agree in."""
LIMIT = 200
"""Answers to a question about one sample that are looked at, the newest ones."""
EVERYTHING = 1_000_000
"""Answers that are looked at where all are wanted."""

Pool = Callable[[PublishedPrediction], Sequence[PublishedPrediction]]
"""Gives those that may belong to an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Finds the partners of published answers, and answers both together."""

    catalog: PredictionCatalog
    """Where the answers are, of one beamline or several."""
    analysis: Analysis
    """Answers both together, under the settings of the beamtime."""

    @property
    def settings(self) -> PairingSettings:
        """Which answers belong together."""
        return self.analysis.settings.pairing or PairingSettings()

    def answer(self, prediction: PublishedPrediction) -> Prediction | None:
        """Return the joint answer of a single one and its best partner; None while there is none.

        Parameters
        ----------
        prediction
            Answer to one measurement.

        Raises
        ------
        PublishError
            If the server is away, or the partner is still being written: to be asked again later.
        """
        if not is_single(prediction, self.settings):
            return None
        match = self._best(prediction, self._asking())
        return None if match is None else self.joint(match)

    def matches(self, prediction: PublishedPrediction) -> list[Match]:
        """Return the match of an answer, and those of others for which it is the best partner.

        Parameters
        ----------
        prediction
            Answer to one measurement; one that is no half of a pair has none.

        Raises
        ------
        PublishError
            If the server is away.
        """
        if not is_single(prediction, self.settings):
            return []
        pool = self._asking()
        waiting = [each.other(prediction) for each in ranked(prediction, pool(prediction), self.settings)]
        return self._distinct([prediction, *waiting], pool, of=prediction.uid)

    def unanswered(self, *, after: float | None = None) -> list[Match]:
        """Return the matches among all published answers that have no joint answer yet, or an outdated one.

        Parameters
        ----------
        after
            Only answers that were made at this time or later [s since 1970]; None for all.

        Raises
        ------
        PublishError
            If the server is away.
        """
        singles = [
            each
            for technique in self.settings.techniques
            for each in self.catalog.find(Query(technique=technique, after=after), limit=EVERYTHING)
            if is_single(each, self.settings)
        ]
        singles.sort(key=began)
        matches = self._distinct(singles, Shelves(singles, self.settings).near, of="")
        done = self._answered(after)
        return [match for match in matches if self._identity(match) not in done]

    def joint(self, match: Match) -> Prediction:
        """Return the joint answer of a match, without curves; a failed one where there is none, with reasons.

        Parameters
        ----------
        match
            Two answers that belong together, or contradict each other.

        Raises
        ------
        PublishError
            If the server is away, or one of the runs is still being written: to be asked again later.
        """
        reasons = (*match.contradictions, *_failures(match))
        if reasons:
            return self._completed(self.analysis.complete(self._failed(match, reasons)), match)
        (found,) = self.analysis.predict(self._request(match))
        if found.descriptors:
            found = found.with_quality(
                found.quality.suspect(*match.doubts).note(*match.notes, *self._choice(match))
            )
        return self._completed(found, match)

    def _request(self, match: Match) -> PredictionRequest:
        container: Container = self.catalog.container

        def load() -> JointCurves:
            return JointCurves(
                xanes=read_xanes(container, match.xanes),
                pdf=read_distribution(container, match.pdf, over_q=False),
                element=match.element,
            )

        return PredictionRequest(
            modality=self.settings.modality,
            load=load,
            element=match.element,
            edge=match.xanes.edge,
            raw_uids=_raw_uids(match),
            source=_source(match),
            completeness=_completeness(match),
        )

    def _best(self, prediction: PublishedPrediction, pool: Pool) -> Match | None:
        """Return the best match of an answer; a contradiction only where its partner has none that agrees."""
        found = ranked(prediction, pool(prediction), self.settings)
        if not found:
            return None
        best = found[0]
        if best.contradictions:
            partner = best.other(prediction)
            theirs = ranked(partner, pool(partner), self.settings)
            if theirs and not theirs[0].contradictions:
                return None
        n_candidates = len({each.other(prediction).raw_uids for each in found if each.rank == best.rank})
        return replace(best, n_candidates=n_candidates)

    def _distinct(self, singles: Iterable[PublishedPrediction], pool: Pool, *, of: str) -> list[Match]:
        """Return the best match of each, every pair once, of one answer if its uid is given."""
        found: dict[tuple[str, str], Match] = {}
        for single in singles:
            match = self._best(single, pool)
            if match is not None and of in ("", match.xanes.uid, match.pdf.uid):
                found.setdefault((match.xanes.uid, match.pdf.uid), match)
        return list(found.values())

    def _asking(self) -> Pool:
        """Return what asks the server, each question once."""
        known: dict[tuple[str, ...], list[PublishedPrediction]] = {}

        def ask(single: PublishedPrediction) -> Sequence[PublishedPrediction]:
            found: dict[str, PublishedPrediction] = {}
            for question, query in self._questions(single):
                if question not in known:
                    known[question] = self.catalog.find(query, limit=LIMIT)
                found |= {each.uid: each for each in known[question]}
            return list(found.values())

        return ask

    def _questions(self, single: PublishedPrediction) -> Iterator[tuple[tuple[str, ...], Query]]:
        """Yield what has to be asked to see everyone who may belong to an answer."""
        first, second = self.settings.techniques
        technique = second if single.technique == first else first
        trial, key = trial_of(single), key_of(single, self.settings)
        if trial is not None:
            yield (technique, "trial", trial[0]), Query(technique=technique, campaign=trial[0])
        if key:
            yield (technique, "key", key), Query(technique=technique, keys={self.settings.key: key})
        if self.settings.key:
            return
        uid, name = single.sample.uid, single.sample.name
        if uid:
            yield (technique, "uid", uid), Query(technique=technique, sample_uid=uid)
        if name:
            yield (technique, "name", name), Query(technique=technique, sample=name)

    def _answered(self, after: float | None) -> set[tuple[str, ...]]:
        """Return what the joint answers stand on that need not be made again; failures may get better."""
        technique = self.settings.modality.technique
        found = self.catalog.find(Query(technique=technique, after=after), limit=EVERYTHING, superseded=True)
        known: set[tuple[str, ...]] = set()
        for each in found:
            said = each.start["analysis"]["settings"].get(PAIRING, {})
            if said and not each.failed:
                known.add((said["xanes"], said["pdf"], each.models[0].sha256))
        return known

    def _identity(self, match: Match) -> tuple[str, ...]:
        """Return what the joint answer of a match would stand on."""
        kind = self.settings.modality
        try:
            model = self.analysis.store.find(match.element, match.xanes.edge, kind).sha256
        except ModelNotFoundError:
            model = ""
        return match.xanes.uid, match.pdf.uid, model

    def _failed(self, match: Match, reasons: tuple[Reason, ...]) -> Prediction:
        return failed_prediction(
            *reasons,
            technique=self.settings.modality.technique,
            element=match.element,
            edge=match.xanes.edge,
            raw_uids=_raw_uids(match),
            source=_source(match),
            completeness=_completeness(match),
            settings={"modality": str(self.settings.modality)},
        )

    def _completed(self, found: Prediction, match: Match) -> Prediction:
        """Return a joint answer that says on which two it stands, and where they come from."""
        paired = {"xanes": match.xanes.uid, "pdf": match.pdf.uid, "by": match.by}
        return replace(
            found,
            sample=joint_sample(match.xanes.sample, match.pdf.sample),
            origin=joint_origin(match.xanes.origin, match.pdf.origin),
            settings={**found.settings, PAIRING: paired},
            # The curves stand in the two runs that it names; to write them again takes longer than all else.
            xanes=None,
            pdf=None,
        )

    def _choice(self, match: Match) -> Iterator[Reason]:
        if match.n_candidates > 1:
            yield Reason(
                f"{match.n_candidates} runs of this sample lie within {self.settings.within:g} s: the "
                f"nearest, {match.apart:.0f} s apart, was taken",
                ReasonCode.PAIR_CHOICE,
            )


def _raw_uids(match: Match) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*match.xanes.raw_uids, *match.pdf.raw_uids)))


def _source(match: Match) -> str:
    sources = (each.start.get("source") for each in (match.xanes, match.pdf))
    return " + ".join(str(source) for source in sources if source)


def _completeness(match: Match) -> float:
    return min(match.xanes.completeness, match.pdf.completeness)


def _failures(match: Match) -> Iterator[Reason]:
    """Yield which of two answers failed, why, and which run holds the other one."""
    named = (("spectrum", match.xanes, match.pdf), ("PDF", match.pdf, match.xanes))
    for what, single, other in named:
        if single.failed:
            reasons = "; ".join(single.quality.reasons)
            where = "" if other.failed else f"; the answer of the other alone is run {other.uid}"
            text = f"the {what} of run {single.raw_uids[0]} failed: {reasons}{where}"
            yield Reason(
                text, single.quality.reasons[0].code if single.quality.reasons else ReasonCode.MISSING_DATA
            )
