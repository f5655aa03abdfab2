"""One sample, two measurements: the joint answer of a spectrum and a pair distribution function in Tiled.

Nothing is kept in memory. Partners are searched on the server, by the start documents of derived runs; curves
are read from their streams. The uid of a joint run follows from the derived runs it is made from, so that
there is one, whoever makes it and however often.

Each single answer gets a joint one with its best partner: one that agrees with it and has an answer, of these
the nearest in time. A contradiction is reported if neither of the two has a partner that agrees.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bluesky_xpdml.analysis.failed import failed_prediction
from bluesky_xpdml.analysis.request import Analysis, JointCurves, PredictionRequest
from bluesky_xpdml.errors import ModelNotFoundError
from bluesky_xpdml.pairing.rules import (
    Agreement,
    CandidateIndex,
    Match,
    can_be_paired,
    key_of,
    ranked,
    start_time,
    trial_of,
)
from bluesky_xpdml.publish import PredictionCatalog, PublishedPrediction, Query
from bluesky_xpdml.publish.curves import read_distribution, read_xanes
from bluesky_xpdml.publish.published import as_mapping
from bluesky_xpdml.records import Origin, Prediction, Sample
from bluesky_xpdml.settings import PairingSettings
from bluesky_xpdml.vocabulary import Reason, ReasonCode

if TYPE_CHECKING:
    from tiled.client.container import Container

PAIRING = "pairing"
"""Entry of a joint answer's settings: the derived runs it is made from, and what they agree in."""
LIMIT = 200
"""Most predictions of one sample that are searched, the newest ones."""
ALL = 1_000_000
"""Limit of searches for all predictions."""

