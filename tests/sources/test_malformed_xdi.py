"""The malformed files that come with the XDI format: refused with the line, or read with the fault named."""

import pytest

from bluesky_xpdml.errors import FileFormatError
from bluesky_xpdml.sources.files import read_scan

READ = {
    2: "no Element.edge",
    3: "no Element.symbol",
    4: "Element.edge is 'Foo'",
    5: "Element.symbol is 'Foo'",
    6: "no line '#----'",
    7: "no label for column 1, 2, 3, 4",
    8: "no label for column 4",
    9: "a label for column 5 of a table of 4",
    10: "a label for column 7 of a table of 4",
    11: "no '#' before line 12, 13",
    23: "family.00key starts with a digit",
    25: "no application after the version",
    26: "no user comment",
    27: "no user comment",
    28: "start_time is '2001-Jun-26 22:27:31'",
    29: "start_time is '2001-26-6T22:27:31'",
    30: "Element.symbol is 'Foo', which is none; Element.edge is 'Bar'",
    31: "d_spacing is 'three point",
    32: "lacks Facility.name, Beamline.name",
    33: "temperature is '300.0a K'",
    34: "energy is '7.00 missing units'",
    35: "current is '101x ma'",
}
REFUSED = {
    1: "line 1: expected '# XDI/1.0",
    13: "line 31: expected 4 columns as in the first row, found 3",
    14: "line 36: expected 4 columns as in the first row, found 6",
    15: "line 29: expected a finite number in column 2, found nan",
    16: "line 30: expected a number, found 'STRING'",
    17: "line 29: expected a number, found '1.4.9'",
    18: "line 8: expected '# Family.Key: value' in the header, found 'Family.key:'",
    19: "line 8: expected '# Family.Key: value'",
    20: "line 8: expected '# Family.Key: value'",
    21: "line 8: expected '# Family.Key: value'",
    22: "line 8: expected '# Family.Key: value'",
    24: "line 8: expected '# Family.Key: value'",
}


@pytest.fixture
def folder(shared_data):
    return shared_data / "experiment" / "xanes" / "xas-data-interchange" / "baddata"


def test_the_valid_file_is_read_without_a_remark(folder):
    scan = read_scan(folder / "bad_00.xdi")
    assert (scan.element, scan.edge, scan.energy.size) == ("Cu", "K", 12)
    assert scan.quality.reasons == ()


@pytest.mark.parametrize("number", READ)
def test_faults_of_the_header_are_named(folder, number):
    scan = read_scan(folder / f"bad_{number:02d}.xdi")
    assert scan.energy.size >= 10
    assert scan.it is not None
    assert len(scan.quality.reasons) == 1
    assert READ[number] in scan.quality.reasons[0]


@pytest.mark.parametrize("number", REFUSED)
def test_faults_of_the_numbers_are_refused_with_their_line(folder, number):
    with pytest.raises(FileFormatError) as caught:
        read_scan(folder / f"bad_{number:02d}.xdi")
    assert REFUSED[number] in str(caught.value)
    assert f"bad_{number:02d}.xdi" in str(caught.value)


def test_the_angles_without_a_distance_are_named(folder):
    """Eight points are too few for a scan whatever its axis; the fault of the header is said all the same."""
    with pytest.raises(ValueError, match=r"found 8 of 8.*angle given without mono\.d_spacing"):
        read_scan(folder / "bad_12.xdi")


def test_every_file_of_the_list_is_tested():
    assert {0, 12, *READ, *REFUSED} == set(range(36))
