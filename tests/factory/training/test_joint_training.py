"""A tiny joint training: structures and spectra made here; bundles written, loaded and asked."""

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.errors import BundleError, MissingDataError, ModelNotFoundError
from bluesky_xpdml.factory.dataset.library import load_site_spectra
from bluesky_xpdml.factory.training.build import Training, build_bundles
from bluesky_xpdml.factory.training.forests import stored_forests
from bluesky_xpdml.factory.training.joint import JointRecipe, material_spectra
from bluesky_xpdml.factory.training.leave_one_out import UNIT_INTERVALS
from bluesky_xpdml.factory.training.materials import PdfAugmentation, load_materials
from bluesky_xpdml.factory.training.pdf import PdfRecipe
from bluesky_xpdml.factory.training.xanes import XanesRecipe, train_bundle, usable_sites
from bluesky_xpdml.features.joint import FEATURE_NAMES
from bluesky_xpdml.models.bundle import load_bundle, write_bundle
from bluesky_xpdml.models.edge_model import EdgeModel
from bluesky_xpdml.models.golden import check_golden
from bluesky_xpdml.models.joint import predict_joint, predict_sample
from bluesky_xpdml.models.pdf import predict_pdf
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.xanes import predict_xanes
from bluesky_xpdml.records import AbsorptionScan, PairDistribution, Quality, Verdict, Xanes
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.simulation.pair_distribution import pair_distribution
from bluesky_xpdml.simulation.structure import read_cif
from bluesky_xpdml.vocabulary import Modality, Reason, ReasonCode

MODALITY = "xanes+pdf"
FACES = [(0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)]
RECIPE = JointRecipe(
    trees=10,
    smallest_class=3,
    xanes=XanesRecipe(trees=10, length_trees=10, leaf=2, length_leaf=3, folds=2),
    pdf=PdfRecipe(
        trees=10, length_trees=10, leaf=2, smallest_class=3, augmentation=PdfAugmentation(copies=6)
    ),
)
EDGES = EdgeModel(
    valence=np.array([2.0, 3.0]), edge=np.array([10.5, 13.7]), sigma=np.array([0.7, 0.7]), pre_edge_shift=0.0
)


def cubic(length: float, shift: float) -> str:
    """CIF of an oxide FeO: rock salt for a shift of 0.5, zinc blende for 0.25."""
    sites = [f"Fe {x} {y} {z}" for x, y, z in FACES]
    sites += [f"O {x + shift} {y + shift} {z + shift}" for x, y, z in FACES]
    cell = [f"_cell_length_{axis} {length}" for axis in "abc"]
    cell += [f"_cell_angle_{angle} 90" for angle in ("alpha", "beta", "gamma")]
    columns = ["type_symbol", "fract_x", "fract_y", "fract_z"]
    return "\n".join(["data_x", *cell, "loop_", *(f"_atom_site_{c}" for c in columns), *sites, ""])


def absorption(x: np.ndarray, edge: float, number: float) -> np.ndarray:
    """A spectrum whose white line grows with the coordination number [edge steps]."""
    rise = 0.5 + np.arctan((x - edge) / 1.2) / np.pi
    return np.asarray(rise + 0.1 * number * np.exp(-(((x - edge - 5.0) / 3.0) ** 2)))


