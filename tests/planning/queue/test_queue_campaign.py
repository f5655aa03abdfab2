"""Files of campaigns, valid and invalid ones."""

import inspect
import re
from pathlib import Path

import pytest

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.boundary import BoundaryOptimizer
from bluesky_xpdml.planning.queue.campaign import Limits, read_campaign
from bluesky_xpdml.planning.queue.client import QueueAccess
from bluesky_xpdml.planning.uncertainty import UncertaintyOptimizer

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "plan-through-the-queue.md"
FILE = """
[question]
campaign = "front-7"
descriptor = "oxidation_state"
technique = "xanes"
element = "Fe"

[[parameters]]
name = "temperature"
low = 300
high = 800
unit = "K"
keyword = "kelvin"

[optimizer]
kind = "boundary"
tolerance = 0.02

[plan]
name = "measure"
kwargs = { hold = 1.5 }

[limits]
at_most_queued = 2
measurements = 60
seconds = 28800
patience = 120

[queue]
address = "tcp://localhost:60615"
"""


@pytest.fixture
def written(tmp_path):
    """Return a function that writes the file with a text replaced, and reads it."""

    def write(old="", new=""):
        assert old in FILE
        path = tmp_path / "campaign.toml"
        path.write_text(FILE.replace(old, new) if old else FILE)
        return read_campaign(path)

    return write


def test_a_file_configures_a_planner(written):
    campaign = written()
    assert campaign.limits == Limits(at_most_queued=2, measurements=60, seconds=28800.0, patience=120.0)
    assert campaign.access == QueueAccess(address="tcp://localhost:60615")
    item = campaign.plan.item("front-7", {"_id": "a", "temperature": 512.0})
    assert item["kwargs"] == {"hold": 1.5, "kelvin": 512.0}
    assert item["meta"]["xpdml_trial"]["parameters"] == {"temperature": 512.0}
    assert isinstance(campaign.new_optimizer(), BoundaryOptimizer)
    other = written('kind = "boundary"\ntolerance = 0.02', 'kind = "uncertainty"\nwidth = 0.5')
    assert isinstance(other.new_optimizer(), UncertaintyOptimizer)


def test_the_file_of_the_guide_can_be_read(tmp_path):
    (block,) = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "campaign.toml"
    path.write_text(inspect.cleandoc(block))
    campaign = read_campaign(path)
    assert (campaign.question.campaign, campaign.plan.kwargs) == ("front-7", {"hold": 60.0})
    campaign.new_optimizer()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[limits]", "[limit]", "expected question, parameters, .* in the file, found 'limit'"),
        ("[question]", "[question", "is no TOML file"),
        ('technique = "xanes"\n', "", "expected question.technique, found none: add it to"),
        ('technique = "xanes"', "technique = 3", "expected 'xanes'.* for question.technique, found 3"),
        ('"xanes"', '"raman"', "expected 'xanes', 'pdf'.* for question.technique, found 'raman'"),
        (
            '"oxidation_state"',
            '"valence"',
            "expected 'oxidation_state', .*descriptor, found 'valence'",
        ),
        ("low = 300", 'low = "cold"', "expected a valid number for parameters.low, found 'cold'"),
        ("low = 300", "low = 900", "expected a range of temperature from low to high, found 900 to 800"),
        ("[[parameters]]", "[parameters]", "in double brackets"),
        ("unit =", "units =", "expected name, low, high, unit in .parameters., found 'units'"),
        ('"kelvin"', '"hold"', "expected each argument of measure once, found hold twice"),
        (
            'name = "measure"',
            'name = "measure"\nmd = {}',
            "expected name, args, kwargs in .plan., found 'md'",
        ),
        ("{ hold = 1.5 }", "[1.5]", "expected .* for plan.kwargs"),
        ("at_most_queued = 2", "at_most_queued = 0", "expected a limit at_most_queued"),
        ("measurements = 60", "measurements = 6.5", "expected a valid integer.* for limits.measurements"),
        ("seconds = 28800", "seconds = nan", "expected a limit seconds above 0 s, found nan"),
        ("patience = 120", "", "expected limits.patience, found none"),
        (
            "tcp://localhost:60615",
            "localhost:60615",
            "such as tcp://localhost:60615, found 'localhost:60615'",
        ),
        ("tcp://localhost:60615", "tcp://beam:60615", "give its public key"),
        ("tcp://localhost:60615", "http://beam:60610", "use https"),
        ("tcp://localhost:60615", "http://key@localhost:60610", "without a key in it"),
        ('60615"', '60615"\npublic_key = "short"', "expected a public key of 40 characters, found 5"),
        ('60615"', '60615"\nposition = "middle"', "expected 'back' or 'front' for queue.position"),
        ('60615"', '60615"\napi_key = "secret"', "found 'api_key'"),
    ],
)
def test_an_invalid_file_is_a_clear_error(written, old, new, message):
    with pytest.raises(PlanningError, match=message) as error:
        written(old, new)
    assert "campaign.toml" in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"boundary"', '"annealing"', "expected an optimizer, boundary or uncertainty, found 'annealing'"),
        ("tolerance", "tolerence", "expected options of boundary, level, tolerance, .* found 'tolerence'"),
        ("0.02", "0.9", "expected a tolerance between 0 and 0.5"),
        ("0.02", '"small"', "expected options that boundary can take, found tolerance = 'small'"),
        ('"boundary"\ntolerance = 0.02', '"uncertainty"', "expected options that uncertainty can take"),
    ],
)
def test_invalid_options_of_an_optimizer_are_a_clear_error(written, old, new, message):
    with pytest.raises(PlanningError, match=message):
        written(old, new).new_optimizer()


def test_a_key_in_the_wrong_place_is_not_repeated(written):
    with pytest.raises(PlanningError, match="expected the name of an environment variable") as error:
        written('60615"', '60615"\napi_key_variable = "s3cret-key"')
    assert "s3cret" not in str(error.value)


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(PlanningError, match="cannot be read: No such file"):
        read_campaign(tmp_path / "none.toml")
