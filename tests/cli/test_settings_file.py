"""Commands obey the settings file, options override it, and the doctor shows all of it."""

from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.publish import PredictionCatalog, Query
from bluesky_xpdml.reduction.scattering_factors import mean_factors
from bluesky_xpdml.vocabulary import Technique

PREDICT = ("--element", "Fe", "--edge", "K", "--json")


def test_an_option_overrides_the_file_and_origins_are_published(xpdml, iron_file: Path, tmp_path: Path):
    (tmp_path / "xpdml.toml").write_text("[calibration]\nenergy_offset = 0.75\n")
    (by_file,) = xpdml("predict", iron_file, *PREDICT).objects
    (by_option,) = xpdml("predict", iron_file, "--energy-offset", "1.2", *PREDICT).objects
    offsets = [answer["analysis"]["settings"]["energy_axis"]["offset"] for answer in (by_file, by_option)]
    assert offsets == [0.75, 1.2]
    told = [
        answer["analysis"]["resolved_settings"]["values"]["calibration_energy_offset"]
        for answer in (by_file, by_option)
    ]
    assert told == [{"value": 0.75, "origin": "file"}, {"value": 1.2, "origin": "option"}]
    (reduced,) = xpdml("reduce", iron_file, *PREDICT).objects
    assert reduced["settings"]["energy_offset"] == 0.75


