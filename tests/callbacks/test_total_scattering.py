"""Total-scattering runs of each convention go in, G(r) and answers come out; what is missing is said."""

from types import SimpleNamespace

import numpy as np
import pytest

from bluesky_xpdml import BundleStore, CallbackPublisher, XpdmlCallback
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.reduction.calibration import calibration_from
from bluesky_xpdml.reduction.pdf import PdfSettings
from bluesky_xpdml.settings import ScatteringSettings


class Result:
    """Derived runs of one stream of documents."""

    def __init__(self, documents, statistics):
        self.documents = documents
        self.statistics = statistics

    @property
    def starts(self):
        return [document for name, document in self.documents if name == "start"]

    def pdf(self, start):
        """Return the arrays of the stream `pdf` of a derived run."""
        names = {
            d["uid"]: d["name"]
            for n, d in self.documents
            if n == "descriptor" and d["run_start"] == start["uid"]
        }
        (event,) = (d for n, d in self.documents if n == "event" and names.get(d["descriptor"]) == "pdf")
        return {key: np.array(values) for key, values in event["data"].items()}


@pytest.fixture(scope="module")
def no_models(tmp_path_factory):
    return BundleStore(tmp_path_factory.mktemp("no-models"))


@pytest.fixture
def analysed(no_models):
    """Return a function that sends documents through a callback without models."""

    def analyse(*runs, settings=None, fetch=None, profile="auto"):
        derived = []
        publisher = CallbackPublisher(lambda name, document: derived.append((name, document)))
        with XpdmlCallback(
            publisher, store=no_models, scattering=settings, fetch=fetch, profile=profile
        ) as callback:
            for documents in runs:
                for name, document in documents:
                    callback(name, document)
            assert callback.drain(timeout=120)
        assert callback.statistics.errors == 0
        return Result(derived, callback.statistics)

    return analyse


def reasons(start):
    return "; ".join(start["quality"]["reasons"])


def changed(documents, index, **fields):
    name, document = documents[index]
    return [*documents[:index], (name, document | fields), *documents[index + 1 :]]


def test_each_convention_gives_the_same_distribution(analysed, powder):
    conventions = {
        "xpd": (powder.dark_run(), powder.older()),
        "xpdacq": (powder.streams(),),
        "pdf": (powder.positions(),),
    }
    fixed = ScatteringSettings(pdf=PdfSettings(q_min=1.0, q_max=18.0, q_max_inst=20.0, r_poly=0.9))
    curves = {}
    for profile, runs in conventions.items():
        result = analysed(*runs, settings=fixed)
        (start,) = result.starts
        assert start["analysis"]["profile"] == profile
        assert start["technique"] == "pdf"
        assert start["element"] == "Ni"
        assert start["sample"]["name"] == "NiO"
        assert start["quality"]["reasons"][0].startswith("no pdf model for")
        assert start["quality"]["verdict"] == "failed"
        curves[profile] = result.pdf(start)
        assert set(curves[profile]) == {"q", "i_q", "f_q", "r", "g_r"}
    r, reference = curves["xpd"]["r"], curves["xpd"]["g_r"]
    shown = (r > 1.5) & (r < 6.0)
    for curve in curves.values():
        assert np.corrcoef(curve["g_r"][shown], reference[shown])[0, 1] > 0.98
    assert r[shown][np.argmax(reference[shown])] == pytest.approx(4.66, abs=0.1)


def test_images_beside_other_streams_are_found(analysed, powder):
    (start,) = analysed(powder.mixed()).starts
    assert start["element"] == "Ni"
    assert "no dark was subtracted" in reasons(start)
    assert start["completeness"] == 1.0


def test_the_dark_run_is_subtracted_and_is_no_measurement(analysed, powder):
    result = analysed(powder.dark_run(n_frames=3), powder.older())
    (start,) = result.starts
    assert start["raw_uid"] == "raw"
    assert start["analysis"]["settings"]["integration"]["dark"] == "3 frames"
    assert "dark was subtracted" not in reasons(start)
    assert result.statistics.ignored == 1


def test_a_dark_run_that_was_not_seen_is_said_or_fetched(analysed, powder):
    (alone,) = analysed(powder.older()).starts
    assert "the dark run dark was not seen" in reasons(alone)
    (fetched,) = analysed(powder.older(), fetch=powder.dark_run).starts
    assert fetched["analysis"]["settings"]["integration"]["dark"] == "1 frames"
    assert "not seen" not in reasons(fetched)


