"""Joint answers through a real Tiled server: equal to those from memory, one a pair, whatever happens.

Bare answers come without their curves: where only the pairs count, they are found by joint failures.
"""

import threading
from dataclasses import replace

import pytest

from bluesky_xpdml import BundleStore, CallbackPublisher, TiledPublisher, XpdmlCallback
from bluesky_xpdml.analysis.request import Analysis
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.models.joint import predict_joint
from bluesky_xpdml.pairing.publisher import PairingPublisher
from bluesky_xpdml.publish import PredictionCatalog, Query, derived_run
from bluesky_xpdml.records import Sample
from bluesky_xpdml.settings import PairingSettings, Settings
from bluesky_xpdml.vocabulary import ReasonCode


def test_the_answer_through_tiled_is_that_from_memory_bit_for_bit(beamtime, pairs, store):
    xanes, pdf = (
        pairs.of("xanes", "x", beamline="BMM", proposal="7"),
        pairs.of("pdf", "p", time=pairs.NOON + 60.0, beamline="PDF", proposal="7"),
    )
    beamline = beamtime.beamline()
    beamline.publish(derived_run(xanes))
    beamline.publish(derived_run(pdf))
    (found,) = beamtime.joint()
    analysis = Analysis(Settings(pairing=PairingSettings(within=3600.0)), store=store)
    expected = analysis.complete(predict_joint(xanes.xanes, pdf.pdf, store, "xanes+pdf"))
    parts = {
        "xanes": derived_run(xanes)[0][1]["uid"],
        "pdf": derived_run(pdf)[0][1]["uid"],
        "by": "sample name",
    }
    expected = replace(
        expected,
        settings={**expected.settings, "pairing": parts},
        origin=replace(xanes.origin, beamline="BMM + PDF"),
        xanes=None,
        pdf=None,
    )
    wanted = derived_run(expected, clock=lambda: found.time)
    assert dict(found.start) == wanted[0][1]
    assert (found.raw_uids, found.completeness) == (("x", "p"), 0.75)
    (event,) = (document["data"] for name, document in wanted if name == "event")
    table = beamtime.catalog.container[found.uid]["predictions"].read()
    assert {name: float(table[name].values[0]) for name in event} == event


@pytest.mark.slow
@pytest.mark.parametrize("order", [("pdf", "xanes"), ("xanes", "pdf")])
def test_two_beamlines_in_either_order(beamtime, pairs, order):
    for technique in order:
        assert beamtime.joint() == []
        beamline = beamtime.beamline()
        beamline.publish(derived_run(pairs.of(technique, technique)))
        assert beamline.counts.errors == 0
    (found,) = beamtime.joint()
    assert (found.raw_uids, found.element) == (("xanes", "pdf"), "Fe")
    assert not found.failed
    for raw in ("xanes", "pdf"):
        assert found.uid in {each.uid for each in beamtime.catalog.find(Query()) if raw in each.raw_uids}


def test_a_joint_answer_of_runs_without_a_common_access_tag_says_so_and_has_none(beamtime, pairs):
    beamline = beamtime.beamline()
    beamline.publish(derived_run(pairs.of("xanes", "x", bare=True, access_tags=("one",))))
    beamline.publish(derived_run(pairs.of("pdf", "p", bare=True, access_tags=("other",))))
    (found,) = beamtime.joint()
    assert found.origin.access_tags == ()
    (reason,) = found.quality.of(ReasonCode.ACCESS_DIFFERS)
    assert "no access tag is common (one and other)" in reason


def test_a_single_without_a_partner_waits(beamtime, pairs):
    beamline = beamtime.beamline()
    beamline.publish(derived_run(pairs.of("xanes", "x", bare=True)))
    beamline.publish(derived_run(pairs.of("pdf", "p", time=pairs.NOON + 7200.0, bare=True)))
    beamline.publish(derived_run(pairs.of("pdf", "q", sample=Sample(name="another"), bare=True)))
    assert (beamtime.joint(), beamline.counts.errors) == ([], 0)
    single = beamtime.catalog.find(Query(technique="xanes"))[0]
    assert beamtime.pairing().matches(single) == []