CandidateSearch = Callable[[PublishedPrediction], Sequence[PublishedPrediction]]
"""Returns the predictions that may belong to one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Finds the partners of published predictions, and answers both together."""

    catalog: PredictionCatalog
    """The predictions, of one beamline or several."""
    analysis: Analysis
    """Answers both together, under the settings of the beamtime."""

    @property
    def settings(self) -> PairingSettings:
        """Which predictions belong together."""
        return self.analysis.settings.pairing or PairingSettings()

    def matches(self, prediction: PublishedPrediction) -> list[Match]:
        """Return the match of a prediction, and those of others for which it is the best partner.

        A prediction that cannot be paired, or is superseded, has none. Raises PublishError if the server is
        away.
        """
        if not can_be_paired(prediction, self.settings) or self._is_superseded(prediction):
            return []
        search = self._search()
        waiting = [each.other(prediction) for each in ranked(prediction, search(prediction), self.settings)]
        found = self._best_matches([prediction, *waiting], search)
        return [match for match in found if prediction.uid in {match.xanes.uid, match.pdf.uid}]

    def unanswered(self, *, after: float | None = None) -> list[Match]:
        """Return the matches among all predictions that have no joint answer yet, or an outdated one.

        With `after`, only predictions that were made then or later [s since 1970] are considered. Raises
        PublishError if the server is away.
        """
        singles = [
            each
            for technique in self.settings.techniques
            for each in self.catalog.find(Query(technique=technique, after=after), limit=ALL)
            if can_be_paired(each, self.settings)
        ]
        singles.sort(key=start_time)
        index = CandidateIndex(singles, self.settings)
        answered = self._answered(after)
        matches = self._best_matches(singles, index.candidates)
        return [match for match in matches if self._identity(match) not in answered]

    def joint(self, match: Match) -> Prediction:
        """Return the joint answer of a match, without curves; a failed one, with reasons, if there is none.

        Raises PublishError if the server is away, or one of the runs is still being written: to be tried
        again later.
        """
        reasons = (*match.contradictions, *_failures(match))
        if reasons:
            return self._with_parts(self.analysis.complete(self._failed(match, reasons)), match)
        (found,) = self.analysis.predict(self._request(match))
        if found.descriptors:
            quality = found.quality.suspect(*match.doubts).note(*match.notes, *self._choice(match))
            found = found.with_quality(quality)
        return self._with_parts(found, match)

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
            raw_uids=match.raw_uids,
            source=match.source,
            completeness=match.completeness,
        )

    def _is_superseded(self, prediction: PublishedPrediction) -> bool:
        """Return whether the server has a better answer to the same question."""
        found = self.catalog.of_run(prediction.raw_uids[0])
        return any(
            each.question == prediction.question and each.rank > prediction.rank
            for each in found
            if each.uid != prediction.uid
        )

    def _best(self, prediction: PublishedPrediction, search: CandidateSearch) -> Match | None:
        """Return the best match of a prediction.

        A contradiction is returned only if the partner has no match without one.
        """
        found = ranked(prediction, search(prediction), self.settings)
        if not found:
            return None
        best = found[0]
        if best.contradictions:
            partner = best.other(prediction)
            others = ranked(partner, search(partner), self.settings)
            if others and not others[0].contradictions:
                return None
        n_candidates = len({each.other(prediction).raw_uids for each in found if each.rank == best.rank})
        return replace(best, n_candidates=n_candidates)

    def _best_matches(self, singles: Iterable[PublishedPrediction], search: CandidateSearch) -> list[Match]:
        """Return the best match of each, every pair once."""
        found: dict[tuple[str, str], Match] = {}
        for single in singles:
            match = self._best(single, search)
            if match is not None:
                found.setdefault((match.xanes.uid, match.pdf.uid), match)
        return list(found.values())

    def _search(self) -> CandidateSearch:
        """Return a search on the server that makes each request once."""
        known: dict[tuple[str, ...], list[PublishedPrediction]] = {}

        def search(single: PublishedPrediction) -> Sequence[PublishedPrediction]:
            found: dict[str, PublishedPrediction] = {}
            for label, query in self._queries(single).items():
                if label not in known:
                    known[label] = self.catalog.find(query, limit=LIMIT)
                found |= {each.uid: each for each in known[label]}
            return list(found.values())

        return search

    def _queries(self, single: PublishedPrediction) -> dict[tuple[str, str, str], Query]:
        """Return the queries that find everything that may belong to a prediction, by what they look for."""
        first, second = self.settings.techniques
        technique = second if single.technique is first else first
        trial, key = trial_of(single), key_of(single, self.settings)
        queries: dict[tuple[Agreement, str], Query] = {}
        if trial is not None:
            queries[Agreement.TRIAL, trial[0]] = Query(technique=technique, campaign=trial[0])
        if key:
            queries[Agreement.KEY, key] = Query(technique=technique, keys={self.settings.key: key})
        uid, name = single.sample.uid, single.sample.name
        if uid and not self.settings.key:
            queries[Agreement.SAMPLE_UID, uid] = Query(technique=technique, sample_uid=uid)
        if name and not self.settings.key:
            queries[Agreement.SAMPLE_NAME, name] = Query(technique=technique, sample=name)
        return {(technique, *label): query for label, query in queries.items()}

    def _answered(self, after: float | None) -> set[tuple[str, ...]]:
        """Return what joint answers were made from that need not be made again; failures are tried again."""
        technique = self.settings.modality.technique
        found = self.catalog.find(Query(technique=technique, after=after), limit=ALL, superseded=True)
        answered: set[tuple[str, ...]] = set()
        for each in found:
            parts = as_mapping(each.settings.get(PAIRING))
            if each.models and not each.failed:
                answered.add((str(parts.get("xanes")), str(parts.get("pdf")), each.models[0].sha256))
        return answered

    def _identity(self, match: Match) -> tuple[str, ...]:
        """Return what the joint answer of a match would be made from."""
        try:
            bundle = self.analysis.store.find(match.element, match.xanes.edge, self.settings.modality)
        except ModelNotFoundError:
            return match.xanes.uid, match.pdf.uid, ""
        return match.xanes.uid, match.pdf.uid, bundle.sha256

    def _failed(self, match: Match, reasons: tuple[Reason, ...]) -> Prediction:
        return failed_prediction(
            *reasons,
            technique=self.settings.modality.technique,
            element=match.element,
            edge=match.xanes.edge,
            raw_uids=match.raw_uids,
            source=match.source,
            completeness=match.completeness,
            settings={"modality": str(self.settings.modality)},
        )

    def _with_parts(self, found: Prediction, match: Match) -> Prediction:
        """Return a joint answer that states the two runs it is made from, without their curves.

        The curves are in those two runs; writing them again takes longer than all else.
        """
        return replace(
            found.with_quality(found.quality.note(*_access(match))),
            sample=joint_sample(match.xanes.sample, match.pdf.sample),
            origin=joint_origin(match.xanes.origin, match.pdf.origin),
            settings={
                **found.settings,
                PAIRING: {"xanes": match.xanes.uid, "pdf": match.pdf.uid, "by": match.by},
            },
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


def joint_origin(one: Origin, other: Origin) -> Origin:
    """Return the origin of the joint answer of two raw runs: what they agree in, and both beamlines."""
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
        access_tags=tuple(tag for tag in one.access_tags if tag in other.access_tags),
    )


def _access(match: Match) -> Iterator[Reason]:
    """Yield that no access tag is shared: without a tag, a server shows the answer to its publisher only."""
    one, other = match.xanes.origin.access_tags, match.pdf.origin.access_tags
    if (one or other) and not set(one) & set(other):
        yield Reason(
            f"no access tag is common ({', '.join(one) or 'none'} and {', '.join(other) or 'none'}): the "
            " joint answer has none, and servers with a tag policy show it to its publisher only",
            ReasonCode.ACCESS_DIFFERS,
        )


def _agreed(one: str, other: str) -> str:
    """Return the value that both have, or the only one; empty if they differ."""
    return one or other if one == other or not (one and other) else ""


def joint_sample(one: Sample, other: Sample) -> Sample:
    """Return the sample of the first run, completed by what only the other one states.

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


def _failures(match: Match) -> Iterator[Reason]:
    """Yield which of two answers failed, why, and which run holds the other one."""
    named = (("spectrum", match.xanes, match.pdf), ("PDF", match.pdf, match.xanes))
    for what, single, other in named:
        if single.failed:
            reasons = single.quality.reasons
            where = "" if other.failed else f"; the answer of the other alone is run {other.uid}"
            text = f"the {what} of run {single.raw_uids[0]} failed: {'; '.join(reasons)}{where}"
            yield Reason(text, reasons[0].code if reasons else ReasonCode.MISSING_DATA)
