"""Commands take from the settings file what no option says, and the doctor tells all of it."""

from pathlib import Path

import pytest

PREDICT = ("--element", "Fe", "--edge", "K", "--json")


def test_an_option_stands_before_the_file_and_both_are_told(xpdml, iron_file: Path, tmp_path: Path):
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


def test_a_file_with_a_fault_stops_a_command_in_one_line(xpdml, iron_file: Path, tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text("[models]\nfoldr = 'x'\n")
    done = xpdml("predict", iron_file, "--settings", path, *PREDICT)
    assert (done.status, done.out) == (1, "")
    assert "no setting models.foldr; did you mean models.folder?" in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_the_doctor_tells_the_file_the_values_and_what_is_wrong_with_them(xpdml, tmp_path: Path):
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


def test_replay_publishes_where_the_file_says(
    xpdml, iron_file: Path, tmp_path: Path, tiled_server, monkeypatch
):
    from tiled.client import from_uri

    from bluesky_xpdml.publish import find_predictions

    address, _, key = tiled_server.uri.partition("?api_key=")
    monkeypatch.setenv("BEAMLINE_KEY", key)
    (tmp_path / "xpdml.toml").write_text(
        f'[tiled]\nuri = "{address}"\npath = "by-file"\napi_key_variable = "BEAMLINE_KEY"\n'
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
