"""Joint answers through a real Tiled server: equal to those from memory, one a pair, whatever happens.

Bare answers come without their curves: where only the pairs count, they are found by joint failures.
"""

import threading
from dataclasses import replace
from itertools import count

import pytest

from bluesky_xpdml import BundleStore, CallbackPublisher, TiledPublisher, XpdmlCallback
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.models.joint import predict_joint
from bluesky_xpdml.pairing.pairing import Pairing
from bluesky_xpdml.pairing.publisher import Follower, Pairer, PairingPublisher
from bluesky_xpdml.publish import PredictionCatalog, Query, derived_run
from bluesky_xpdml.records import Sample
from bluesky_xpdml.settings import PairingSettings

HOUR = PairingSettings(within=3600.0)
_numbers = count()


class Beamtime:
    """A container of its own, and what publishes into it; each publisher is a process's."""

    def __init__(self, server, store):
        self.uri, self.store = server.uri, store
        self.path = f"pairing/{next(_numbers)}"
        self.opened = []
        self.catalog = PredictionCatalog(self.publisher().container)

    def publisher(self):
        self.opened.append(TiledPublisher.from_uri(self.uri, path=self.path))
        return self.opened[-1]

    def pairing(self, settings=HOUR, store=None):
        return Pairing(catalog=self.catalog, store=store or self.store, settings=settings)

    def beamline(self, settings=HOUR, store=None):
        """Return the publisher of a beamline that pairs."""
        inner = self.publisher()
        catalog = PredictionCatalog(inner.container)
        return PairingPublisher(inner, Pairing(catalog=catalog, store=store or self.store, settings=settings))

    def process(self):
        """Return what `xpdml pair` does."""
        inner = self.publisher()
        pairing = Pairing(catalog=PredictionCatalog(inner.container), store=self.store, settings=HOUR)
        pairer = Pairer(inner, pairing)
        return Follower(pairer), pairer

    def joint(self):
        """Return all joint answers, newest first."""
        return self.catalog.find(Query(technique="xanes+pdf"), superseded=True)

    def raw(self):
        return sorted(each.raw_uids for each in self.joint())

    def close(self):
        for publisher in self.opened:
            publisher.close()


@pytest.fixture
def beamtime(tiled_server, store):
    opened = Beamtime(tiled_server, store)
    yield opened
    opened.close()


def test_the_answer_through_tiled_is_that_from_memory_bit_for_bit(beamtime, pairs, store):
    xanes, pdf = (
        pairs.of("xanes", "x", beamline="BMM", proposal="7"),
        pairs.of("pdf", "p", time=pairs.NOON + 60.0, beamline="PDF", proposal="7"),
    )
    beamline = beamtime.beamline()
    beamline.publish(derived_run(xanes))
    beamline.publish(derived_run(pdf))
    (found,) = beamtime.joint()
    expected = predict_joint(xanes.xanes, pdf.pdf, store, "xanes+pdf")
    told = {
        "xanes": derived_run(xanes)[0][1]["uid"],
        "pdf": derived_run(pdf)[0][1]["uid"],
        "by": "sample name",
    }
    expected = replace(
        expected,
        settings={**expected.settings, "pairing": told},
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


def test_a_single_without_a_partner_waits(beamtime, pairs):
    beamline = beamtime.beamline()
    beamline.publish(derived_run(pairs.of("xanes", "x", bare=True)))
    beamline.publish(derived_run(pairs.of("pdf", "p", time=pairs.NOON + 7200.0, bare=True)))
    beamline.publish(derived_run(pairs.of("pdf", "q", sample=Sample(name="another"), bare=True)))
    assert (beamtime.joint(), beamline.counts.errors) == ([], 0)
    single = beamtime.catalog.find(Query(technique="xanes"))[0]
    assert beamtime.pairing().answer(single) is None


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
    answer = beamtime.pairing().answer(beamtime.catalog.find(Query(technique="pdf"))[0])
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
    pairing = Pairing(catalog=PredictionCatalog(gone.container), store=beamtime.store, settings=HOUR)
    beamline = PairingPublisher(inner, pairing)
    beamline.publish(derived_run(pairs.of("xanes", "x", bare=True)))
    assert len(beamtime.catalog.find(Query(technique="xanes"))) == 1
    assert beamline.counts.errors + beamline.counts.postponed > 0


def test_partners_need_a_container_to_be_found_in(store):
    with pytest.raises(PublishError, match="expected a TiledPublisher"):
        XpdmlCallback(CallbackPublisher(print), store=store, pairing=HOUR)
