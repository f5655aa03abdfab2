"""One measurement gives one answer, whichever way it comes: file, repeat, run, live run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluesky_xpdml import BundleStore, CallbackPublisher, Settings, XpdmlCallback
from bluesky_xpdml.analysis.request import Analysis, PredictionRequest
from bluesky_xpdml.demo.simulated_scan import simulated_scan
from bluesky_xpdml.records import AbsorptionScan, Prediction, Verdict
from bluesky_xpdml.reduction.repeats import RepeatSettings
from bluesky_xpdml.settings import LiveSettings, ScatteringSettings, resolve_settings
from bluesky_xpdml.sources.replay import scan_documents
from bluesky_xpdml.vocabulary import Descriptor, Modality, ReasonCode

Settle = Callable[[str], Settings]


@pytest.fixture(scope="module")
def store() -> BundleStore:
    return BundleStore.default()


@pytest.fixture
def settle(tmp_path: Path) -> Settle:
    """Return a function that reads the text of a settings file."""

    def read(text: str) -> Settings:
        path = tmp_path / "xpdml.toml"
        path.write_text(text)
        return resolve_settings(path, environment={})

    return read


def request_for(scan: AbsorptionScan) -> PredictionRequest:
    return PredictionRequest(modality=Modality.XANES, load=lambda: scan)


def by_run(scan: AbsorptionScan, settings: Settings, store: BundleStore) -> dict[str, Any]:
    derived: list[tuple[str, dict[str, Any]]] = []
    publisher = CallbackPublisher(lambda name, document: derived.append((name, document)))
    with XpdmlCallback(publisher, settings=settings, store=store) as callback:
        for name, document in scan_documents(scan):
            callback(name, document)
        assert callback.drain(timeout=120)
    (start,) = (document for name, document in derived if name == "start")
    return start


@pytest.mark.parametrize(
    "text",
    ["", "[calibration]\nenergy_offset = 3.0", "[xanes]\ndegree = 1\npre_edge = [-120.0, -30.0]"],
)
def test_file_repeat_and_run_agree_to_the_last_digit(settle: Settle, store: BundleStore, text: str) -> None:
    settings, scan = settle(text), simulated_scan(seed=3)
    analysis = Analysis(settings, store=store)
    (by_file,) = analysis.predict(request_for(scan))
    (by_repeat,) = analysis.predict_repeats([request_for(scan)], RepeatSettings())
    published = by_run(scan, settings, store)["descriptors"]
    for name, estimate in by_file.descriptors.items():
        assert by_repeat.prediction.descriptors[name].value == estimate.value
        assert published[name]["value"] == estimate.value


def test_the_settings_file_moves_every_way_alike(settle: Settle, store: BundleStore) -> None:
    scan = simulated_scan(seed=3)
    plain, moved = settle(""), settle("[calibration]\nenergy_offset = 3.0")
    states = [
        Analysis(settings, store=store).predict(request_for(scan))[0].descriptors[Descriptor.OXIDATION_STATE]
        for settings in (plain, moved)
    ]
    assert states[1].value > states[0].value + 0.3


def test_every_way_tells_its_settings(settle: Settle, store: BundleStore) -> None:
    settings, scan = settle('carry = ["pellet"]\n[calibration]\nenergy_offset = 0.5'), simulated_scan(seed=3)
    published = by_run(scan, settings, store)["analysis"]
    assert published["resolved_settings"]["values"]["calibration_energy_offset"]["origin"] == "file"
    (by_file,) = Analysis(settings, store=store).predict(request_for(scan))
    assert by_file.settings["beamtime"] == published["settings"]["beamtime"] == {"energy_offset": 0.5}


def test_what_cannot_be_loaded_is_a_failed_prediction(store: BundleStore) -> None:
    def gone() -> AbsorptionScan:
        raise FileNotFoundError("no file spectrum.dat")

    request = PredictionRequest(modality=Modality.XANES, load=gone, element="Fe", source="spectrum.dat")
    (failed,) = Analysis(Settings(), store=store).predict(request)
    assert failed.quality.verdict is Verdict.FAILED
    assert failed.quality.has(ReasonCode.UNREADABLE_FILE)
    assert (failed.element, failed.source) == ("Fe", "spectrum.dat")


def test_a_partial_measurement_that_fails_gives_nothing(store: BundleStore) -> None:
    scan = simulated_scan(seed=3)
    early = AbsorptionScan(energy=scan.energy[:40], i0=scan.i0[:40], it=scan.it[:40], element="Fe", edge="K")
    request = PredictionRequest(modality=Modality.XANES, load=lambda: early, partial=True)
    assert Analysis(Settings(), store=store).predict(request) == ()


def test_partial_answers_are_wider_than_final_ones(store: BundleStore) -> None:
    scan = simulated_scan(seed=3)
    end = int((scan.energy < scan.energy.min() + 0.999 * (7136.0 - scan.energy.min())).sum())
    cut = AbsorptionScan(
        energy=scan.energy[:end], i0=scan.i0[:end], it=scan.it[:end], ir=scan.ir[:end], element="Fe", edge="K"
    )
    analysis = Analysis(Settings(), store=store)
    (final,) = analysis.predict(request_for(scan))
    partial = analysis.predict(PredictionRequest(modality=Modality.XANES, load=lambda: cut, partial=True))
    assert width(partial[0]) > width(final)


def width(prediction: Prediction) -> float:
    state = prediction.descriptors[Descriptor.OXIDATION_STATE]
    return state.high - state.low


def test_each_technique_keeps_its_own_live_interval() -> None:
    settings = Settings(
        live=LiveSettings(xanes=True, interval=0.5),
        scattering=ScatteringSettings(live=True, live_interval=30.0),
    )
    from bluesky_xpdml.analysis.runs import RunAnalysis
    from bluesky_xpdml.documents import collect_run

    analysis = RunAnalysis(settings, store=BundleStore.default())
    spectrum = collect_run(scan_documents(simulated_scan(seed=3)))
    assert analysis.live_interval(spectrum) == 0.5
    image = collect_run(
        [
            ("start", {"uid": "a", "time": 0.0, "bt_wavelength": 0.18, "sc_dk_field_uid": "d"}),
            ("stop", {"uid": "z", "run_start": "a", "time": 1.0, "exit_status": "success"}),
        ]
    )
    assert analysis.live_interval(image) == 30.0