def test_old_dark_runs_are_forgotten(analysed, powder):
    darks = [powder.dark_run(f"dark-{number}") for number in range(8)]
    (start,) = analysed(*darks, powder.older(sc_dk_field_uid="dark-0")).starts
    assert "dark-0 was not seen" in reasons(start)


@pytest.mark.parametrize("uid", [None, ""])
def test_no_dark_at_all_is_suspect_and_not_the_previous_one(analysed, powder, uid):
    (start,) = analysed(powder.dark_run(), powder.older(sc_dk_field_uid=uid)).starts
    assert "names no dark run" in reasons(start)
    assert start["analysis"]["settings"]["integration"]["dark"] == "none"


def test_a_counting_detector_needs_no_dark(analysed, powder):
    (start,) = analysed(powder.positions()).starts
    assert "counts photons" in reasons(start)


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ({"calibration_md": None}, "no calibration of the detector"),
        ({"calibration_md": {"dist": 0.2}}, "the calibration lacks poni1"),
        ({"calibration_md": 7}, "expected the calibration as a mapping"),
        ({"composition_string": None, "sample_composition": None}, "composition of the sample is not known"),
        ({"composition_string": "Xx2", "sample_composition": None}, "symbol of an element"),
        ({"composition_string": "SiO2", "sample_composition": None}, "found Si, O: there is no model"),
    ],
)
def test_what_is_missing_is_a_failure_with_the_reason(analysed, powder, missing, reason):
    (start,) = analysed(powder.dark_run(), powder.older(**missing)).starts
    assert start["quality"]["verdict"] == "failed"
    assert reason in reasons(start)
    assert start["descriptors"] == {}


def test_without_a_wavelength_there_is_no_answer_but_the_run_may_say_it(analysed, powder):
    calibration = {key: value for key, value in powder.calibration.items() if key != "wavelength"}
    (lost,) = analysed(powder.older(calibration_md=calibration, bt_wavelength=None)).starts
    assert "the calibration lacks wavelength" in reasons(lost)
    (said,) = analysed(powder.older(calibration_md=calibration)).starts
    assert said["element"] == "Ni"
    (torn,) = analysed(powder.older(bt_wavelength=0.2)).starts
    assert "wavelength of the calibration is 0.1836 angstrom, that of the run 0.2" in reasons(torn)


def test_a_poni_file_and_the_settings_give_the_calibration(analysed, powder, tmp_path):
    lines = {"Distance": 0.2, "Poni1": 0.0, "Poni2": 0.0, "Rot1": 0.0, "Rot2": 0.0, "Rot3": 0.0}
    text = 'Detector_config: {"pixel1": 1.3e-3, "pixel2": 1.3e-3}\n'
    text += "".join(f"{key}: {value}\n" for key, value in lines.items())
    poni = tmp_path / "detector.poni"
    poni.write_text(text)
    by_file = powder.older(calibration_md=None, poni_file=str(poni))
    settings = ScatteringSettings(calibration=calibration_from(powder.calibration))
    by_settings = powder.older(calibration_md=None)
    curves = []
    for result in (analysed(powder.older()), analysed(by_file), analysed(by_settings, settings=settings)):
        (start,) = result.starts
        curves.append(result.pdf(start)["g_r"])
    np.testing.assert_allclose(curves[1], curves[0], atol=1e-6)
    np.testing.assert_allclose(curves[2], curves[0], atol=1e-6)
    (lost,) = analysed(powder.older(calibration_md=None, poni_file="/not/there.poni")).starts
    assert "expected the file /not/there.poni" in reasons(lost)


def test_a_mask_of_ones_where_pixels_are_bad_leaves_them_out(analysed, powder):
    bad = np.zeros(powder.shape, dtype=np.uint8)
    bad[:, :40] = 1
    (plain,) = analysed(powder.streams()).starts
    (masked,) = analysed(powder.streams(mask=bad)).starts
    assert plain["analysis"]["settings"]["integration"]["masked"] < 0.01
    assert masked["analysis"]["settings"]["integration"]["masked"] == pytest.approx(40 / 128, abs=0.01)


def test_frames_are_averaged(analysed, powder):
    (start,) = analysed(powder.streams()).starts
    assert start["analysis"]["settings"]["integration"]["n_frames"] == 2


def test_three_positions_are_merged_and_one_calibration_is_not_that_of_three(analysed, powder):
    (merged,) = analysed(powder.positions()).starts
    assert merged["analysis"]["settings"]["integration"]["merged"] == 3
    (alone,) = analysed(powder.positions(calibration_md=powder.calibration)).starts
    assert "pilatus1_pos1, pilatus1_pos2 left out" in reasons(alone)
    assert "merged" not in alone["analysis"]["settings"]["integration"]


