"""Scans of files as Bluesky runs."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from event_model import DocumentNames, DocumentRouter, schema_validators

from bluesky_xpdml.documents import REMARK_CODES, RunKind, collect_run, read_run
from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.records import AbsorptionScan, Quality, Sample
from bluesky_xpdml.reduction.xanes import reduce_xanes
from bluesky_xpdml.sources.files import read_scan
from bluesky_xpdml.sources.replay import scan_documents
from bluesky_xpdml.vocabulary import Reason, ReasonCode

ENERGY = np.linspace(7000.0, 7200.0, 40)


def scan(**changes):
    base = AbsorptionScan(
        energy=ENERGY,
        i0=np.full(40, 2.0),
        it=np.linspace(1.0, 2.0, 40),
        ir=np.linspace(3.0, 2.0, 40),
        fluorescence=np.linspace(0.0, 1.0, 40),
        element="Fe",
        edge="K",
        sample=Sample(name="LFP-3", composition="LiFePO4"),
        source="lfp.xdi",
    )
    return replace(base, **changes)


def test_documents_are_valid_and_in_order():
    documents = list(scan_documents(scan()))
    assert [name for name, _ in documents] == ["start", "descriptor", "event_page", "stop"]
    for name, document in documents:
        schema_validators[DocumentNames[name]].validate(document)
    router = DocumentRouter()
    for name, document in documents:
        router(name, document)


def test_the_start_document_states_what_the_file_states():
    start = dict(scan_documents(scan()))["start"]
    assert (start["element"], start["edge"], start["sample_name"], start["source"]) == (
        "Fe",
        "K",
        "LFP-3",
        "lfp.xdi",
    )
    assert start["num_points"] == 40
    silent = dict(scan_documents(scan(element="", sample=Sample())))["start"]
    assert "element" not in silent
    assert "sample_name" not in silent


def test_uids_follow_from_the_content():
    first, second = list(scan_documents(scan(), when=1.0)), list(scan_documents(scan(), when=1.0))
    assert first == second
    later = list(scan_documents(scan(), when=2.0))
    assert later[0][1]["uid"] == first[0][1]["uid"]
    noted = Quality().note(Reason("torn", ReasonCode.GLITCH))
    others = [scan(element="Co"), scan(it=np.linspace(1.0, 2.1, 40)), scan(quality=noted)]
    uids = {dict(scan_documents(other))["start"]["uid"] for other in [scan(), *others]}
    assert len(uids) == 4


def test_the_scan_comes_back_through_the_documents():
    measurement = read_run(collect_run(scan_documents(scan())))
    assert measurement.kind is RunKind.ABSORPTION
    assert measurement.profile.name == "generic"
    (back,) = measurement.scans
    for channel in ("energy", "i0", "it", "ir", "fluorescence"):
        assert np.array_equal(getattr(back, channel), getattr(scan(), channel)), channel
    assert (back.element, back.edge, back.sample) == ("Fe", "K", scan().sample)
    assert back.completeness == 1.0


def through_documents(original):
    (back,) = read_run(collect_run(scan_documents(original))).scans
    return back


def test_detector_elements_and_electron_yield_come_back():
    original = scan(
        fluorescence=None,
        fluorescence_elements={"DTC1": np.linspace(0.0, 1.0, 40), "column 8": np.linspace(0.0, 2.0, 40)},
        electron_yield=np.linspace(1.0, 3.0, 40),
    )
    back = through_documents(original)
    assert list(back.fluorescence_elements) == ["DTC1", "column 8"]
    assert np.array_equal(back.fluorescence_elements["column 8"], np.linspace(0.0, 2.0, 40))
    assert np.array_equal(back.electron_yield, original.electron_yield)
    assert back.fluorescence is None
    # Files of all beamlines call their monochromator Si(111), and are replayed as if measured now.
    assert back.mono == ""


def outcome(measured):
    try:
        xanes = reduce_xanes(measured)
    except XpdmlError as error:
        return str(error)
    return xanes.mode, xanes.axis, xanes.e0, xanes.norm.tobytes(), xanes.flat.tobytes()


def test_measured_files_reduce_to_the_same_bits_with_and_without_documents(shared_data, unread):
    folder = shared_data / "experiment" / "xanes"
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if f"xanes/{row['file']}" not in unread]
    for row in rows:
        original = read_scan(folder / row["file"], element=row["element"], edge=row["edge"])
        assert outcome(through_documents(original)) == outcome(original), row["file"]


def test_remarks_of_a_reader_come_back_with_their_codes():
    remarks = (Reason("torn", ReasonCode.GLITCH), Reason("no names", ReasonCode.INTERPRETED_INPUT))
    back = through_documents(scan(quality=Quality().note(*remarks)))
    assert back.quality.reasons == remarks
    assert [reason.code for reason in back.quality.reasons] == [reason.code for reason in remarks]


@pytest.mark.parametrize("codes", [None, [], ["glitch"], "glitch", ["of a later version", 7]])
def test_remarks_without_usable_codes_count_as_interpreted_input(codes):
    remarks = (Reason("torn", ReasonCode.GLITCH), Reason("no names", ReasonCode.NOISE))
    (name, start), *more = scan_documents(scan(quality=Quality().note(*remarks)))
    changed = {key: value for key, value in start.items() if key != REMARK_CODES}
    changed |= {} if codes is None else {REMARK_CODES: codes}
    (back,) = read_run(collect_run([(name, changed), *more])).scans
    assert [reason.code for reason in back.quality.reasons] == 2 * [ReasonCode.INTERPRETED_INPUT]
