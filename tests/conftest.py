"""Fixtures that every part of the suite shares."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import numpy as np
import pytest
from bluesky import RunEngine, plan_stubs, preprocessors

from bluesky_xpdml.models.standards import MeasuredSpectrum
from bluesky_xpdml.models.xanes import observe
from bluesky_xpdml.records import AbsorptionScan
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes

# Busy machines take any time, and the first example imports what is imported lazily.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

PROGRAM = Path(sys.executable).with_name("xpdml")
Documents = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of measured and reference data, which is not part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the development data are not beside the repository ({SHARED_DATA} is missing)")
    return SHARED_DATA


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return an empty folder for the user's state, which no test may leave anything in otherwise."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


UNREAD = {
    **dict.fromkeys(
        [f"xanes/published/parseq_cu/{name}.fio" for name in ("Cu2O_lnt1", "Cu2O_lnt2", "CuO_lnt")],
        "the 13 columns have no names",
    ),
    **dict.fromkeys(
        [f"xanes/published/parseq_cu/{name}.fio" for name in ("Cu_lnt1", "Cu_rt1")],
        "the 12 columns have no names",
    ),
    **dict.fromkeys(
        [f"total_scattering/published/{name}.gr" for name in ("srtio3", "tio2_rutile")],
        "line 32: expected a number, found 'title=PDF'",
    ),
}
"""Files of the development data in formats that are not read yet, and the refusal of each."""


@pytest.fixture(scope="session")
def unread() -> Mapping[str, str]:
    """Return the refusal of each file below `experiment` in a format that is not read yet."""
    return UNREAD


class Instrument:
    """A readable device that shows one row of a table after the other."""

    parent = None

    def __init__(self, columns: Mapping[str, Any], units: Mapping[str, str]) -> None:
        self.name = "instrument"
        self.hints = {"fields": list(columns)}
        self._columns = columns
        self._units = units
        self._row = -1

    def trigger_row(self) -> None:
        self._row += 1

    def describe(self) -> dict[str, dict[str, Any]]:
        keys: dict[str, dict[str, Any]] = {}
        for name in self._columns:
            keys[name] = {"source": "table", "dtype": "number", "shape": []}
            if name in self._units:
                keys[name]["units"] = self._units[name]
        return keys

    def read(self) -> dict[str, dict[str, Any]]:
        return {
            name: {"value": float(values[self._row]), "timestamp": 0.0}
            for name, values in self._columns.items()
        }

    def describe_configuration(self) -> dict[str, Any]:
        return {}

    def read_configuration(self) -> dict[str, Any]:
        return {}


def table_scan(columns: Mapping[str, Any], *, units: Mapping[str, str], md: Mapping[str, Any]) -> Any:
    """Plan: one event a row of the table."""
    instrument = Instrument(columns, units)

    @preprocessors.run_decorator(md=dict(md))
    def scan() -> Any:
        for _ in range(len(next(iter(columns.values())))):
            instrument.trigger_row()
            yield from plan_stubs.create("primary")
            yield from plan_stubs.read(instrument)
            yield from plan_stubs.save()

    return (yield from scan())


@pytest.fixture(scope="session")
def run_engine() -> RunEngine:
    """Return the RunEngine that every test measures with."""
    return RunEngine({})


@pytest.fixture(scope="session")
def documents_of(run_engine: RunEngine) -> Callable[[Any], Documents]:
    """Return a function that runs a plan on the RunEngine and returns its documents."""

    def run(plan: Any) -> Documents:
        documents: Documents = []
        token = run_engine.subscribe(lambda name, document: documents.append((name, document)))
        try:
            run_engine(plan)
        finally:
            run_engine.unsubscribe(token)
        return documents

    return run


@pytest.fixture(scope="session")
def iron_columns() -> dict[str, np.ndarray]:
    """Counts over the iron K edge: the sample's at 7124 eV, the foil's 12.5 eV lower [eV, counts]."""
    energy = np.concatenate(
        [np.arange(6960.0, 7080.0, 5.0), np.arange(7080.0, 7180.0, 0.5), np.arange(7180.0, 7400.0, 4.0)]
    )

    def edge(position: float) -> np.ndarray:
        step = 0.5 + np.arctan((energy - position) / 2.0) / np.pi
        return step + 0.4 * np.exp(-(((energy - position - 6.0) / 4.0) ** 2))

    i0 = np.full(energy.size, 1e6)
    it = i0 * np.exp(-edge(7124.0) - 0.3)
    return {
        "energy": energy,
        "i0": i0,
        "it": it,
        "ir": it * np.exp(-0.7 * edge(7111.5) - 0.4),
        "fluorescence": 2e4 * (edge(7124.0) + 0.05),
    }


IRON = {"plan_name": "xafs", "element": "Fe", "edge": "K", "sample": {"name": "LFP-3", "uid": "s-1"}}


@pytest.fixture(scope="session")
def iron_scan(
    documents_of: Callable[[Any], Documents], iron_columns: dict[str, np.ndarray]
) -> Callable[..., Documents]:
    """Return a function that measures the iron spectrum and returns its documents.

    Its arguments: which channels, the unit of the axis, whether it descends, more for the start document.
    """

    def measure(
        channels: tuple[str, ...] = ("i0", "it", "ir"),
        *,
        unit: str | None = "eV",
        descending: bool = False,
        stop_after: int | None = None,
        **md: Any,
    ) -> Documents:
        columns = {name: iron_columns[name] for name in ("energy", *channels)}
        columns["energy"] = columns["energy"] / (1000.0 if unit == "keV" else 1.0)
        order = slice(None, None, -1) if descending else slice(None, stop_after)
        columns = {name: values[order] for name, values in columns.items()}
        start = IRON | {"num_points": iron_columns["energy"].size} | md
        units = {"energy": unit} if unit is not None else {}
        return documents_of(table_scan(columns, units=units, md=start))

    return measure


class Powder:
    """Documents of total-scattering runs of nickel oxide, 128 x 128 pixels, as each beamline writes them."""

    shape = (128, 128)
    dark_level = 100

    def __init__(self) -> None:
        self.calibration = {
            "dist": 0.2,
            "poni1": 0.0,
            "poni2": 0.0,
            "rot1": 0.0,
            "rot2": 0.0,
            "rot3": 0.0,
            "wavelength": 1.836e-11,
            "pixel1": 1.3e-3,
            "pixel2": 1.3e-3,
        }
        rows, columns = np.indices(self.shape)
        radius = np.hypot(rows + 0.5, columns + 0.5) * 1.3e-3
        angle = np.arctan(radius / 0.2)
        self.q = 4.0 * np.pi / 0.1836 * np.sin(angle / 2.0)
        shells = ((6, 2.08), (12, 2.95), (8, 3.61), (6, 4.17), (24, 4.66))
        rings = sum(0.05 * n * np.exp(-0.004 * self.q**2) * np.sinc(self.q * d / np.pi) for n, d in shells)
        polarised = 1.0 - np.sin(angle) ** 2 * 0.5
        falling = 8e3 * np.exp(-0.35 * self.q) + 8000.0 / (1.0 + 0.02 * self.q**2)
        self.light = falling * (1.0 + rings) * np.cos(angle) ** 3 * polarised
        self.image = np.minimum(self.light + self.dark_level, 60_000).astype(np.uint16)
        self.dark = np.full(self.shape, self.dark_level, dtype=np.uint16)

    def run(
        self,
        streams: Mapping[str, list[dict[str, Any]]],
        *,
        uid: str = "raw",
        shapes: Mapping[str, list[int]] | None = None,
        files: Documents | None = None,
        **start: Any,
    ) -> Documents:
        """Return the documents of a run whose streams hold the given events; files come before them."""
        documents: Documents = [("start", {"uid": uid, "time": 0.0, **start})]
        documents += [(name, document | {"run_start": uid}) for name, document in files or ()]
        for stream, events in streams.items():
            keys = {
                key: {
                    "source": "powder",
                    "dtype": "array" if np.ndim(value) else "number",
                    "shape": (shapes or {}).get(key, list(np.shape(value))),
                }
                for key, value in events[0].items()
            }
            descriptor = f"{uid}-{stream}"
            documents.append(
                (
                    "descriptor",
                    {
                        "uid": descriptor,
                        "run_start": uid,
                        "time": 0.0,
                        "name": stream,
                        "data_keys": keys,
                        "hints": {},
                        "configuration": {},
                        "object_keys": {},
                    },
                )
            )
            documents += [
                (
                    "event",
                    {
                        "uid": f"{descriptor}-{number}",
                        "descriptor": descriptor,
                        "seq_num": number,
                        "time": float(number),
                        "data": data,
                        "timestamps": dict.fromkeys(data, 0.0),
                        "filled": {},
                    },
                )
                for number, data in enumerate(events, start=1)
            ]
        stop = {
            "uid": f"{uid}-stop",
            "run_start": uid,
            "time": 9.0,
            "exit_status": "success",
            "reason": "",
            "num_events": {stream: len(events) for stream, events in streams.items()},
        }
        return [*documents, ("stop", stop)]

    def dark_run(self, uid: str = "dark", n_frames: int = 1) -> Documents:
        """Return a dark run of the older beamtime and sample plans."""
        frames = np.broadcast_to(self.dark, (n_frames, *self.shape))
        return self.run({"primary": [{"pe1_image": frames}]}, uid=uid, dark_frame=True, sp_type="count")

    def older(self, **start: Any) -> Documents:
        """Return a run of the older beamtime and sample plans, which names its dark run."""
        said = {
            "analysis_stage": "raw",
            "bt_wavelength": 0.1836,
            "calibration_md": self.calibration,
            "composition_string": "Ni1.0O1.0",
            "num_points": 1,
            "sample_composition": {"Ni": 1.0, "O": 1.0},
            "sample_name": "NiO",
            "sc_dk_field_uid": "dark",
        }
        return self.run({"primary": [{"pe1_image": self.image[None]}]}, **said | start)

    def streams(self, mask: Any = None, **start: Any) -> Documents:
        """Return a run of xpdAcq from 1.1 on: dark, calibration and mask are streams of it."""
        bad = np.zeros(self.shape, dtype=np.uint8) if mask is None else mask
        streams = {
            "calib": [{f"pe1_{key}": value for key, value in self.calibration.items()}],
            "mask": [{"pe1_mask": bad}],
            "dark": [{"pe1_image": self.dark[None]}],
            "primary": [{"pe1_image": self.image[None]}] * 2,
        }
        said = {"composition_str": "NiO", "sample_name": "NiO", "user_config": {}, "num_points": 2}
        return self.run(streams, **said | start)

    def positions(self, **start: Any) -> Documents:
        """Return a run of a photon-counting detector at three positions, its gaps marked -1."""
        calibrations, streams = {}, {}
        for number, rows in enumerate((0, 10, 20)):
            name = f"pilatus1_pos{number}"
            image = np.full(self.shape, -1, dtype=np.int32)
            image[: self.shape[0] - rows] = self.light[rows:]
            image[60:64] = -1
            calibrations[name] = self.calibration | {"poni1": -rows * 1.3e-3}
            streams[name] = [{"pilatus1_image": image[None]}]
        said = {
            "sp_plan_name": "pila_3pos",
            "composition": "NiO",
            "sample_name": "NiO",
            "num_points": 1,
            "calibration_md": calibrations,
        }
        return self.run(streams, **said | start)

    def mixed(self, **start: Any) -> Documents:
        """Return a run whose images stand in the stream `scattering`, beside two others."""
        spectrum = {"qepro_output": np.ones(50)}
        streams = {
            "fluorescence": [spectrum],
            "absorbance": [spectrum],
            "scattering": [{"pe1c_image": self.image[None]}],
        }
        said = {
            "beamline_id": "xpd",
            "calibration_md": self.calibration,
            "sample_composition": {"Ni": 1, "O": 1},
            "sample_name": "NiO",
        }
        return self.run(streams, **said | start)


@pytest.fixture(scope="session")
def powder() -> Powder:
    """Return what makes documents of total-scattering runs."""
    return Powder()


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that the Tiled server may read."""
    return tmp_path_factory.mktemp("frames")


