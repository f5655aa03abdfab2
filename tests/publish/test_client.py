"""A derived run as Tiled's client returns it: a Bluesky run that also knows its prediction."""

import sys
from importlib.metadata import entry_points

import numpy as np
import pytest
from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRun
from tiled.client.container import Container

from bluesky_xpdml.errors import MissingDataError, MissingExtraError
from bluesky_xpdml.publish import LiveRun, TiledPublisher, derived_run
from bluesky_xpdml.records import PairDistribution
from bluesky_xpdml.vocabulary import Descriptor, Technique

R, Q = np.linspace(0.0, 20.0, 120), np.linspace(0.1, 25.0, 90)
CURVE = PairDistribution(
    r=R, g=np.sin(R) / 3.0, q=Q, intensity=np.cos(Q), f=np.sqrt(Q), composition={"Fe": 1.0}
)


@pytest.fixture
def opened(container):
    """Return a function that publishes a prediction and opens its run as every client of Tiled does."""

    def publish(prediction):
        documents = derived_run(prediction)
        TiledPublisher(container).publish(documents)
        return container[documents[0][1]["uid"]]

    return publish


def test_the_class_is_announced_to_every_client_of_tiled():
    (announced,) = (
        each for each in entry_points(group="tiled.special_client") if each.name == "XpdmlPrediction"
    )
    from bluesky_xpdml.publish.client import PredictionRun

    assert announced.load() is PredictionRun


def test_a_run_knows_its_prediction_and_its_curves(opened, answer):
    run = opened(answer("raw", pdf=CURVE, technique=Technique.PDF))
    assert isinstance(run, BlueskyRun)
    assert run.prediction.descriptors[Descriptor.OXIDATION_STATE].value == 2.5
    assert run.prediction.raw_uids == ("raw",)
    curves = run.curves()
    assert set(curves) == {"pdf"}
    np.testing.assert_array_equal(curves["pdf"].g, CURVE.g)
    np.testing.assert_array_equal(curves["pdf"].intensity, CURVE.intensity)
    # As with every Bluesky run.
    assert list(run) == ["pdf", "predictions"]
    assert run.start["technique"] == "pdf"
    assert run.stop["exit_status"] == "success"
    assert run.pdf.read()["g_r"].values.tolist() == CURVE.g.tolist()
    assert isinstance(run.base, Container)
    assert "BlueskyRun" in repr(run)


def test_a_run_is_drawn_with_its_answer(opened, answer, tmp_path):
    run = opened(answer("raw", pdf=CURVE, technique=Technique.PDF, source="scan 7"))
    figure = run.plot(tmp_path / "pdf.png")
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "scan 7\noxidation state 2.5"
    assert axes.lines[0].get_ydata().tolist() == CURVE.g[R <= 15.0].tolist()
    assert (tmp_path / "pdf.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(opened, answer, monkeypatch):
    run = opened(answer("raw", pdf=CURVE, technique=Technique.PDF))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"bluesky-xpdml\[demo\]"):
        run.plot()


def test_a_joint_answer_has_no_curves_of_its_own(opened, answer):
    run = opened(answer(("x", "p"), technique=Technique.XANES_PDF))
    assert run.curves() == {}
    with pytest.raises(MissingDataError, match=r"settings\.pairing"):
        run.plot()


def test_a_live_run_is_a_bluesky_run_only(container, answer):
    live = LiveRun()
    TiledPublisher(container).extend(live.update(answer("raw")))
    run = container[live.uid]
    assert isinstance(run, BlueskyRun)
    assert [spec.name for spec in run.specs] == ["BlueskyRun"]
