import shutil
from pathlib import Path

import pytest

from bluesky_xpdml.models.store import SHIPPED
from bluesky_xpdml.publish import find_predictions

COMMANDS = [
    ("demo",),
    ("predict",),
    ("reduce",),
    ("simulate", "pdf"),
    ("replay",),
    ("models", "list"),
    ("models", "show"),
    ("models", "verify"),
    ("models", "compare"),
    ("models", "pin"),
    ("train",),
    ("bench",),
    ("outbox", "list"),
    ("outbox", "send"),
    ("outbox", "drop"),
    ("doctor",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_an_example_and_the_json_form(xpdml, command):
    done = xpdml(*command, "--help")
    assert done.status == 0
    assert f"Example: xpdml {' '.join(command)}" in done.out
    assert "--json" in done.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("predict",),
        ("bench", "nonsense"),
        ("models", "show", "Zz-xanes-1"),
        ("train", "nowhere", "--standards", "nowhere"),
        ("train", "--element", "Xx"),
        ("replay", "uid", "--tiled", "http://127.0.0.1:9"),
    ],
    ids=" ".join,
)
def test_errors_are_one_line_on_stderr(xpdml, arguments):
    done = xpdml(*arguments)
    assert done.status in {1, 2}
    assert done.out == ""
    assert len(done.err.strip().splitlines()) == 1
    assert done.err.startswith("xpdml: ")


def test_debug_brings_the_traceback(xpdml):
    done = xpdml("models", "show", "Zz-xanes-1", "--debug")
    assert done.status == 1
    assert "Traceback" in done.err
    assert "ModelNotFoundError" in done.err


def test_version_is_that_of_the_package(xpdml_process):
    from bluesky_xpdml import __version__

    assert xpdml_process("--version").out == f"xpdml {__version__}\n"


def test_models_are_listed_shown_and_verified(xpdml):
    (listed,) = xpdml("models", "list", "--json").objects
    assert {model["element"] for model in listed["models"]} == {"Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu"}
    (shown,) = xpdml("models", "show", "Fe-xanes-1", "--json").objects
    assert set(shown["targets"]) == {"oxidation_state", "coordination_number", "bond_length"}
    assert "## Limits" not in xpdml("models", "show", "Fe-xanes-1").out
    assert "Limits" in xpdml("models", "show", "Fe-xanes-1").out
    verified = xpdml("models", "verify", "--json")
    assert verified.status == 0
    assert all(model["ok"] for model in verified.objects[0]["models"])


def test_an_altered_bundle_is_found(xpdml, tmp_path: Path):
    shutil.copytree(SHIPPED / "Fe-xanes-1", tmp_path / "mine" / "Fe-xanes-1")
    card = tmp_path / "mine" / "Fe-xanes-1" / "card.md"
    card.write_text(card.read_text() + "better than it is\n")
    done = xpdml("models", "verify", "--models", "mine", "--json")
    assert done.status == 1
    (model,) = done.objects[0]["models"]
    assert "altered" in model["reason"]


def test_the_doctor_says_what_is_missing_and_what_to_do(xpdml):
    done = xpdml("doctor", "--json")
    assert done.status == 0
    checks = {check["name"]: check for check in done.objects[0]["checks"]}
    assert checks["bluesky"]["status"] == "ok"
    assert checks["model Fe-xanes-1"]["status"] == "ok"
    assert all(check["advice"] for check in checks.values() if check["status"] == "missing")
    away = xpdml("doctor", "--tiled", "http://127.0.0.1:9", "--json")
    assert away.status == 1
    assert {check["name"] for check in away.objects[0]["checks"] if check["status"] == "broken"} == {
        "tiled server"
    }


def test_a_replayed_file_is_published_once(xpdml, iron_file, tiled_server):
    from tiled.client import from_uri

    options = (
        "--element",
        "Fe",
        "--edge",
        "K",
        "--publish",
        tiled_server.uri,
        "--into",
        "replayed",
        "--json",
    )
    first, second = (xpdml("replay", iron_file, *options) for _ in range(2))
    assert first.status == second.status == 0, first.err
    (answer,) = first.objects
    assert second.objects[0]["derived_uid"] == answer["derived_uid"]
    client = from_uri(tiled_server.uri)
    (run,) = find_predictions(client["replayed"], answer["raw_uid"])
    assert run.metadata["start"]["descriptors"] == answer["descriptors"]
    client.context.http_client.close()


def test_a_stored_run_of_images_is_replayed_with_its_dark_run(xpdml, tiled_server, run_engine):
    from bluesky_tiled_plugins import TiledWriter
    from tiled.client import from_uri

    from bluesky_xpdml.demo.beamline import Dark, ScatteringBeamline, scattering_scan
    from bluesky_xpdml.publish.tiled import open_container

    client = from_uri(tiled_server.uri)
    token = run_engine.subscribe(TiledWriter(open_container(client, "raw"), max_array_size=0))
    beamline = ScatteringBeamline(seed=1, pixels=256)
    *_, raw_uid = run_engine(scattering_scan(beamline, "LaFeO3", exposure=10.0, dark=Dark.RUN))
    run_engine.unsubscribe(token)
    client.context.http_client.close()
    done = xpdml(
        "replay", raw_uid, "--tiled", tiled_server.uri, "--path", "raw", "--into", "replayed", "--json"
    )
    assert done.status == 0, done.err
    (answer,) = done.objects
    assert (answer["technique"], answer["element"], answer["raw_uid"]) == ("pdf", "Fe", raw_uid)
    assert answer["descriptors"]["bond_length"]["value"] == pytest.approx(2.05, abs=0.15)
    assert not any("dark" in reason for reason in answer["quality"]["reasons"])


def test_replay_without_a_server_answers_and_says_that_nothing_was_published(xpdml, iron_file, tmp_path):
    broken = tmp_path / "broken.dat"
    broken.write_text("nothing\n")
    done = xpdml("replay", iron_file, broken, "--element", "Fe", "--edge", "K", "--json")
    assert done.status == 1
    assert len(done.objects) == 1
    assert "not published" in done.err
    assert "broken.dat" in done.err


def require_demonstration(done, folder: Path, *, number: int, right: int):
    assert done.status == 0, done.err
    (answer,) = done.objects
    assert len(answer["samples"]) == 2 * number
    state = [(s["truth"]["oxidation_state"], s["descriptors"]["oxidation_state"]) for s in answer["samples"]]
    assert sum(abs(found["value"] - truth) <= 0.5 for truth, found in state) >= right
    assert all(
        s["seconds_stop_to_found"] > 0.0 and s["raw_uid"] != s["derived_uid"] for s in answer["samples"]
    )
    assert (folder / "xpdml-demo.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("further_servers")
def test_the_demo_finds_its_samples_again(xpdml, tmp_path: Path):
    done = xpdml("demo", "--samples", 2, "--json")
    require_demonstration(done, tmp_path, number=2, right=4)


@pytest.mark.slow
def test_the_demo_finds_every_sample_again_in_a_process_of_its_own(xpdml_process, tmp_path: Path):
    done = xpdml_process("demo", "--json", timeout=300.0)
    require_demonstration(done, tmp_path, number=13, right=18)