def test_every_single_is_answered_with_the_nearest(beamtime, pairs):
    beamline = beamtime.beamline()
    for technique, uid, minutes in (("xanes", "x0", 0), ("xanes", "x9", 9), ("pdf", "p7", 7)):
        began = pairs.NOON + 60.0 * minutes
        beamline.publish(derived_run(pairs.of(technique, uid, time=began, bare=True)))
    assert beamtime.raw() == [("x0", "p7"), ("x9", "p7")]
    pdf = beamtime.catalog.find(Query(technique="pdf"))[0]
    match, waited = beamtime.pairing().matches(pdf)
    assert (match.xanes.raw_uids, match.n_candidates, match.apart) == (("x9",), 2, 120.0)
    assert (waited.xanes.raw_uids, waited.n_candidates, waited.apart) == (("x0",), 1, 420.0)


@pytest.mark.slow
def test_the_answer_says_between_how_many_was_chosen(beamtime, pairs):
    plain = beamtime.publisher()
    for uid, minutes in (("x0", 0.0), ("x9", 9.0)):
        plain.publish(derived_run(pairs.of("xanes", uid, time=pairs.NOON + 60.0 * minutes)))
    plain.publish(derived_run(pairs.of("pdf", "p7", time=pairs.NOON + 420.0)))
    pairing = beamtime.pairing()
    match, _ = pairing.matches(beamtime.catalog.find(Query(technique="pdf"))[0])
    answer = pairing.joint(match)
    assert answer.raw_uids == ("x9", "p7")
    said = "2 runs of this sample lie within 3600 s: the nearest, 120 s apart, was taken"
    assert said in answer.quality.reasons


@pytest.mark.parametrize(
    ("samples", "failures", "said"),
    [
        ((Sample(name="a", uid="1"), Sample(name="a", uid="2")), ("", ""), "give one sample one uid"),
        (
            (Sample(name="a", composition="LaFeO3"), Sample(name="a", composition="LaCoO3")),
            ("", ""),
            "the spectrum is of LaFeO3, the PDF of LaCoO3",
        ),
        ((Sample(name="a"), Sample(name="a")), ("", "too dark"), "the PDF of run p failed: too dark"),
        ((Sample(name="a"), Sample(name="a")), ("no edge", ""), "the spectrum of run x failed: no edge"),
    ],
    ids=["uids", "compositions", "failed pdf", "failed xanes"],
)
def test_what_cannot_be_answered_is_a_failure_with_both_raw_uids(beamtime, pairs, samples, failures, said):
    beamline = beamtime.beamline()
    for (technique, uid), sample, failed in zip(
        (("xanes", "x"), ("pdf", "p")), samples, failures, strict=True
    ):
        beamline.publish(derived_run(pairs.of(technique, uid, sample=sample, failed=failed, bare=True)))
    (found,) = beamtime.joint()
    assert (found.raw_uids, found.failed, found.technique) == (("x", "p"), True, "xanes+pdf")
    assert said in found.quality.reasons[0]
    assert (beamline.counts.failed, beamline.counts.joint) == (1, 0)


@pytest.mark.slow
def test_another_ratio_of_the_same_elements_is_answered_as_suspect(beamtime, pairs):
    beamline = beamtime.beamline()
    for technique, formula in (("xanes", "LaFeO3"), ("pdf", "LaFeO2.5")):
        sample = Sample(name="a", composition=formula)
        beamline.publish(derived_run(pairs.of(technique, technique, sample=sample)))
    (found,) = beamtime.joint()
    assert found.quality.verdict == "suspect"
    assert any("one sample with two compositions" in reason for reason in found.quality.reasons)


@pytest.mark.slow
def test_a_name_used_twice_is_no_contradiction_where_both_have_their_partner(beamtime, pairs):
    one, two = Sample(name="a", uid="1"), Sample(name="a", uid="2")
    beamline = beamtime.beamline()
    runs = (("xanes", "x1", one), ("pdf", "p1", one), ("xanes", "x2", two), ("pdf", "p2", two))
    for technique, uid, sample in runs:
        beamline.publish(derived_run(pairs.of(technique, uid, sample=sample, bare=True)))
    assert beamtime.raw() == [("x1", "p1"), ("x2", "p2")]


