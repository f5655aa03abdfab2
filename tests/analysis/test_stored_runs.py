"""Dark and background runs that were not seen are read from a catalog under the callback's own settings."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from bluesky_xpdml import BundleStore, CallbackPublisher, ReasonCode, Settings, XpdmlCallback
from bluesky_xpdml.errors import MissingDataError

Documents = list[tuple[str, dict[str, Any]]]

OWN_PROFILE = """
name = "own"
extends = "xpd"

[scattering]
image = ["camera_seven"]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    profile = tmp_path / "own.toml"
    profile.write_text(OWN_PROFILE)
    return Settings(profile=str(profile), models_folder=tmp_path)


def renamed(documents: Documents, old: str, new: str) -> Documents:
    """Return the documents of a detector with another name."""

    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            return {new if key == old else key: rename(inner) for key, inner in value.items()}
        return value

    return [(name, rename(document)) for name, document in documents]


def own(documents: Documents) -> Documents:
    return renamed(documents, "pe1_image", "camera_seven")


def analysed(
    settings: Settings, documents: Documents, fetch: Callable[[str], Iterable[Any]] | None
) -> dict[str, Any]:
    derived: Documents = []
    publisher = CallbackPublisher(lambda name, document: derived.append((name, document)))
    with XpdmlCallback(
        publisher, settings=settings, store=BundleStore(settings.models_folder), fetch=fetch
    ) as callback:
        for name, document in documents:
            callback(name, document)
        assert callback.drain(timeout=120)
    assert callback.statistics.errors == 0
    (start,) = (document for name, document in derived if name == "start")
    return start


def test_a_fetched_dark_run_is_read_with_the_profile_of_the_callback(settings: Settings, powder: Any) -> None:
    start = analysed(settings, own(powder.older()), lambda uid: own(powder.dark_run(uid, n_frames=2)))
    assert start["analysis"]["settings"]["integration"]["dark"] == "2 frames"
    assert ReasonCode.DARK_MISSING not in start["quality"]["codes"]


def test_a_background_that_was_not_seen_is_fetched_by_uid(settings: Settings, powder: Any) -> None:
    stored = {
        "dark": own(powder.dark_run("dark")),
        "empty": own(powder.older(uid="empty", sample_name="kapton")),
    }

    def fetch(uid: str) -> Documents:
        if uid not in stored:
            raise MissingDataError(f"no run {uid}")
        return stored[uid]

    light = own(powder.older(bkgd_sample_name="empty"))
    with_background = analysed(settings, light, fetch)
    assert ReasonCode.BACKGROUND_MISSING not in with_background["quality"]["codes"]
    without = analysed(settings, own(powder.older(bkgd_sample_name="lost")), fetch)
    assert ReasonCode.BACKGROUND_MISSING in without["quality"]["codes"]


def test_a_catalog_is_closed_with_its_callback(settings: Settings, powder: Any) -> None:
    class Catalog:
        closed = False

        def __call__(self, uid: str) -> Documents:
            return own(powder.dark_run(uid))

        def close(self) -> None:
            self.closed = True

    catalog = Catalog()
    analysed(settings, own(powder.older()), catalog)
    assert catalog.closed
