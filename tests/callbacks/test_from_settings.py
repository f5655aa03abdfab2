"""One line at the beamline: server, bundles and calibration out of a file, told in every derived run."""

from pathlib import Path

import pytest

from bluesky_xpdml import CallbackPublisher, XpdmlCallback
from bluesky_xpdml.errors import ModelNotFoundError, SettingsError
from bluesky_xpdml.publish import find_predictions
from bluesky_xpdml.reduction.xanes import XanesSettings
from bluesky_xpdml.settings import LiveSettings, Settings

UNCALIBRATED = XanesSettings(energy_offset="none")


def with_callback(callback, documents):
    with callback:
        for name, document in documents:
            callback(name, document)
        assert callback.drain(timeout=60)
    return callback.statistics


def test_a_settings_file_is_all_that_a_beamline_names(tiled_server, iron_scan, tmp_path, monkeypatch):
    from tiled.client import from_uri

    address, _, key = tiled_server.uri.partition("?api_key=")
    monkeypatch.setenv("XPDML_BEAMLINE_KEY", key)
    path = tmp_path / "xpdml.toml"
    path.write_text(
        f'[tiled]\nuri = "{address}"\npath = "beamtime"\napi_key_variable = "XPDML_BEAMLINE_KEY"\n'
        "[models]\nFe-xanes = 1\n[calibration]\nenergy_offset = 0.25\n"
    )
    documents = iron_scan()
    assert with_callback(XpdmlCallback.from_settings(path), documents).predicted == 1
    client = from_uri(tiled_server.uri)
    (run,) = find_predictions(client["beamtime"], documents[0][1]["uid"])
    start = run.metadata["start"]
    client.context.http_client.close()
    assert start["models"][0]["version"] == 1
    assert start["analysis"]["settings"]["reduction"]["energy_offset"] == 0.25
    assert start["analysis"]["settings"]["beamtime"] == {"pins": {"Fe-xanes": 1}, "energy_offset": 0.25}
    values = start["analysis"]["resolved_settings"]["values"]
    assert values["tiled_uri"] == {"value": address, "origin": "file"}
    assert "profile" not in values, "it is built in"
    assert values["limits_time"] == {"value": 60.0, "origin": "built-in"}
    assert key not in str(dict(start))


def derived_under(settings, store, derived, documents, **more):
    publisher = CallbackPublisher(derived)
    callback = XpdmlCallback(publisher, store=store, beamtime=settings, **more)
    with_callback(callback, documents)
    return derived.starts[-1]


def test_another_server_gives_the_same_run_and_another_calibration_another(store, derived, iron_scan):
    documents = iron_scan()
    with_callback(XpdmlCallback(CallbackPublisher(derived), store=store), documents)
    plain = derived.starts[-1]["uid"]
    here, there, moved = (
        derived_under(settings, store, derived, documents)["uid"]
        for settings in (
            Settings(),
            Settings(tiled_uri="http://there"),
            Settings(xanes=UNCALIBRATED),
        )
    )
    assert plain == here == there != moved


def test_failures_tell_the_settings_too(store, derived, iron_scan):
    start = derived_under(Settings(pins={"Fe-xanes": 1}), store, derived, iron_scan(stop_after=10))
    assert start["quality"]["verdict"] == "failed"
    assert start["analysis"]["settings"]["beamtime"] == {"pins": {"Fe-xanes": 1}}
    assert start["analysis"]["resolved_settings"]["values"]["models_Fe-xanes"]["value"] == 1


def test_what_cannot_be_used_is_refused_before_the_first_run(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"expected tiled\.uri in the settings, found none"):
        XpdmlCallback.from_settings(Settings(), live=LiveSettings())
    with pytest.raises(SettingsError, match="no settings file"):
        XpdmlCallback.from_settings(str(tmp_path / "absent.toml"))
    with pytest.raises(ModelNotFoundError, match="pinned to version 99"):
        XpdmlCallback.from_settings(Settings(tiled_uri="http://127.0.0.1:9", pins={"Fe-xanes": 99}))
