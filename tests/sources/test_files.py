"""Data files read into absorption scans."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.documents.scan import HC
from bluesky_xpdml.errors import DocumentError, FileFormatError, MissingDataError, XpdmlError
from bluesky_xpdml.records import DetectionMode
from bluesky_xpdml.reduction.xanes import reduce_xanes
from bluesky_xpdml.sources.files import read_scan
from bluesky_xpdml.vocabulary import ReasonCode

ENERGY = np.arange(7050.0, 7250.0, 2.0)
MU = 0.5 + np.arctan((ENERGY - 7124.0) / 2.0) / np.pi
I0 = 1e5 + ENERGY
CHANNELS = {
    "energy": ENERGY,
    "i0": I0,
    "itrans": I0 * np.exp(-MU),
    "irefer": I0 * np.exp(-2.0 * MU),
    "mutrans": MU,
}

XDI_HEADER = """# XDI/1.0 GSE/1.0
# Column.1: energy eV
# Column.2: i0
# Column.3: itrans
# Element.symbol: Fe
# Element.edge: K
# Facility.name: APS
# Facility.xray_source: undulator
# Beamline.name: 13ID
# Mono.name: Si 111
# Mono.d_spacing: 3.13553
# Sample.name: hematite
# Sample.formula: Fe2O3
# Scan.start_time: 2001-06-26T22:27:31
# ///
# a comment
#----
# energy i0 itrans
"""


def rows(*names):
    return "\n".join(
        " ".join(f"{value:.9g}" for value in row) for row in zip(*(CHANNELS[n] for n in names), strict=True)
    )


VALID = XDI_HEADER + rows("energy", "i0", "itrans") + "\n"


@pytest.fixture
def write(tmp_path):
    def write(text, name="scan.dat"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_an_xdi_file_needs_no_options(write):
    scan = read_scan(write(VALID, "scan.xdi"))
    assert (scan.element, scan.edge, scan.source) == ("Fe", "K", "scan.xdi")
    assert (scan.sample.name, scan.sample.composition) == ("hematite", "Fe2O3")
    assert scan.quality.reasons == ()
    assert scan.energy == pytest.approx(ENERGY)
    assert np.log(scan.i0 / scan.it) == pytest.approx(MU, abs=1e-6)
    assert scan.ir is None
    assert scan.mu is None


def test_counts_and_mu_of_one_file_are_both_kept(write):
    scan = read_scan(write("# energy i0 itrans mutrans\n" + rows("energy", "i0", "itrans", "mutrans")))
    assert scan.it is not None
    assert scan.mu is not None


def test_angles_become_energies(write):
    angle = np.rad2deg(np.arcsin(HC / (2.0 * 3.13553 * ENERGY)))
    table = "\n".join(f"{a:.9f} {m:.6f}" for a, m in zip(angle, MU, strict=True))
    header = "# XDI/1.0 a\n# Column.1: angle degrees\n# Column.2: mutrans\n{}# ///\n# c\n#---\n"
    given = read_scan(write(header.format("# Mono.d_spacing: 3.13553\n") + table, "given.xdi"))
    assert given.energy == pytest.approx(ENERGY, abs=1e-3)
    named = read_scan(write(header.format("# Mono.name: Si(111)\n") + table, "named.xdi"))
    assert named.energy == pytest.approx(ENERGY, abs=0.2)
    assert any("angle given without mono.d_spacing" in reason for reason in named.quality.reasons)
    with pytest.raises(MissingDataError, match=r"expected Mono\.d_spacing beside an axis of angles"):
        read_scan(write(header.format("") + table, "silent.xdi"))


def test_two_columns_without_names_are_energy_and_mu_with_a_remark(write):
    scan = read_scan(write(rows("energy", "mutrans")))
    assert scan.quality.has(ReasonCode.INTERPRETED_INPUT)
    assert scan.mu == pytest.approx(MU, abs=1e-6)
    assert scan.quality.reasons == ("the columns have no names; taken as energy and mu",)
    assert scan.element == ""


def test_more_columns_without_names_are_refused_with_advice(write):
    path = write(rows("energy", "i0", "itrans"))
    with pytest.raises(
        MissingDataError, match=r"scan\.dat: the 3 columns have no names.*--columns energy,i0,it"
    ):
        read_scan(path)
    scan = read_scan(path, columns=["energy", "i0", "it"])
    assert np.log(scan.i0 / scan.it) == pytest.approx(MU, abs=1e-6)


def test_columns_of_the_caller_override_names(write):
    path = write("# energy i0 itrans mutrans\n" + rows("energy", "itrans", "i0", "mutrans"))
    scan = read_scan(path, columns=["energy", "it", "i0", "-"])
    assert np.log(scan.i0 / scan.it) == pytest.approx(MU, abs=1e-6)
    assert scan.mu is None


def test_an_element_of_the_caller_overrides_that_of_the_file_with_a_remark(write):
    path = write(VALID, "scan.xdi")
    scan = read_scan(path, element="Co", edge="K")
    assert scan.element == "Co"
    (remark,) = scan.quality.of(ReasonCode.ELEMENT_CONTRADICTED)
    assert remark == "element Co was given; the file says Fe"
    with pytest.raises(DocumentError, match="expected the name of an element, found 'Xx'"):
        read_scan(path, element="Xx")


def keV(label, factor=1e-3):  # noqa: N802
    return f"# {label} mu\n" + "\n".join(f"{e * factor:.6f} {m:.6f}" for e, m in zip(ENERGY, MU, strict=True))


def test_units_are_stated_given_or_required(write):
    assert read_scan(write(keV("energy_keV"))).energy == pytest.approx(ENERGY)
    assert read_scan(write(keV("energy")), energy_unit="keV").energy == pytest.approx(ENERGY)
    with pytest.raises(
        FileFormatError, match=r"energies run from 7.05 to 7.248 without a unit.*--energy-unit keV"
    ):
        read_scan(write(keV("energy")))
    with pytest.raises(FileFormatError, match="labelled eV: the unit is unclear"):
        read_scan(write(keV("energy_eV")))
    with pytest.raises(FileFormatError, match="labelled keV: the unit is unclear"):
        read_scan(write(keV("energy_keV", 1.0)))
    with pytest.raises(DocumentError, match="keV"):
        read_scan(write(keV("energy")), energy_unit="nm")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("# x y\n" + rows("energy", "i0", "itrans"), MissingDataError, "3 columns have no names"),
        ("# energy i0 foo\n" + rows("energy", "i0", "itrans"), MissingDataError, "found i0"),
        ("# energy mu\n7000 1\n7001 2\n", DocumentError, "at least 10 points"),
    ],
)
def test_a_table_that_is_no_scan_is_refused(write, text, error, message):
    with pytest.raises(error, match=message):
        read_scan(write(text))


def test_an_xdi_file_without_its_first_line_is_refused(write):
    with pytest.raises(FileFormatError, match=r"scan\.xdi: line 1: expected '# XDI/1\.0"):
        read_scan(write(VALID.split("\n", 1)[1], "scan.xdi"))


PIECES = st.sampled_from(
    [*"0123456789.-+eE#%:/ \t\n,;_", "nan", "inf", "1e999", "é", "\ufeff", "\r", "\x1c", "-0", "Column.1:"]
)


@settings(max_examples=300, deadline=None)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 30), PIECES), min_size=1, max_size=12
    ),
    name=st.sampled_from(["scan.xdi", "scan.dat"]),
)
def test_a_mutated_file_is_read_or_refused(tmp_path_factory, edits, name):
    text = VALID
    for position, length, piece in edits:
        text = text[:position] + piece + text[position + length :]
    path = tmp_path_factory.getbasetemp() / name
    path.write_text(text, encoding="utf-8", newline="")
    try:
        scan = read_scan(path)
    except XpdmlError:
        return
    assert np.all(np.diff(scan.energy) > 0.0)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=300), name=st.sampled_from(["scan.xdi", "scan.dat"]))
def test_anything_is_read_or_refused(tmp_path_factory, content, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    with pytest.raises(XpdmlError):
        read_scan(path)


ROLES = {
    "energy": "energy",
    "i0": "i0",
    "itrans": "it",
    "it": "it",
    "irefer": "ir",
    "ir": "ir",
    "ifluor": "fluorescence",
    "iff": "fluorescence",
    "mu": "mu",
    "mutrans": "mu",
}


def columns_that_differ(path, row):
    """Return the columns of a file whose mean is not that of the channel with their role."""
    scan = read_scan(path)
    if row["columns"].startswith("see"):
        return [] if len(scan.fluorescence_elements) in (4, 8) else ["detector elements"]
    names = row["columns"].split(" (")[0].split()
    table = np.loadtxt(path, comments="#", skiprows=18 if "APS10BM" in row["file"] else 0)
    channels = {name: getattr(scan, ROLES[name]) for name in names if name in ROLES}
    return [
        name
        for index, name in enumerate(names)
        if name in channels
        and (
            channels[name] is None
            or not np.isclose(np.nanmean(channels[name]), table[:, index].mean(), rtol=5e-3)
        )
    ]


def test_every_labelled_file_is_read_with_the_right_columns_or_refused(shared_data, unread):
    folder = shared_data / "experiment" / "xanes"
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        labels = {row["file"]: row for row in csv.DictReader(file)}
    refused = {
        name.removeprefix("xanes/"): text for name, text in unread.items() if name.startswith("xanes/")
    }
    assert set(refused) < set(labels)
    for name, text in refused.items():
        with pytest.raises(MissingDataError, match=text):
            read_scan(folder / name)
    read = [name for name in labels if name not in refused]
    wrong = {name: columns_that_differ(folder / name, labels[name]) for name in read}
    assert {name: columns for name, columns in wrong.items() if columns} == {}


@pytest.mark.parametrize(
    ("name", "element", "e0"), [("NSLS6BM_2019.dat", "V", 5465.0), ("NSLS8ID_2019.dat", "As", 11867.0)]
)
def test_files_of_bmm_and_iss_need_no_options(shared_data, name, element, e0):
    scan = read_scan(shared_data / "experiment" / "xanes" / "xraylarch" / name)
    assert (scan.element, scan.edge) == (element, "K")
    xanes = reduce_xanes(scan)
    # Neither sample lets enough through: their spectra are in the fluorescence.
    assert xanes.mode is DetectionMode.FLUORESCENCE
    assert abs(xanes.e0 - e0) < 10.0


def test_electron_yield_and_detector_elements_have_columns_of_their_own(tmp_path):
    rows = "\n".join(f"{7000 + i} 2.0 {i} {2 * i} {i + 1}" for i in range(20))
    (tmp_path / "scan.dat").write_text(f"# energy i0 Fe1 Fe2 iy\n{rows}\n")
    scan = read_scan(tmp_path / "scan.dat", element="Fe", edge="K")
    assert {key: values[3] for key, values in scan.fluorescence_elements.items()} == {"Fe1": 3.0, "Fe2": 6.0}
    assert scan.fluorescence is None
    assert scan.electron_yield[3] == 4.0
