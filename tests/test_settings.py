"""The settings file: found, read strictly, outranked by variables and options, told in derived runs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from bluesky_xpdml.analysis.request import Analysis
from bluesky_xpdml.errors import ModelNotFoundError, SettingsError
from bluesky_xpdml.models.store import SHIPPED, BundleStore
from bluesky_xpdml.publish import run_uid, summary
from bluesky_xpdml.records import ModelReference, Prediction, Quality
from bluesky_xpdml.reduction.xanes import XanesSettings
from bluesky_xpdml.settings import (
    SeriesSettings,
    Settings,
    find_settings_file,
    resolve_settings,
    variable_of,
)
from bluesky_xpdml.vocabulary import Technique

Write = Callable[[str], Path]

WHOLE = """
profile = "generic"

[tiled]
uri = "https://tiled.example.org"
path = "derived/xpdml"
raw_path = "raw"
api_key_variable = "XPDML_BEAMLINE_KEY"

[models]
folder = "bundles"
Fe-xanes = 1
"Mn-dpdf_anomalous" = 2

[calibration]
energy_offset = 0.8
file = "foil.json"

[repeats]
within = 1800
"""

ANSWER = Prediction(
    technique=Technique.XANES,
    element="Fe",
    edge="K",
    quality=Quality(),
    models=(ModelReference(name="Fe-xanes", version=1, sha256="ab"),),
    raw_uids=("raw-1",),
    settings={"profile": "generic"},
)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str) -> Path:
        (tmp_path / "bundles").mkdir(exist_ok=True)
        (tmp_path / "foil.json").write_text("{}")
        path = tmp_path / "xpdml.toml"
        path.write_text(text)
        return path

    return write_file


SAID = [
    "profile",
    "tiled.uri",
    "tiled.path",
    "tiled.raw_path",
    "tiled.api_key_variable",
    "models.folder",
    "models.Fe-xanes",
    "models.Mn-dpdf_anomalous",
    "calibration.energy_offset",
    "calibration.file",
    "repeats.within",
]


def with_settings(prediction: Prediction, settings: Settings) -> Prediction:
    """Return a prediction as the analysis of a beamtime completes it."""
    return Analysis(settings, store=BundleStore.default()).complete(prediction)


def read(path: Path, **environment: str) -> Settings:
    return resolve_settings(path, environment=environment)


def test_everything_that_a_file_says_is_read_with_paths_beside_it(write: Write, tmp_path: Path) -> None:
    path = write(WHOLE)
    found = read(path)
    assert found == Settings(
        profile="generic",
        tiled_uri="https://tiled.example.org",
        tiled_path="derived/xpdml",
        tiled_raw_path="raw",
        api_key_variable="XPDML_BEAMLINE_KEY",
        models_folder=tmp_path / "bundles",
        pins={"Fe-xanes": 1, "Mn-dpdf_anomalous": 2},
        xanes=XanesSettings(energy_offset=0.8),
        calibration_file=tmp_path / "foil.json",
        repeats=SeriesSettings(within=1800.0),
        file=path,
        origins=dict.fromkeys(SAID, "file"),
    )


def test_nothing_is_needed(tmp_path: Path) -> None:
    found = resolve_settings(environment={}, folder=tmp_path)
    assert found == Settings()
    assert {told["origin"] for told in found.described().values()} == {"built-in"}
    assert found.store().folder == SHIPPED
    assert read_text(tmp_path, "").pins == {}


def read_text(folder: Path, text: str) -> Settings:
    path = folder / "mine.toml"
    path.write_text(text)
    return read(path)


def test_the_nearest_file_upwards_is_found(write: Write, tmp_path: Path, monkeypatch: Any) -> None:
    path = write('profile = "xpd"')
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find_settings_file(deep) == path.resolve()
    assert resolve_settings(environment={}, folder=deep).profile == "xpd"
    (tmp_path / "a" / "xpdml.toml").write_text('profile = "pdf"')
    monkeypatch.chdir(deep)
    assert resolve_settings(environment={}).profile == "pdf"
    by_variable = {"XPDML_SETTINGS": str(path)}
    assert resolve_settings(environment=by_variable).profile == "xpd"
    assert resolve_settings(Path("../xpdml.toml"), environment=by_variable).profile == "pdf"


def test_options_stand_before_variables_before_the_file(write: Write, tmp_path: Path) -> None:
    path = write(WHOLE)
    environment = {
        "XPDML_TILED_PATH": "by-variable",
        "XPDML_CALIBRATION_ENERGY_OFFSET": "-0.5",
        "XPDML_REPEATS_WITHIN": "60",
        "XPDML_PROFILE": "",
    }
    options = {"tiled.path": "by-option", "tiled.uri": "", "models.folder": None}
    found = resolve_settings(path, options=options, environment=environment)
    assert (found.tiled_path, found.xanes.energy_offset, found.profile) == ("by-option", -0.5, "generic")
    assert found.repeats == SeriesSettings(within=60.0)
    origins = {name: told["origin"] for name, told in found.described().items()}
    assert origins["tiled.path"] == "option"
    assert origins["calibration.energy_offset"] == "environment"
    assert origins["tiled.uri"] == origins["models.Fe-xanes"] == "file"
    assert resolve_settings(environment={}, folder=tmp_path / "bundles").described()["tiled.path"] == {
        "value": "derived/xpdml",
        "origin": "file",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("profil = 'xpd'", "no setting profil; did you mean profile\\? known are profile, tiled.uri,"),
        ("uri = 'http://a'", r"no setting uri; did you mean tiled\.uri\?"),
        ("[tiled]\nurl = 'http://a'", r"no setting tiled\.url; did you mean tiled\.uri\?"),
        ("[outboxx]\nlimit = 1", r"no table \[outboxx\]; did you mean \[outbox\]\?"),
        ("[models]\nfe-xanes = 1", r"no setting models\.fe-xanes; .*models\.<Element>-<modality>"),
        ("[tiled.more]\nuri = 'http://a'", r"no setting tiled\.more; "),
        ("[[tiled]]\nuri = 'http://a'", "no setting tiled; "),
        ("profile = 3", r"expected a text for profile, found 3 \(int\)"),
        ("profile = 'nowhere'", "expected auto or a profile .*generic.* for profile, found 'nowhere'"),
        ("tiled = 3", "no setting tiled; "),
        (
            "[tiled]\nuri = 'tiled.example.org'",
            r"expected an address that begins with http:// .*found 'tiled",
        ),
        ("[tiled]\npath = ''", r"expected a text for tiled\.path, found '' \(str\)"),
        (
            "[models]\nfolder = 'absent'",
            r"expected an existing folder for models\.folder, found 'absent'",
        ),
        ("[models]\nFe-xanes = '1'", r"whole number from 1 on, for models\.Fe-xanes, found '1' \(str\)"),
        ("[models]\nFe-xanes = true", r"for models\.Fe-xanes, found True \(bool\)"),
        ("[models]\nFe-xanes = 0", r"for models\.Fe-xanes, found 0 \(int\)"),
        ("[repeats]\nwithin = -1", r"expected a time from 0 on \[s\] for repeats.within, found -1"),
        ("[repeats]\nwithin = true", "expected a time from 0 on"),
        (
            "[calibration]\nenergy_offset = '0.8'",
            r'expected a number \[eV\], "reference" or "none" for .*\'0.8\'',
        ),
        ("[calibration]\nenergy_offset = nan", r"found nan \(float\)"),
        ("[calibration]\nenergy_offset = true", r"found True \(bool\)"),
        ("[calibration]\nfile = 'absent.json'", r"expected an existing file for calibration\.file"),
        ("profile =", "is no TOML file: "),
    ],
)
def test_every_fault_is_said_with_the_file_what_was_expected_and_what_was_found(
    write: Write, text: str, reason: str
) -> None:
    path = write(text)
    with pytest.raises(SettingsError, match=reason) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))


def test_a_file_that_is_not_there_is_an_error_where_it_was_named(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"no settings file .*absent\.toml: correct the name, or write one"
    ):
        read(tmp_path / "absent.toml")
    with pytest.raises(SettingsError, match=r"absent\.toml, which XPDML_SETTINGS names: correct"):
        resolve_settings(environment={"XPDML_SETTINGS": str(tmp_path / "absent.toml")})
    (tmp_path / "bytes.toml").write_bytes(b"profile = '\xff'")
    with pytest.raises(SettingsError, match="is no TOML file"):
        read(tmp_path / "bytes.toml")


def test_faults_of_variables_and_options_name_these(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"^XPDML_CALIBRATION_ENERGY_OFFSET: expected a number .* found 'much'"
    ):
        resolve_settings(environment={"XPDML_CALIBRATION_ENERGY_OFFSET": "much"}, folder=tmp_path)
    with pytest.raises(SettingsError, match=r"^the options: expected an existing folder for models\.folder"):
        resolve_settings(options={"models.folder": tmp_path / "absent"}, environment={}, folder=tmp_path)
    with pytest.raises(SettingsError, match=r"^the options: there is no setting tiled\.url"):
        resolve_settings(options={"tiled.url": "http://a"}, environment={}, folder=tmp_path)


def test_keys_stay_in_the_environment_and_are_told_nowhere(write: Write) -> None:
    secret = "-".join(["5ecre7", "5ecre7"])
    found = read(write('[tiled]\nuri = "http://me:5ecre7-5ecre7@localhost:8000/api"'), TILED_API_KEY=secret)
    assert found.api_key({"TILED_API_KEY": secret}) == secret
    assert found.api_key({"TILED_API_KEY": ""}) is None
    assert found.described()["tiled.uri"]["value"] == "http://localhost:8000/api"
    by_option = resolve_settings(options={"tiled.uri": f"http://a:1/?api_key={secret}"}, environment={})
    assert by_option.tiled_uri.endswith(secret)
    told = summary(with_settings(ANSWER, by_option))
    assert secret not in str(told)
    for text in (f'uri = "http://a/?api_key={secret}"', f'api_key_variable = "{secret}"'):
        with pytest.raises(SettingsError, match="variable") as caught:
            read(write(f"[tiled]\n{text}"))
        assert secret not in str(caught.value)


def test_a_pin_that_no_bundle_fits_is_refused_before_the_first_run(write: Write) -> None:
    store = read(write("[models]\nFe-xanes = 1")).store()
    assert store.find("Fe", "K", "xanes").reference.version == 1
    for text, reason in (("Fe-xanes = 99", "pinned to version 99"), ("Fe-xanse = 1", "no bundle Fe-xanse")):
        with pytest.raises(ModelNotFoundError, match=reason):
            read(write(f"[models]\n{text}")).store()


def test_derived_runs_tell_every_setting_and_where_it_came_from(write: Write) -> None:
    path = write(WHOLE)
    told = summary(with_settings(ANSWER, read(path, XPDML_TILED_PATH="elsewhere")))["analysis"]
    resolved = told["resolved_settings"]
    assert resolved["file"] == str(path)
    assert resolved["values"]["tiled_path"] == {"value": "elsewhere", "origin": "environment"}
    assert resolved["values"]["models_Fe-xanes"] == {"value": 1, "origin": "file"}
    assert set(told["settings"]) == {"profile", "beamtime"}
    assert told["settings"]["beamtime"]["energy_offset"] == 0.8
    assert told["settings"]["beamtime"]["pins"] == {"Fe-xanes": 1}
    assert len(told["settings"]["beamtime"]["calibration_sha256"]) == 64
    assert told["settings_sha256"] != summary(ANSWER)["analysis"]["settings_sha256"]


def uid_under(settings: Settings, prediction: Prediction = ANSWER) -> str:
    return run_uid(with_settings(prediction, settings))


def test_the_uid_knows_pins_and_calibration_and_no_server(tmp_path: Path) -> None:
    plain = run_uid(ANSWER)
    elsewhere = Settings(tiled_uri="http://a", tiled_path="b", file=tmp_path, models_folder=tmp_path)
    assert uid_under(Settings()) == uid_under(elsewhere) == plain
    assert uid_under(Settings(origins={"profile": "file"})) == plain
    foils = [tmp_path / name for name in ("a.json", "b.json", "c.json")]
    for foil, text in zip(foils, ("1", "2", "1"), strict=True):
        foil.write_text(text)
    others = [
        Settings(pins={"Fe-xanes": 1}),
        Settings(pins={"Fe-xanes": 2}),
        Settings(xanes=XanesSettings(energy_offset=0.5)),
        Settings(xanes=XanesSettings(energy_offset="none")),
        Settings(calibration_file=foils[0]),
        Settings(calibration_file=foils[1]),
    ]
    uids = [uid_under(settings) for settings in others]
    assert len({plain, *uids}) == len(others) + 1
    assert uid_under(Settings(calibration_file=foils[2])) == uids[4]


def test_what_does_not_bear_on_an_answer_does_not_change_its_uid() -> None:
    pdf = replace(ANSWER, technique=Technique.PDF, edge="")
    assert uid_under(Settings(xanes=XanesSettings(energy_offset=0.5)), pdf) == run_uid(pdf)
    assert uid_under(Settings(pins={"Mn-xanes": 1, "F-xanes": 1})) == run_uid(ANSWER)


@examples(max_examples=50, deadline=None)
@given(offset=st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_survives_file_and_variable(offset: float, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "number.toml"
    path.write_text(f"[calibration]\nenergy_offset = {offset!r}\n".replace("e+", "e"))
    assert read(path).xanes.energy_offset == offset
    variable = {variable_of("calibration.energy_offset"): repr(offset)}
    assert resolve_settings(environment=variable, folder=Path("/")).xanes.energy_offset == offset


@examples(max_examples=50, deadline=None)
@given(name=st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True))
def test_no_unknown_key_is_passed_over(name: str, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "unknown.toml"
    path.write_text(f'"{name}" = 1\n')
    with pytest.raises(SettingsError, match=r"there is no setting|expected a text"):
        read(path)