def test_the_background_run_is_found_by_name_or_uid(analysed, powder):
    empty = powder.run(
        {"primary": [{"pe1_image": (0.2 * powder.image[None]).astype(np.uint16)}]},
        uid="empty",
        sample_name="kapton",
        sc_dk_field_uid=None,
        calibration_md=powder.calibration,
    )
    for said in ({"bkgd_sample_name": "kapton"}, {"background_uid": "empty"}):
        start = analysed(powder.dark_run(), empty, powder.older(**said)).starts[-1]
        assert start["raw_uids"] == ["raw", "empty"]
        assert "no background was subtracted" not in reasons(start)
    (lost,) = analysed(powder.older(bkgd_sample_name="kapton")).starts
    assert "the background run kapton was not seen" in reasons(lost)


def test_each_metal_is_a_run_of_its_own(analysed, powder):
    result = analysed(powder.older(composition_string="NiFe2O4"))
    assert [start["element"] for start in result.starts] == ["Fe", "Ni"]
    assert len({start["uid"] for start in result.starts}) == 2
    assert result.statistics.failed == 1


def test_publishing_twice_is_one_run(analysed, powder):
    once, twice = (analysed(powder.dark_run(), powder.older()).starts[0]["uid"] for _ in range(2))
    assert once == twice


def test_a_run_that_was_given_up_fails_as_total_scattering(analysed, powder):
    (start,) = analysed(powder.older()[:-1]).starts
    assert start["technique"] == "pdf"
    assert "closed before the run stopped" in reasons(start)


def test_a_run_that_stopped_early_is_incomplete(analysed, powder):
    (start,) = analysed(powder.streams(num_points=8)).starts
    assert start["completeness"] == 0.25
    assert "2 of 8 planned points were measured" in reasons(start)


def test_images_that_nobody_called_scattering_are_left_alone(analysed, powder):
    camera = powder.run({"primary": [{"camera_image": powder.image}]}, plan_name="count")
    assert analysed(camera).statistics.ignored == 1


def test_one_callback_serves_both_techniques(analysed, powder, iron_scan):
    result = analysed(iron_scan(), powder.dark_run(), powder.older())
    assert [start["technique"] for start in result.starts] == ["xanes", "pdf"]


def test_an_absorption_scan_with_images_stays_one(analysed, powder, iron_columns):
    columns = {key: iron_columns[key] for key in ("energy", "i0", "it", "ir")}
    rows = [
        {key: float(values[i]) for key, values in columns.items()} | {"pilatus_image": powder.image}
        for i in range(0, 279, 9)
    ]
    documents = powder.run({"primary": rows}, element="Fe", edge="K", calibration_md=powder.calibration)
    documents[1][1]["data_keys"]["energy"]["units"] = "eV"
    (start,) = analysed(documents).starts
    assert start["technique"] == "xanes"


def test_images_of_another_shape_are_left_out_and_said(analysed, powder):
    documents = powder.streams()
    odd = documents[-2][1]
    odd["data"] = {"pe1_image": powder.image[None, :64]}
    (start,) = analysed(documents).starts
    assert "expected images of (128, 128) pixels" in reasons(start)
    assert start["completeness"] == 0.5


def test_live_rows_come_while_the_run_goes_on(powder, no_models):
    derived = []
    publisher = CallbackPublisher(lambda name, document: derived.append((name, document)))
    settings = ScatteringSettings(live=True, live_interval=0.0)
    with XpdmlCallback(publisher, store=no_models, scattering=settings) as callback:
        for name, document in powder.streams():
            callback(name, document)
            assert callback.drain(timeout=60)
    starts = [document for name, document in derived if name == "start"]
    assert [start["purpose"] for start in starts] == ["xpdml.live", "xpdml"]
    rows = [d["data"] for n, d in derived if n == "event" and "completeness" in d["data"]]
    assert [row["completeness"] for row in rows] == [0.5, 1.0]
    assert {type(value) for row in rows for value in row.values()} == {float}
    assert [name for name, _ in derived].count("stop") == 2


def test_live_results_need_a_publisher_that_takes_them(no_models):
    whole_runs_only = SimpleNamespace(publish=print, close=print)
    with pytest.raises(PublishError, match="takes running runs"):
        XpdmlCallback(whole_runs_only, store=no_models, scattering=ScatteringSettings(live=True))