@pytest.mark.slow
def test_models_that_are_missing_are_a_failure_that_says_so(beamtime, pairs, tmp_path):
    beamline = beamtime.beamline(store=BundleStore(tmp_path / "none"))
    for technique in ("xanes", "pdf"):
        beamline.publish(derived_run(pairs.of(technique, technique)))
    (found,) = beamtime.joint()
    assert (found.failed, found.raw_uids) == (True, ("xanes", "pdf"))
    assert "xanes+pdf" in found.quality.reasons[0]


@pytest.mark.slow
def test_a_newer_answer_of_one_gives_a_newer_joint_answer(beamtime, pairs):
    beamline = beamtime.beamline()
    xanes, pdf = pairs.of("xanes", "x"), pairs.of("pdf", "p")
    for each in (xanes, pdf):
        beamline.publish(derived_run(each))
    (older,) = beamtime.joint()
    model = replace(xanes.models[0], version=99, sha256="f" * 64)
    beamline.publish(derived_run(replace(xanes, models=(model,))))
    newer, still = beamtime.joint()
    assert (still.uid, newer.raw_uids) == (older.uid, older.raw_uids)
    assert newer.uid != older.uid
    latest = beamtime.catalog.find(Query(technique="xanes+pdf"))
    assert [each.uid for each in latest] == [newer.uid]


def test_a_restart_forgets_nothing_and_doubles_nothing(beamtime, pairs):
    plain = beamtime.publisher()
    for technique in ("xanes", "pdf"):
        plain.publish(derived_run(pairs.of(technique, f"{technique[0]}1")))
    # A process dies between the single answer and the joint one; the next one makes up for it.
    follower, pairer = beamtime.process()
    follower.catch_up()
    assert (beamtime.raw(), pairer.counts.joint) == ([("x1", "p1")], 1)
    plain.publish(derived_run(pairs.of("pdf", "p2", time=pairs.NOON + 60.0)))
    follower.look()
    assert pairer.counts.joint == 2
    follower.look()
    again, pairer = beamtime.process()
    again.catch_up()
    again.look()
    assert (pairer.counts.joint, pairer.counts.errors, pairer.counts.postponed) == (0, 0, 0)
    assert beamtime.raw() == [("x1", "p1"), ("x1", "p2")]


def test_a_callback_that_is_started_again_makes_up_for_pairs(beamtime, pairs):
    plain = beamtime.publisher()
    for technique in ("xanes", "pdf"):
        plain.publish(derived_run(pairs.of(technique, technique, bare=True)))
    beamline = beamtime.beamline()
    beamline.publish(derived_run(pairs.of("xanes", "later", sample=Sample(name="another"), bare=True)))
    assert beamtime.raw() == [("xanes", "pdf")]


