"""Who belongs together: trial, key, uid, name; time and element; contradictions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_xpdml.errors import SettingsError
from bluesky_xpdml.pairing.pairing import joint_origin
from bluesky_xpdml.pairing.rules import can_be_paired, ranked
from bluesky_xpdml.records import Origin, Sample
from bluesky_xpdml.settings import PairingSettings, Settings
from bluesky_xpdml.vocabulary import ReasonCode, Technique

HOUR = PairingSettings(within=3600.0)
BY_PELLET = PairingSettings(within=3600.0, key="pellet.number")


def trial(campaign="c", number=1):
    return {"campaign": campaign, "id": number, "parameters": {"x": 0.5}}


@pytest.fixture(scope="module")
def match(pairs):
    """Return a function that gives the match of two answers, the spectrum's changes first."""

    def matched(one=None, other=None, settings=HOUR):
        xanes = pairs.start_of(pairs.of("xanes", "x", **(one or {})))
        pdf = pairs.start_of(pairs.of("pdf", "p", **(other or {})))
        forth, back = ranked(xanes, [pdf], settings), ranked(pdf, [xanes], settings)
        assert forth == back
        return forth[0] if forth else None

    return matched


NAMED, U1, U2 = Sample(name="a"), Sample(name="a", uid="1"), Sample(name="a", uid="2")


@pytest.mark.parametrize(
    ("one", "other", "by"),
    [
        (NAMED, NAMED, "sample name"),
        (NAMED, U1, "sample name"),
        (U1, U1, "sample uid"),
        (Sample(name="x", uid="1"), Sample(name="y", uid="1"), "sample uid"),
        (Sample(name="x", uid="1"), Sample(name="y", uid="2"), None),
        (NAMED, Sample(name="b"), None),
        (Sample(), Sample(), None),
        (Sample(composition="LaFeO3"), Sample(composition="LaFeO3"), None),
    ],
)
def test_samples_agree_in_uid_else_in_name(match, one, other, by):
    found = match({"sample": one}, {"sample": other})
    assert (found.by if found else None) == by


@given(minutes=st.floats(-200.0, 200.0))
def test_runs_belong_together_within_a_time_whichever_was_first(match, minutes):
    start = {"time": 1.7e9}
    found = match(start, {"time": 1.7e9 + 60.0 * minutes})
    apart = abs((1.7e9 + 60.0 * minutes) - 1.7e9)
    assert (found is not None) is (apart <= 3600.0)
    assert found is None or found.apart == apart


def test_a_run_that_does_not_say_when_it_began_is_paired_with_nothing(match, pairs):
    assert match({"time": None}) is None
    assert not can_be_paired(pairs.start_of(pairs.of("pdf", "p", time=None)), HOUR)


def test_elements_have_to_agree_but_a_failure_may_not_know_its_own(match):
    assert match({}, {"element": "Co"}) is None
    assert match({}, {"element": "", "failed": "too dark"}).rank == 1
    assert match({"element": "", "failed": "no edge"}, {"element": "Fe"}).element == "Fe"
    assert match({"element": "Mn", "failed": "no edge"}, {"element": "Fe"}) is None


def test_the_users_key_decides_where_one_is_set(match):
    same = {"keys": {"pellet_number": "7"}}
    other = {"keys": {"pellet_number": "8"}}
    renamed = {"sample": Sample(name="another name")}
    assert match(same, same | renamed, BY_PELLET).by == "key"
    assert match(same, other, BY_PELLET) is None
    assert match(same, {}, BY_PELLET) is None
    assert match({}, {}, BY_PELLET) is None
    for carry in ((), ("a",), ("a", "pellet.number")):
        assert Settings(pairing=BY_PELLET, carry=carry).carried[-1] == "pellet.number"


def test_two_uids_under_one_key_are_doubted(match):
    keyed = {"keys": {"pellet_number": "7"}}
    found = match(keyed | {"sample": U1}, keyed | {"sample": U2}, BY_PELLET)
    assert (found.rank, len(found.doubts)) == (0, 1)