def test_an_unknown_key_stops_a_command_in_one_line(xpdml, iron_file: Path, tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text("[models]\nfoldr = 'x'\n")
    done = xpdml("predict", iron_file, "--settings", path, *PREDICT)
    assert (done.status, done.out) == (1, "")
    assert "no setting models.foldr; did you mean models.folder?" in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_the_doctor_shows_the_file_the_values_and_what_is_wrong_with_them(xpdml, tmp_path: Path):
    path = tmp_path / "xpdml.toml"
    path.write_text('profile = "xpd"\n[models]\nFe-xanes = 99\n')
    done = xpdml("doctor", "--json")
    checks = {check["name"]: check for check in done.objects[0]["checks"]}
    assert done.status == 1
    assert checks["settings file"]["detail"] == str(path.resolve())
    assert checks["setting profile"]["detail"] == "xpd (file)"
    assert checks["setting tiled.path"]["detail"] == "xpdml (built-in)"
    assert checks["pin Fe-xanes"]["status"] == "broken"
    assert done.objects[0]["settings"]["profile"] == {"value": "xpd", "origin": "file"}
    path.write_text("profile = 3\n")
    faulty = xpdml("doctor", "--json").objects[0]["checks"]
    assert [check["name"] for check in faulty if check["status"] == "broken"] == ["settings file"]


def test_replay_publishes_to_the_server_of_the_file(
    xpdml, iron_file: Path, tmp_path: Path, tiled_server, monkeypatch
):
    from tiled.client import from_uri

    from bluesky_xpdml.publish import find_predictions

    address, _, key = tiled_server.uri.partition("?api_key=")
    monkeypatch.setenv("XPDML_BEAMLINE_KEY", key)
    (tmp_path / "xpdml.toml").write_text(
        f'[tiled]\nuri = "{address}"\npath = "by-file"\napi_key_variable = "XPDML_BEAMLINE_KEY"\n'
    )
    done = xpdml("replay", iron_file, *PREDICT)
    assert done.status == 0, done.err
    (answer,) = done.objects
    client = from_uri(tiled_server.uri)
    (run,) = find_predictions(client["by-file"], answer["raw_uid"])
    assert run.metadata["start"]["uid"] == answer["derived_uid"]
    client.context.http_client.close()


@pytest.mark.parametrize("arguments", [("replay", "uid", "--stored")], ids=" ".join)
def test_stored_runs_need_a_server(xpdml, arguments: tuple[str, ...]):
    done = xpdml(*arguments)
    assert done.status == 1
    assert "--stored needs a server" in done.err


COMMANDS = [
    ("watch", "--zmq", "localhost:5578"),
    ("replay", "a.dat"),
    ("predict", "a.dat"),
    ("repeats", "a.dat"),
    ("explain", "a.dat"),
    ("reduce", "a.dat"),
    ("advise", "a.dat"),
    ("pair",),
    ("find",),
    ("models", "list"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_every_command_under_settings_refuses_a_missing_file(xpdml, command):
    done = xpdml(*command, "--settings", "nowhere.toml")
    assert (done.status, done.out) == (1, "")
    assert done.err == "xpdml: no settings file nowhere.toml: correct the name, or write one\n"


def test_all_commands_answer_a_file_alike_under_one_energy_offset(xpdml, iron_file: Path, tmp_path: Path):
    (tmp_path / "xpdml.toml").write_text("[calibration]\nenergy_offset = 3.0\n")
    states = {}
    for command in ("predict", "replay", "repeats"):
        (answer,) = xpdml(command, iron_file, *PREDICT).objects
        states[command] = answer["descriptors"]["oxidation_state"]["value"]
    assert states["repeats"] == states["replay"] == states["predict"]
    (tmp_path / "xpdml.toml").unlink()
    (without,) = xpdml("predict", iron_file, *PREDICT).objects
    assert abs(without["descriptors"]["oxidation_state"]["value"] - states["predict"]) > 0.3


def test_the_merging_of_repeats_is_that_of_the_file(xpdml, iron_file: Path, tmp_path: Path):
    table = np.loadtxt(iron_file)[:, :3]
    for name, shift in (("first.dat", 0.0), ("second.dat", 2.0)):
        columns = table + np.array([shift, 0.0, 0.0])
        np.savetxt(tmp_path / name, columns, header="energy(eV) i0 itrans", comments="# ")

    def shifts(*options: str) -> list[float]:
        last = xpdml("repeats", "first.dat", "second.dat", *PREDICT, *options).objects[-1]
        return [each["applied_shift"] for each in last["repeats"]["each"]]

    (tmp_path / "xpdml.toml").write_text('[repeats]\nalignment = "none"\nlargest_shift = 5.0\n')
    assert shifts() == [0.0, 0.0]
    assert max(map(abs, shifts("--align", "shape"))) > 0.5


@pytest.fixture
def nickel(tmp_path: Path) -> Path:
    """Return a pattern of one shell whose file states neither its composition nor a range."""
    q = np.arange(0.5, 25.0, 0.02)
    shell = 6.0 * np.exp(-0.003 * q**2) * np.sin(2.5 * q) / (2.5 * q)
    path = tmp_path / "nickel.chi"
    np.savetxt(path, np.column_stack([q, mean_factors("Ni", q).squared_mean * (1.0 + shell)]))
    return path


@pytest.mark.parametrize("command", ["predict", "reduce"])
def test_the_reduction_of_patterns_is_that_of_the_file(xpdml, nickel: Path, tmp_path: Path, command: str):
    (tmp_path / "xpdml.toml").write_text('[pdf]\ncomposition = "Ni"\nq_max = 21.0\nr_poly = 0.9\n')

    def used(*options: str) -> tuple[float, float]:
        (answer,) = xpdml(command, nickel, "--q-unit", "1/A", "--json", *options).objects
        settings = answer["settings"] if command == "reduce" else answer["analysis"]["settings"]["reduction"]
        return settings["q_max"], settings["r_poly"]

    assert used() == (21.0, 0.9)
    assert used("--q-max", "19") == (19.0, 0.9)


def test_replay_pairs_and_carries_as_the_file_states(xpdml, tmp_path: Path, tiled_server, run_engine):
    from bluesky_tiled_plugins import TiledWriter
    from tiled.client import from_uri

    from bluesky_xpdml.demo.beamline import (
        Dark,
        ScatteringBeamline,
        XasBeamline,
        scan_sample,
        scattering_scan,
    )
    from bluesky_xpdml.publish.tiled import open_container

    client = from_uri(tiled_server.uri)
    token = run_engine.subscribe(TiledWriter(open_container(client, "raw"), max_array_size=0))
    scattering = ScatteringBeamline(seed=1, pixels=256)
    plans = (
        scan_sample(XasBeamline(seed=1), "LaFeO3"),
        scattering_scan(scattering, "LaFeO3", exposure=10.0, dark=Dark.RUN),
    )
    uids = [run_engine(plan)[-1] for plan in plans]
    run_engine.unsubscribe(token)
    address, _, key = tiled_server.uri.partition("?api_key=")
    (tmp_path / "xpdml.toml").write_text(
        f'carry = ["plan_name"]\n[tiled]\nuri = "{address}"\npath = "paired-by-file"\nraw_path = "raw"\n'
        "[pairing]\nwithin = 86400\n[live]\nxanes = true\n"
    )
    done = xpdml("replay", *uids, "--stored", "--api-key", key, "--json")
    assert done.status == 0, done.err
    assert [start["technique"] for start in done.objects] == ["xanes", "pdf", "xanes+pdf"]
    joint = done.objects[-1]
    assert joint["raw_uids"] == uids
    assert all("plan_name" in str(start["origin"]) for start in done.objects[:2])
    (found,) = PredictionCatalog(client["paired-by-file"]).find(Query(technique=Technique.XANES_PDF))
    assert found.uid == joint["derived_uid"]
    client.context.http_client.close()


def test_replay_without_a_server_needs_neither_pairing_nor_live_results(
    xpdml, iron_file: Path, tmp_path: Path
):
    (tmp_path / "xpdml.toml").write_text("[pairing]\n[live]\nxanes = true\nscattering = true\n")
    done = xpdml("replay", iron_file, *PREDICT)
    assert done.status == 0, done.err
    assert [start["technique"] for start in done.objects] == [Technique.XANES]


def test_find_and_advise_take_the_server_from_the_file(xpdml, tmp_path: Path, iron_file: Path, tiled_server):
    address, _, key = tiled_server.uri.partition("?api_key=")
    (tmp_path / "xpdml.toml").write_text(f'[tiled]\nuri = "{address}"\npath = "asked"\n')
    replayed = xpdml("replay", iron_file, *PREDICT, "--api-key", key)
    assert replayed.status == 0, replayed.err
    raw_uid = replayed.objects[0]["raw_uid"]
    (found,) = xpdml("find", "--raw", raw_uid, "--api-key", key, "--json").objects
    assert found["uid"] == replayed.objects[0]["derived_uid"]
    (advice,) = xpdml("advise", "--raw", raw_uid, "--api-key", key, "--json").objects
    assert advice["element"] == "Fe"


def test_runs_from_a_server_are_replayed_as_documents_of_a_stranger(
    xpdml, tmp_path: Path, tiled_server, monkeypatch
):
    """What a stored run names is opened only under the roots; the user's own files are replayed as before."""
    from bluesky_xpdml.callbacks import callback
    from bluesky_xpdml.publish import TiledPublisher

    TiledPublisher.from_uri(tiled_server.uri, path="replayed-raw").close()
    seen = []

    class Watched(callback.XpdmlCallback):
        def __init__(self, *arguments, settings, **more):
            seen.append(settings.remote_documents)
            super().__init__(*arguments, settings=settings, **more)

    monkeypatch.setattr(callback, "XpdmlCallback", Watched)
    path = tmp_path / "scan.dat"
    np.savetxt(path, np.column_stack([np.arange(6950.0, 7300.0), np.ones(350)]), header="energy mu")
    xpdml("replay", path, *PREDICT)
    done = xpdml("replay", "absent", "--stored", "--tiled", tiled_server.uri, "--path", "replayed-raw")
    assert "no run absent" in done.err
    assert seen == [False, True]
