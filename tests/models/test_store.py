"""The store finds the newest bundle, or says what there is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bluesky_xpdml.errors import BundleError, ModelNotFoundError
from bluesky_xpdml.models.bundle import MANIFEST, load_bundle
from bluesky_xpdml.models.store import BundleStore

Write = Callable[..., Path]


def test_the_newest_version_answers_by_number_not_by_letter(write_small: Write) -> None:
    for version in (9, 10, 2):
        folder = write_small("Fe", version)
    write_small("Mn", 11)
    store = BundleStore(folder.parent)
    assert store.find("Fe", "K", "xanes").reference.version == 10
    assert store.load("Fe-xanes-2").reference.version == 2
    assert store.names() == ["Fe-xanes-10", "Fe-xanes-2", "Fe-xanes-9", "Mn-xanes-11"]


@pytest.mark.parametrize(
    ("element", "edge", "modality"),
    [("Zn", "K", "xanes"), ("", "K", "xanes"), ("Fe", "L3", "xanes"), ("Fe", "", "xanes")],
)
def test_what_cannot_be_answered_lists_what_can(
    write_small: Write, element: str, edge: str, modality: str
) -> None:
    write_small("Mn")
    store = BundleStore(write_small("Fe").parent)
    with pytest.raises(ModelNotFoundError, match=r"there are xanes models for Fe, Mn$"):
        store.find(element, edge, modality)


def test_another_modality_is_not_answered_by_xanes(write_small: Write) -> None:
    store = BundleStore(write_small("Fe").parent)
    with pytest.raises(ModelNotFoundError, match=r"no pdf model for the K edge of Fe: .* for nothing$"):
        store.find("Fe", "K", "pdf")


def test_an_empty_or_absent_folder_has_no_bundles(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        assert BundleStore(folder).names() == []
        with pytest.raises(ModelNotFoundError, match="for nothing"):
            BundleStore(folder).find("Fe", "K", "xanes")
        with pytest.raises(ModelNotFoundError, match=r"no bundle 'Fe-xanes-1'.*expected one of none"):
            BundleStore(folder).load("Fe-xanes-1")


def test_a_folder_with_an_invalid_name_is_refused(write_small: Write) -> None:
    folder = write_small("Fe")
    folder.rename(folder.parent / "my best model")
    with pytest.raises(BundleError, match="is not named <Element>-<modality>-<version>"):
        BundleStore(folder.parent).find("Fe", "K", "xanes")


def test_a_bundle_is_read_once_and_cached(write_small: Write) -> None:
    folder = write_small("Fe")
    store = BundleStore(folder.parent)
    first = store.find("Fe", "K", "xanes")
    (folder / MANIFEST).write_text("{")
    assert store.find("Fe", "K", "xanes") is first


def test_a_bundle_in_memory_is_found_without_its_folder(write_small: Write, tmp_path: Path) -> None:
    bundle = load_bundle(write_small("Co", 3))
    store = BundleStore(tmp_path / "absent", [bundle])
    assert store.names() == ["Co-xanes-3"]
    assert store.find("Co", "K", "xanes") is bundle


def test_a_pinned_version_answers_instead_of_the_newest(write_small: Write) -> None:
    for version in (1, 2, 10):
        folder = write_small("Fe", version)
    write_small("Mn", 3)
    store = BundleStore(folder.parent, pins={"Fe-xanes": 2})
    assert store.find("Fe", "K", "xanes").reference.version == 2
    assert store.find("Mn", "K", "xanes").reference.version == 3
    assert (store.versions("Fe-xanes"), store.chosen("Fe-xanes"), store.chosen("Mn-xanes")) == (
        (1, 2, 10),
        2,
        3,
    )
    assert BundleStore(folder.parent).chosen("Fe-xanes") == 10


def test_a_missing_pinned_version_is_refused_with_the_available_ones(write_small: Write) -> None:
    for version in (1, 3):
        folder = write_small("Fe", version)
    store = BundleStore(folder.parent, pins={"Fe-xanes": 2, "Zn-xanes": 1})
    with pytest.raises(
        ModelNotFoundError, match=r"Fe-xanes is pinned to version 2, .* version 1, 3: pin one"
    ):
        store.find("Fe", "K", "xanes")
    with pytest.raises(ModelNotFoundError, match=r"no bundle Zn-xanes in .*: expected one of Fe-xanes$"):
        store.chosen("Zn-xanes")


def test_a_bundle_in_memory_takes_precedence_over_the_same_name_on_disk(
    write_small: Write, tmp_path: Path
) -> None:
    bundle = load_bundle(write_small("Fe", 4))
    write_small("Fe", 5)
    assert BundleStore(tmp_path, [bundle], {"Fe-xanes": 4}).find("Fe", "K", "xanes") is bundle
