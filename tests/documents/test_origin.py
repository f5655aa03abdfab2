"""What predictions carry over from the start document of their raw run."""

import pytest

from bluesky_xpdml.documents import origin_of


@pytest.mark.parametrize(
    ("start", "proposal"),
    [
        ({"proposal": {"proposal_id": "312345", "title": "Nickelates"}}, "312345"),
        ({"proposal_id": 7}, "7"),
        ({"XDI": {"Facility": {"GUP": 98765}}}, "98765"),
        ({"data_session": "pass-312345"}, "pass-312345"),
        ({"proposal": {"title": "without a number"}}, ""),
        ({}, ""),
    ],
)
def test_the_proposal_is_found_under_the_names_that_beamlines_use(
    start: dict[str, object], proposal: str
) -> None:
    assert origin_of(start).proposal == proposal


def test_only_the_entries_that_were_asked_for_are_carried_on() -> None:
    start = {"cell": {"channel": 4}, "operator": "someone", "position": [1.0, 2.0]}
    assert origin_of(start, carry=("cell.channel", "position", "missing")).keys == {"cell.channel": "4"}


def test_what_is_no_trial_and_no_time_is_left_out() -> None:
    origin = origin_of({"time": True, "xpdml_trial": "three"})
    assert origin.time is None
    assert origin.trial == {}
