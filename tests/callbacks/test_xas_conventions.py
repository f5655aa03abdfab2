"""Runs of BMM, ISS and QAS through the callback: each ends in one answer, or in a reason."""

import numpy as np
import pytest


def sent(callback, documents):
    for name, document in documents:
        callback(name, document)
    assert callback.drain(timeout=60)
    assert callback.statistics.errors == 0
    return documents[0][1]["uid"]


WRITERS = {
    "bmm down": ("bmm_documents", {"descending": True}),
    "bmm fluorescence": ("bmm_documents", {"mode": "fluorescence", "others": ("Mn",)}),
    "iss": ("iss_documents", {"noise": 1e-3}),
    "iss triggered": ("iss_documents", {"triggered": True, "n_samples": 40_000}),
    "qas": ("qas_documents", {"noise": 1e-3}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_convention_is_answered_alike(callback, derived, conventions, name):
    write, how = WRITERS[name]
    uid = sent(callback, getattr(conventions, write)(conventions.Known(), **how))
    start = derived.of(uid)
    assert start["quality"]["verdict"] in ("good", "suspect"), start["quality"]
    assert start["analysis"]["settings"]["profile"] == name.split()[0]
    assert start["element"] == "Fe"
    # One sample in every convention is one answer, up to noise and to whole numbers of counts.
    plain = derived.of(sent(callback, conventions.bmm_documents(conventions.Known())))
    states = [each["descriptors"]["oxidation_state"]["value"] for each in (start, plain)]
    assert abs(states[0] - states[1]) < 0.1
    assert start["sample"]["name"].startswith("iron oxide")


def test_a_run_that_was_stopped_early_is_published_as_incomplete(callback, derived, conventions):
    known = conventions.Known()
    uid = sent(callback, conventions.bmm_documents(known, stop_after=230))
    start = derived.of(uid)
    assert start["completeness"] == pytest.approx(230 / known.grid().size)
    assert start["quality"]["verdict"] != "good"


def test_another_edge_is_reduced_and_judged_and_says_why_it_is_not_answered(callback, derived, conventions):
    known = conventions.Known(element="Pt", edge="L3", edge_energy=11564.0)
    uid = sent(callback, conventions.iss_documents(known))
    start = derived.of(uid)
    assert (start["element"], start["edge"]) == ("Pt", "L3")
    assert start["descriptors"] == {}
    assert start["quality"]["verdict"] == "failed"
    assert "Pt" in start["quality"]["reasons"][0]
    streams = [document["name"] for name, document in derived.documents if name == "descriptor"]
    assert streams == ["xanes"]


def test_a_scan_over_two_edges_is_answered_for_both(callback, derived, conventions):
    manganese = conventions.Known(element="Mn", edge_energy=6539.0, high=290.0)
    iron = conventions.Known()
    energy = np.concatenate([manganese.grid(), iron.grid()])
    documents = conventions.bmm_documents(manganese, energy=energy, start={"num_points": energy.size})
    documents[0][1]["XDI"]["Element"] = {"symbol": ["Mn", "Fe"], "edge": "K"}
    for name, document in documents:
        if name == "event" and "It" in document["data"]:
            data, at = document["data"], np.array(document["data"]["dcm_energy"])
            data["It"] = float(data["It"] * np.exp(-iron.mu(at, iron.sample_above)))
            data["Ir"] = float(data["It"] * np.exp(-0.4))
    uid = sent(callback, documents)
    answers = {start["element"]: start for start in derived.starts if start["raw_uid"] == uid}
    assert list(answers) == ["Mn", "Fe"]
    assert len({start["uid"] for start in answers.values()}) == 2
    for element, start in answers.items():
        assert f"the run names Mn, Fe; this is {element}" in start["quality"]["reasons"]
        assert "oxidation_state" in start["descriptors"], start["quality"]


def test_both_techniques_of_qas_reach_their_analysis(callback, derived, conventions):
    scan = sent(callback, conventions.qas_documents(conventions.Known()))
    image = np.full((16, 16), 7, dtype=np.uint16)
    frames = sent(callback, conventions.qas_diffraction_documents(image, composition_str="NiO"))
    techniques = {start["raw_uid"]: start["technique"] for start in derived.starts}
    assert techniques[scan] == "xanes"
    assert techniques[frames] in ("pdf", "dpdf")


def test_a_continuous_scan_without_its_encoder_is_published_with_the_reason(callback, derived, conventions):
    documents = [
        (name, document)
        for name, document in conventions.iss_documents(conventions.Known(), n_samples=2_000)
        if not (name == "event_page" and "pb9_enc1" in document["data"])
    ]
    quality = derived.of(sent(callback, documents))["quality"]
    assert quality["verdict"] == "failed"
    assert "a table of the encoder (pb9_enc1)" in quality["reasons"][0]