def test_a_trial_is_one_measurement_whatever_its_samples_are_called(match):
    found = match({"trial": trial(), "sample": NAMED}, {"trial": trial(), "sample": Sample(name="b")})
    assert found.by == "trial"
    assert match({"trial": trial()}, {"trial": trial(number=2)}) is None
    assert match({"trial": trial()}, {"trial": trial(campaign="d")}) is None
    assert match({"trial": trial()}, {}).by == "sample name"
    assert match({"trial": {"parameters": {"x": 1.0}}}, {"trial": trial()}).by == "sample name"


def test_one_name_with_two_uids_is_a_contradiction(match):
    found = match({"sample": U1}, {"sample": U2})
    assert found.rank == 2
    (reason,) = found.contradictions
    assert "of sample 1, the PDF of 2, and both are called a: give one sample one uid" in reason


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ("LaFeO3", "La2Fe2O6", ""),
        ("LaFeO3", "O3 Fe La", ""),
        ("LaFeO3", "LaFeO2.99", ""),
        ("LaFeO3", "", ""),
        ("LaFeO3", "LaFeO2.5", "doubt"),
        ("LaFeO3", "LaCoO3", "contradiction"),
        ("LaFeO3", "cell 7", "note"),
    ],
)
def test_compositions_are_compared_as_formulas(match, one, other, told):
    found = match(*({"sample": Sample(name="a", composition=text)} for text in (one, other)))
    kinds = {"contradiction": found.contradictions, "doubt": found.doubts, "note": found.notes}
    assert {kind: len(reasons) for kind, reasons in kinds.items() if reasons} == ({told: 1} if told else {})
    codes = {reason.code for reasons in kinds.values() for reason in reasons}
    assert codes <= {ReasonCode.PAIR_CONTRADICTED, ReasonCode.PAIR_UNCERTAIN}


def test_the_best_agrees_and_has_an_answer_and_is_nearest(pairs):
    xanes = pairs.start_of(pairs.of("xanes", "x", sample=U1))
    others = [
        pairs.start_of(pairs.of("pdf", "contradicts", sample=U2)),
        pairs.start_of(pairs.of("pdf", "failed", sample=U1, failed="too dark")),
        pairs.start_of(pairs.of("pdf", "late", sample=U1, time=pairs.NOON + 900.0)),
        pairs.start_of(pairs.of("pdf", "early", sample=U1, time=pairs.NOON - 600.0)),
    ]
    order = [found.pdf.raw_uids[0] for found in ranked(xanes, others, HOUR)]
    assert order == ["early", "late", "failed", "contradicts"]


def test_merged_repeats_and_other_kinds_are_no_halves(pairs):
    merged = pairs.of("xanes", "x")
    merged = pairs.replace(merged, settings={**merged.settings, "repeats": {"kept": 2}})
    assert not can_be_paired(pairs.start_of(merged), HOUR)
    difference = pairs.replace(
        pairs.of("pdf", "p"), technique=Technique.DPDF, settings={"modality": "dpdf_anomalous"}
    )
    differential = PairingSettings(modality="xanes+dpdf")
    assert not can_be_paired(pairs.start_of(difference), differential)
    assert not can_be_paired(pairs.start_of(pairs.of("pdf", "p")), differential)
    assert can_be_paired(pairs.start_of(pairs.of("xanes", "x")), differential)


def test_an_origin_holds_what_both_agree_in():
    one = Origin(
        time=9.0, beamline="BMM", proposal="7", scan_id="1", trial=trial(), keys={"a": "1", "b": "2"}
    )
    other = Origin(
        time=5.0, beamline="PDF", proposal="8", scan_id="4", trial=trial(), keys={"a": "1", "b": "3"}
    )
    found = joint_origin(one, other)
    assert (found.time, found.beamline, found.proposal, found.scan_id) == (5.0, "BMM + PDF", "", "1 + 4")
    assert (found.trial, found.keys) == (trial(), {"a": "1"})
    assert joint_origin(one, Origin()).trial == trial()
    assert joint_origin(Origin(), one).trial == trial()
    assert joint_origin(one, Origin(trial=trial(number=2))).trial == {}


@pytest.mark.parametrize("wrong", [{"within": 0.0}, {"within": float("nan")}, {"modality": "pdf"}])
def test_settings_that_cannot_be_used_are_refused(wrong):
    with pytest.raises(SettingsError, match="expected"):
        PairingSettings(**wrong)