@pytest.fixture(scope="session")
def tiled_server(
    tmp_path_factory: pytest.TempPathFactory, served_folder: Path, requests_without_inspection: None
) -> Iterator[Any]:
    """Return a real Tiled server on a free local port, with temporary storage.

    One for all tests of a process: a second one would take the key of the first.
    """
    import uvicorn
    from bluesky_tiled_plugins.exporters import json_seq_exporter
    from tiled.media_type_registration import default_serialization_registry as exporters
    from tiled.server import SimpleTiledServer

    # bluesky-tiled-plugins before 2.0.7 needs it, and facilities configure it.
    exporters.register("BlueskyRun", "application/json-seq", json_seq_exporter)
    with pytest.MonkeyPatch.context() as patch:
        # Tiled 0.2.9 waits for ever for subscribers that have left.
        patch.setattr(uvicorn, "Config", partial(uvicorn.Config, timeout_graceful_shutdown=5))
        server = SimpleTiledServer(tmp_path_factory.mktemp("tiled"), readable_storage=[served_folder])
    with server:
        yield server


@pytest.fixture
def further_servers(tiled_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let code that starts an embedded server of its own do so in this process, which has imported it all.

    All servers of a process take the key of the last one, so they get one key.
    """
    from tiled.server import simple

    started = partial(simple.SimpleTiledServer, api_key=tiled_server.api_key)
    monkeypatch.setattr(simple, "SimpleTiledServer", started)


@pytest.fixture(scope="session")
def explainable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the XANES bundle of Fe and the PDF bundle of Ni, made ready for explanations.

    Their forests are the first fifteen trees of those that are shipped. Their backgrounds are features of the
    simulated beamline's spectra and of curves of two shells; their importances are the shares of the nodes
    that look at a feature.
    """
    from dataclasses import replace

    from bluesky_xpdml.demo.beamline import load_samples
    from bluesky_xpdml.factory.training.forests import stored_forests
    from bluesky_xpdml.features.pdf import pdf_features
    from bluesky_xpdml.features.xanes import features_of_shifts, fine_signal
    from bluesky_xpdml.models.bundle import write_bundle
    from bluesky_xpdml.models.store import BundleStore

    x, r = np.arange(-20.0, 60.0, 0.5), np.arange(1.0, 11.0, 0.02)
    spectra = [sample.absorption(sample.edge_energy + x) for sample in load_samples()]
    shells = [
        np.exp(-(((r - d) / 0.1) ** 2)) - 0.1 + np.exp(-(((r - 1.5 * d) / 0.2) ** 2))
        for d in np.linspace(1.8, 2.4, 20)
    ]
    backgrounds = {
        ("Fe", "K", "xanes"): np.concatenate(
            [features_of_shifts(fine_signal(x, mu), np.array([-1.0, 1.0])) for mu in spectra]
        ),
        ("Ni", "", "pdf"): np.stack([pdf_features(r, curve) for curve in shells]),
    }
    folder = tmp_path_factory.mktemp("explainable")
    for wanted, background in backgrounds.items():
        bundle = BundleStore.default().find(*wanted)
        manifest = {key: value for key, value in bundle.manifest.items() if key not in ("format", "files")}
        importances = {}
        forests = {}
        for target, whole in bundle.forests.items():
            end = whole.roots[15]
            parts = {name: getattr(whole, name)[:end] for name in ("feature", "threshold", "left", "value")}
            forest = forests[target] = replace(whole, **parts, roots=whole.roots[:15])
            looked_at = forest.feature[np.isfinite(forest.threshold)]
            shares = np.bincount(looked_at, minlength=background.shape[1]) / looked_at.size
            importances[target] = {"impurity": shares.tolist(), "permutation": (0.1 * shares).tolist()}
        write_bundle(
            folder / f"{manifest['name']}-{manifest['version']}",
            manifest | {"importances": importances},
            stored_forests(forests),
            "# A card\n",
            dict(bundle.tables) | {"background": background.astype(np.float16)},
        )
    return folder


def absorption(x: np.ndarray, edge: float, number: float) -> np.ndarray:
    """Return a spectrum whose white line grows with the coordination number, [edge steps]."""
    rise = 0.5 + np.arctan((x - edge) / 1.2) / np.pi
    white_line = 0.1 * number * np.exp(-(((x - edge - 5.0) / 3.0) ** 2))
    pre_edge = 0.2 * (number < 5) * np.exp(-(((x - edge + 9.0) / 0.8) ** 2))
    return np.asarray(rise + white_line + pre_edge)


@pytest.fixture(scope="session")
def oxide_absorption() -> Callable[[np.ndarray, float, float], np.ndarray]:
    """Return a function of (energy above the foil, edge, coordination number) [edge steps]."""
    return absorption


@pytest.fixture(scope="session")
def measured() -> Callable[..., MeasuredSpectrum]:
    """Return a function that measures a compound with its edge where the 3d metals have it."""

    def measure(
        compound: str, valence: float, *, number: float = 6.0, error: float = 0.0, calibrated: bool = True
    ) -> MeasuredSpectrum:
        x = np.arange(-150.0, 300.0, 0.5)
        edge = 13.0 + 3.2 * (valence - 3.0) + error
        scan = AbsorptionScan(
            energy=FOIL_ENERGIES["Fe"] + x, mu=absorption(x, edge, number), element="Fe", edge="K"
        )
        settings = XanesSettings(energy_offset=0.0 if calibrated else "none")
        return MeasuredSpectrum(
            element="Fe",
            compound=compound,
            file=f"{compound}{error}.dat",
            source="test",
            valence=valence,
            coordination_number=number,
            bond_length=2.2 - 0.1 * valence + 0.06 * (number - 4),
            stated_offset=0.0,
            observation=observe(reduce_xanes(scan, settings)),
            uncalibrated=observe(reduce_xanes(scan, XanesSettings(energy_offset="none"))),
        )

    return measure


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Return the JSON objects on stdout, one a line; anything else there is an error."""
        return [json.loads(line) for line in self.out.splitlines()]


class Run(Protocol):
    def __call__(self, *arguments: str | Path, timeout: float = 120.0) -> Outcome: ...


@pytest.fixture
def xpdml_process(tmp_path: Path) -> Run:
    """Return a function that runs `xpdml` in an empty folder, in a process of its own."""

    def run(*arguments: str | Path, timeout: float = 120.0) -> Outcome:
        command = [str(PROGRAM), *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, timeout=timeout, check=False
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def xpdml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs `xpdml` in an empty folder, as a process would but without its imports."""
    from bluesky_xpdml.cli.app import run as run_command

    def run(*arguments: str | Path, timeout: float = 120.0) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as context, redirect_stdout(out), redirect_stderr(err):
            context.chdir(tmp_path)
            status = run_command([str(argument) for argument in arguments])
        return Outcome(status, out.getvalue(), err.getvalue())

    return run