def write_data(folder: Path) -> None:
    """Octahedral Fe2+ and tetrahedral Fe3+, two spectra a material; the last material has none."""
    random = np.random.default_rng(7)
    rows = ["id,site,element,formula,valence,cn,only_O,d_mean,d_std,ocn,mood,geometry"]
    structures, spectra, identifiers = [], [], []
    x = np.arange(0.5, 60.0, 0.25)
    for number in range(27):
        shift, neighbours, valence = ((0.5, 6, 2), (0.25, 4, 3))[number % 2]
        distance = (2.1 if neighbours == 6 else 1.8) + 0.1 * number / 27
        length = distance / (0.5 if neighbours == 6 else np.sqrt(3.0) / 4.0)
        structures.append({"id": f"m{number}", "formula": "FeO", "cif": cubic(length, shift)})
        shape = "O:6" if neighbours == 6 else "T:4"
        labels = f"{valence},{neighbours},True,{distance},0.0,{neighbours},2.9,{shape}"
        rows += [f"m{number},{site},Fe,Made{number},{labels}" for site in range(2)]
        if number < 26:
            edges = 4.5 + 3.0 * valence + random.normal(0.0, 0.3, 2)
            spectra += [absorption(x, edge, neighbours) for edge in edges]
            identifiers += [f"m{number}"] * 2
    with gzip.open(folder / "sites.csv.gz", "wt") as file:
        file.write("\n".join(rows) + "\n")
    with gzip.open(folder / "structures.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(structure) + "\n" for structure in structures)
    np.savez(
        folder / "xanes_Fe.npz",
        energy=FOIL_ENERGIES["Fe"] + x,
        mu=np.stack(spectra),
        id=np.array(identifiers),
        site=np.tile([0, 1], 26),
        source=np.array(["test"] * 52),
    )


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    write_data(folder)
    return folder


def build(data_folder: Path, output: Path, cache: Path, modality: Modality) -> Path:
    training = Training(
        folder=data_folder,
        output=output,
        elements=["Fe"],
        version=2,
        recipe=RECIPE,
        cache=cache,
        held_out_structures=["Made0"],
    )
    (folder,) = build_bundles(training, [modality])
    return folder


@pytest.fixture(scope="module")
def joint_bundles(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of Fe-xanes-2, Fe-pdf-2, and Fe-xanes+pdf-2 which stands on them."""
    output = tmp_path_factory.mktemp("joint")
    sites = usable_sites(load_site_spectra(data_folder, "Fe"), RECIPE.xanes)
    bundle = train_bundle(sites, EDGES, RECIPE.xanes, UNIT_INTERVALS)
    named = {"name": "Fe-xanes", "version": 2, "modality": "xanes"}
    forests = stored_forests(bundle.forests)
    write_bundle(output / "Fe-xanes-2", {**bundle.manifest, **named}, forests, "# A card\n")
    for modality in (Modality.PDF, Modality.XANES_PDF):
        build(data_folder, output, output / "cache", modality)
    return output


@pytest.fixture(scope="module")
def xanes() -> Xanes:
    x = np.arange(-150.0, 300.0, 0.5)
    rise = 0.5 + np.arctan((x - 10.0) / 1.2) / np.pi
    mu = rise + 0.6 * np.exp(-(((x - 15.0) / 3.0) ** 2)) + 0.2
    scan = AbsorptionScan(energy=FOIL_ENERGIES["Fe"] + x, mu=mu, element="Fe", edge="K", raw_uids=("x",))
    return reduce_xanes(scan, XanesSettings(energy_offset=0.0))


@pytest.fixture(scope="module")
def distribution() -> PairDistribution:
    r, g = pair_distribution(
        read_cif(cubic(4.3, 0.5)), q_min=0.7, q_max=22.0, q_damp=0.03, u_iso=0.006, r_max=12.0
    )
    return PairDistribution(
        r=r, g=g, settings={"q_max": 22.0}, composition={"Fe": 0.5, "O": 0.5}, raw_uids=("p",)
    )


def test_one_answer_from_both(joint_bundles: Path, xanes: Xanes, distribution: PairDistribution) -> None:
    store = BundleStore(joint_bundles)
    both = predict_joint(xanes, distribution, store, MODALITY)
    assert (both.technique, both.element, both.edge) == (MODALITY, "Fe", "K")
    assert both.raw_uids == ("x", "p")
    assert [model.name for model in both.models] == ["Fe-xanes+pdf", "Fe-xanes", "Fe-pdf"]
    assert both.xanes is xanes
    assert both.pdf is distribution
    for each in both.descriptors.values():
        assert each.low <= each.value <= each.high
    for name in ("oxidation_state", "coordination_number"):
        shares = both.descriptors[name].probabilities
        assert shares is not None
        assert sum(shares.values()) == pytest.approx(1.0)


def test_bond_length_is_the_weighted_mean_of_the_single_answers(
    joint_bundles: Path, xanes: Xanes, distribution: PairDistribution
) -> None:
    store = BundleStore(joint_bundles)
    weight = store.find("Fe", "K", MODALITY).manifest["targets"]["bond_length"]["weight"]
    first = predict_xanes(xanes, store).descriptors["bond_length"].value
    second = predict_pdf(distribution, store, "pdf", element="Fe").descriptors["bond_length"].value
    both = predict_joint(xanes, distribution, store, MODALITY)
    assert both.descriptors["bond_length"].value == pytest.approx(weight * first + (1.0 - weight) * second)
    assert both.diagnostics["xanes_bond_length"] == first
    assert both.diagnostics["pdf_bond_length"] == second


@pytest.mark.parametrize("missing", ["xanes", "pdf"])
def test_what_was_not_measured_is_done_without_and_said(
    joint_bundles: Path, xanes: Xanes, distribution: PairDistribution, missing: str
) -> None:
    store = BundleStore(joint_bundles)
    given = (None, distribution) if missing == "xanes" else (xanes, None)
    found = predict_sample(*given, store, MODALITY, element="Fe")
    other = "pdf" if missing == "xanes" else "xanes"
    what = "no spectrum" if missing == "xanes" else "no PDF"
    assert found.technique == other
    assert f"joint prediction degraded to {other}: {what} was measured" in found.quality.reasons
    alone = (
        predict_pdf(distribution, store, "pdf", element="Fe")
        if missing == "xanes"
        else predict_xanes(xanes, store)
    )
    assert found.descriptors == alone.descriptors
    assert found.quality.verdict is alone.quality.verdict


def test_what_failed_is_done_without_and_said(
    joint_bundles: Path, xanes: Xanes, distribution: PairDistribution
) -> None:
    store = BundleStore(joint_bundles)
    failed = replace(xanes, quality=Quality().failed(Reason("no edge", ReasonCode.REDUCTION_FAILED)))
    found = predict_sample(failed, distribution, store, MODALITY, element="Fe")
    assert found.technique == "pdf"
    assert "degraded to pdf: the spectrum failed: no edge" in " ".join(found.quality.reasons)
    short = replace(distribution, r=distribution.r[:400], g=distribution.g[:400])
    found = predict_sample(xanes, short, store, MODALITY, element="Fe")
    assert found.technique == "xanes"
    assert "the curve covers" in " ".join(found.quality.reasons)
    with pytest.raises(MissingDataError, match="no edge"):
        predict_sample(failed, None, store, MODALITY, element="Fe")
    with pytest.raises(MissingDataError, match="no differential PDF"):
        predict_sample(None, None, store, "xanes+dpdf", element="Fe")


def test_without_a_joint_bundle_the_spectrum_answers(
    joint_bundles: Path, xanes: Xanes, distribution: PairDistribution
) -> None:
    store = BundleStore(joint_bundles)
    with pytest.raises(ModelNotFoundError):
        predict_joint(xanes, distribution, store, "xanes+dpdf")
    found = predict_sample(xanes, distribution, store, Modality.XANES_DPDF, element="Fe")
    assert found.technique == "xanes"
    assert "no xanes+dpdf model" in " ".join(found.quality.reasons)


def test_two_samples_in_one_are_suspect(
    joint_bundles: Path, xanes: Xanes, distribution: PairDistribution
) -> None:
    store = BundleStore(joint_bundles)
    tetrahedra = pair_distribution(
        read_cif(cubic(4.27, 0.25)), q_min=0.7, q_max=22.0, q_damp=0.03, u_iso=0.006, r_max=12.0
    )
    other = replace(distribution, r=tetrahedra[0], g=tetrahedra[1])
    found = predict_joint(xanes, other, store, MODALITY)
    assert found.quality.verdict is Verdict.SUSPECT
    (said,) = [reason for reason in found.quality.reasons if "spectrum and PDF disagree: bond" in reason]
    for what in ("xanes", "pdf"):
        assert f"{found.diagnostics[f'{what}_bond_length']:.3f}" in said


def test_it_stands_on_the_bundles_it_was_trained_with(
    joint_bundles: Path, xanes: Xanes, distribution: PairDistribution, tmp_path: Path
) -> None:
    store = BundleStore(joint_bundles)
    single, joint = store.find("Fe", "", "pdf"), store.find("Fe", "K", MODALITY)
    later = replace(single, manifest={**single.manifest, "version": 9}, sha256="0" * 64)
    newer = BundleStore(joint_bundles, [later])
    assert newer.find("Fe", "", "pdf").reference.version == 9
    found = predict_joint(xanes, distribution, newer, MODALITY)
    assert [model.version for model in found.models] == [2, 2, 2]
    altered = BundleStore(tmp_path, [replace(single, sha256="0" * 64), joint, store.find("Fe", "K", "xanes")])
    with pytest.raises(BundleError, match="train the joint bundle again"):
        predict_joint(xanes, distribution, altered, MODALITY)
    old = replace(joint, manifest={**joint.manifest, "input": {"xanes": {}, "pdf": {}}})
    with pytest.raises(BundleError, match="expects xanes scale None"):
        predict_joint(xanes, distribution, BundleStore(joint_bundles, [old]), MODALITY)


def test_bundle_is_whole(joint_bundles: Path) -> None:
    bundle = load_bundle(joint_bundles / "Fe-xanes+pdf-2")
    assert check_golden(bundle).checked
    assert check_golden(bundle).ok
    assert bundle.tables["background"].shape == (64, len(FEATURE_NAMES))
    metrics = bundle.manifest["metrics"]
    assert len(metrics["simulated"]) == len(metrics["alone"]["xanes"]) == len(metrics["alone"]["pdf"])
    card = (joint_bundles / "Fe-xanes+pdf-2" / "card.md").read_text()
    assert "Stands on Fe-xanes-2 and Fe-pdf-2" in card


def test_same_seed_gives_the_same_bundle(joint_bundles: Path, data_folder: Path, tmp_path: Path) -> None:
    for name in ("Fe-xanes-2", "Fe-pdf-2"):
        shutil.copytree(joint_bundles / name, tmp_path / name)
    again = build(data_folder, tmp_path, joint_bundles / "cache", Modality.XANES_PDF)
    assert load_bundle(again).sha256 == load_bundle(joint_bundles / "Fe-xanes+pdf-2").sha256


def test_only_materials_with_both_are_trained_on(joint_bundles: Path, data_folder: Path) -> None:
    manifest = load_bundle(joint_bundles / "Fe-xanes+pdf-2").manifest
    # One is held out, and one has no spectrum.
    assert manifest["training"]["n_materials"] == 25
    spectra, materials = load_site_spectra(data_folder, "Fe"), load_materials(data_folder, "Fe")
    means = material_spectra(spectra, materials.select(np.array([3, 1])))
    assert means.material.tolist() == ["m3", "m1"]
    np.testing.assert_allclose(means.mu[0], 0.5 * (spectra.mu[6] + spectra.mu[7]))
    np.testing.assert_allclose(means.mu[1], 0.5 * (spectra.mu[2] + spectra.mu[3]))