@pytest.mark.slow
def test_two_beamlines_that_publish_at_one_moment_leave_one_whole_answer(beamtime, pairs):
    for number in range(3):
        sample = Sample(name=f"sample {number}")
        barrier = threading.Barrier(2)

        def publish(technique, sample=sample, barrier=barrier):
            beamline = beamtime.beamline()
            documents = derived_run(pairs.of(technique, f"{technique} {sample.name}", sample=sample))
            barrier.wait()
            beamline.publish(documents)

        threads = [threading.Thread(target=publish, args=(each,)) for each in ("xanes", "pdf")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (found,) = beamtime.catalog.find(Query(technique="xanes+pdf", sample=sample.name), superseded=True)
        assert not found.failed
        assert "stop" in beamtime.catalog.container[found.uid].metadata


@pytest.mark.slow
def test_a_partner_that_is_still_being_written_is_waited_for(beamtime, pairs):
    plain, beamline = beamtime.publisher(), beamtime.beamline()
    xanes = derived_run(pairs.of("xanes", "x"))
    plain.publish([document for document in xanes if document[0] != "stop"])
    beamline.publish(derived_run(pairs.of("pdf", "p")))
    assert beamtime.joint() == []
    assert (beamline.counts.postponed > 0, beamline.counts.errors) == (True, 0)
    plain.publish(xanes)
    follower, _ = beamtime.process()
    follower.catch_up()
    assert beamtime.raw() == [("x", "p")]


@pytest.mark.slow
def test_a_run_of_an_earlier_version_is_a_failure_that_says_what_to_do(beamtime, pairs):
    plain = beamtime.publisher()
    older = derived_run(pairs.of("xanes", "x"))
    older[0][1].pop("curves")
    plain.publish(older)
    beamline = beamtime.beamline()
    beamline.publish(derived_run(pairs.of("pdf", "p", bare=True)))
    (found,) = beamtime.joint()
    assert "analyse its raw run again" in found.quality.reasons[0]


def test_a_failure_of_pairing_never_loses_the_single(beamtime, pairs):
    inner = beamtime.publisher()
    gone = TiledPublisher.from_uri(beamtime.uri, path=beamtime.path)
    gone.close()
    beamline = PairingPublisher(inner, beamtime.pairing(PredictionCatalog(gone.container)))
    beamline.publish(derived_run(pairs.of("xanes", "x", bare=True)))
    assert len(beamtime.catalog.find(Query(technique="xanes"))) == 1
    assert beamline.counts.errors + beamline.counts.postponed > 0


def test_partners_need_a_container_to_be_found_in(store):
    with pytest.raises(PublishError, match="expected a TiledPublisher"):
        XpdmlCallback(CallbackPublisher(print), store=store, pairing=PairingSettings())


def test_a_superseded_answer_is_not_paired(beamtime, pairs):
    """A replay that knows less of the energy axis changes nothing of the joint answer."""
    beamline = beamtime.beamline()
    live, pdf = pairs.of("xanes", "x", bare=True), pairs.of("pdf", "p", bare=True)
    for each in (live, pdf):
        beamline.publish(derived_run(each))
    before = beamtime.joint()
    axis = {"energy_axis": {"source": "none", "uncertainty": 2.0, "offset": 0.0}}
    beamline.publish(derived_run(replace(live, settings={**live.settings, **axis})))
    assert beamtime.joint() == before
    assert beamline.counts.errors == 0
    follower, pairer = beamtime.process()
    follower.catch_up()
    follower.look()
    assert beamtime.joint() == before
    assert pairer.counts.errors == 0


STRANGE = {
    "unknown technique": lambda start: start.update(technique="xanes+raman"),
    "unknown key": lambda start: start["origin"].update(facility="x"),
    "no models": lambda start: start.pop("models"),
    "another curve": lambda start: start.update(curves={"xanes": {"mode": "raman"}}),
    "no analysis": lambda start: start.pop("analysis"),
    "settings as text": lambda start: start["analysis"].update(settings="none"),
    "a joint answer without parts": lambda start: start.update(technique="xanes+pdf"),
}


def test_runs_of_later_versions_do_not_stop_pairing(beamtime, pairs):
    """Strange runs of the same sample are skipped, or are failures; the good ones are answered."""
    plain = beamtime.publisher()
    sample = Sample(name="strange")
    for name, change in STRANGE.items():
        documents = derived_run(pairs.of("xanes", name, sample=sample, time=pairs.NOON + 900.0, bare=True))
        change(documents[0][1])
        plain.container.create_container(
            key=documents[0][1]["uid"], metadata={"start": documents[0][1], "stop": documents[-1][1]}
        )
    plain.publish(derived_run(pairs.of("xanes", "x", sample=sample)))
    plain.publish(derived_run(pairs.of("pdf", "p", sample=sample)))
    follower, pairer = beamtime.process()
    follower.catch_up()
    follower.look()
    answers = [each for each in beamtime.joint() if not each.failed and each.models]
    assert ("x", "p") in [each.raw_uids for each in answers]
    assert (pairer.counts.errors, pairer.counts.waiting) == (0, 0)
