"""Formulas and form factors: what is read, what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_xpdml.errors import ReductionError, XpdmlError
from bluesky_xpdml.reduction.composition import ELEMENTS, atom_fractions, formula, parse_composition
from bluesky_xpdml.reduction.scattering_factors import compton, form_factor, mean_factors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("TiO2", {"Ti": 1, "O": 2}),
        ("Zr(HPO4)2", {"Zr": 1, "H": 2, "P": 2, "O": 8}),
        ("Ba0.5Sr0.5TiO3", {"Ba": 0.5, "Sr": 0.5, "Ti": 1, "O": 3}),
        ("Zr H2 P2 O8 H2 O", {"Zr": 1, "H": 4, "P": 2, "O": 9}),
        ("K3[Fe(CN)6]", {"K": 3, "Fe": 1, "C": 6, "N": 6}),
        ("CuSO4·5H2O", {"Cu": 1, "S": 1, "O": 9, "H": 10}),
        ("CuSO4(H2O)5", {"Cu": 1, "S": 1, "O": 9, "H": 10}),
        ("Co", {"Co": 1}),
        ("CO", {"C": 1, "O": 1}),
        ({"Ni": "2", "O": 2.5}, {"Ni": 2, "O": 2.5}),
    ],
)
def test_what_people_write_is_read(text, expected):
    assert parse_composition(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty.*TiO2"),
        ({}, "is empty"),
        ("tio2", "cannot read 'tio2'"),
        ("TiO-2", "cannot read '-2'"),
        ("Ti(O2", "brackets"),
        ("TiO2)", "brackets"),
        ("Ti(O]2", "brackets"),
        ("Xx2O", "symbol of an element.*'Xx'"),
        ("TiO0", "positive amount of O"),
        ({"Ti": -1}, "positive amount of Ti"),
        ({"Ti": float("nan")}, "positive amount of Ti"),
        ({"Ti": "many"}, "as a number, found 'many'"),
        ("CuSO4.5H2O", "two ways"),
        ("sample 7", "cannot read 'sample 7'"),
    ],
)
def test_what_is_no_composition_is_refused(text, message):
    with pytest.raises(ReductionError, match=message):
        parse_composition(text)


@given(
    st.dictionaries(
        st.sampled_from(ELEMENTS),
        st.floats(min_value=1e-3, max_value=1e3).map(lambda each: float(f"{each:.6g}")),
        min_size=1,
        max_size=6,
    )
)
def test_a_composition_survives_being_written(amounts):
    assert parse_composition(formula(amounts)) == pytest.approx(amounts)
    assert sum(atom_fractions(amounts).values()) == pytest.approx(1.0)


@given(st.text(max_size=20))
def test_any_text_is_a_composition_or_a_reason(text):
    try:
        amounts = parse_composition(text)
    except XpdmlError:
        return
    assert all(value > 0.0 for value in amounts.values())


def test_form_factors_begin_at_the_number_of_electrons():
    for number, element in enumerate(ELEMENTS, start=1):
        assert form_factor(element, np.zeros(1))[0] == pytest.approx(number, rel=0.01, abs=0.02)


def test_averages_of_one_element_are_equal_and_of_several_are_not():
    q = np.linspace(0.0, 25.0, 26)
    one, several = mean_factors("Ni", q), mean_factors("NiO", q)
    assert one.squared_mean == pytest.approx(one.mean_square)
    assert np.all(several.mean_square > several.squared_mean)


def test_compton_scattering_grows_from_nothing_to_all_electrons():
    values = compton("Ni", np.array([0.0, 0.01, 0.1, 1.0, 25.0, 70.0]))
    assert values[0] == 0.0
    assert np.all(np.diff(values) > 0.0)
    assert values[-1] == pytest.approx(28.0, rel=0.1)
    ratio = compton("Ni", np.array([25.0])) / mean_factors("Ni", np.array([25.0])).mean_square
    assert ratio[0] == pytest.approx(1.8, rel=0.1)


@pytest.mark.parametrize("q", [[-1.0], [80.0], [1.0, 300.0]])
def test_form_factors_out_of_range_are_refused(q):
    with pytest.raises(ReductionError, match="check the unit"):
        form_factor("Ni", np.array(q))
