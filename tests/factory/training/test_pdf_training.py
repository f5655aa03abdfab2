"""A tiny PDF training: structures made here, bundles written, loaded and asked."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.errors import BundleError, FeatureError, ModelNotFoundError, TrainingError
from bluesky_xpdml.factory.training.build import Progress, Training, build_bundles, silent
from bluesky_xpdml.factory.training.joint import JointRecipe
from bluesky_xpdml.factory.training.materials import (
    PdfAugmentation,
    load_materials,
    q_max_range,
    simulated_features,
)
from bluesky_xpdml.factory.training.pdf import PdfRecipe, usable_materials
from bluesky_xpdml.models.bundle import load_bundle
from bluesky_xpdml.models.golden import check_golden
from bluesky_xpdml.models.pdf import predict_pdf
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import PairDistribution, Verdict
from bluesky_xpdml.simulation.pair_distribution import pair_distribution
from bluesky_xpdml.simulation.structure import read_cif
from bluesky_xpdml.vocabulary import Modality

FACES = [(0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)]
ROCK_SALT = (0.5, 6)
ZINC_BLENDE = (0.25, 4)
RECIPE = PdfRecipe(trees=20, leaf=2, smallest_class=3, augmentation=PdfAugmentation(copies=6))

LENGTH_TOLERANCE = {Modality.PDF: 0.04, Modality.DPDF: 0.04, Modality.DPDF_ANOMALOUS: 0.1}
"""A short q_max costs resolution [angstrom]; the two structures differ by 0.3."""


def cubic(length: float, shift: float) -> str:
    """CIF of an oxide FeO, in the structure of rock salt or of zinc blende."""
    sites = [f"Fe {x} {y} {z}" for x, y, z in FACES]
    sites += [f"O {x + shift} {y + shift} {z + shift}" for x, y, z in FACES]
    cell = [f"_cell_length_{axis} {length}" for axis in "abc"]
    cell += [f"_cell_angle_{angle} 90" for angle in ("alpha", "beta", "gamma")]
    columns = ["type_symbol", "fract_x", "fract_y", "fract_z"]
    return "\n".join(["data_x", *cell, "loop_", *(f"_atom_site_{c}" for c in columns), *sites, ""])


def write_data(folder: Path) -> None:
    """Octahedral Fe2+ at 2.1 to 2.2 and tetrahedral Fe3+ at 1.8 to 1.9 angstrom, and rows to be left out."""
    rows = ["id,site,element,formula,valence,cn,only_O,d_mean,d_std,ocn,mood,geometry"]
    structures = []
    for number in range(24):
        shift, neighbours = (ROCK_SALT, ZINC_BLENDE)[number % 2]
        distance = (2.1 if neighbours == 6 else 1.8) + 0.1 * number / 24
        length = distance / (0.5 if neighbours == 6 else np.sqrt(3.0) / 4.0)
        name = f"m{number}"
        structures.append({"id": name, "formula": "FeO", "cif": cubic(length, shift)})
        valence = 2 if neighbours == 6 else 3
        oxygens = distance * (np.sqrt(2.0) if neighbours == 6 else np.sqrt(8.0 / 3.0))
        shape = "O:6" if neighbours == 6 else "T:4"
        labels = f"{valence},{neighbours},True,{distance},0.0,{neighbours},{oxygens},{shape}"
        rows += [f"{name},{s},Fe,Made{number},{labels}" for s in range(4)]
    rows += ["mixed,0,Fe,X,2,6,True,2.1,,,,", "mixed,1,Fe,X,3,6,True,2.1,,,,"]
    rows += ["sulfide,0,Fe,Y,2,6,False,2.4,,,,", "unlabelled,0,Fe,Z,,6,True,2.1,,,,"]
    with gzip.open(folder / "sites.csv.gz", "wt") as file:
        file.write("\n".join(rows) + "\n")
    with gzip.open(folder / "structures.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(structure) + "\n" for structure in structures)


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


def training(folder: Path, output: Path, progress: Progress = silent) -> Training:
    return Training(
        folder=folder,
        output=output,
        elements=["Fe"],
        version=1,
        recipe=JointRecipe(pdf=RECIPE),
        cache=output / "cache",
        held_out_structures=["Made0", "Made1"],
        progress=progress,
    )


@pytest.fixture(scope="module")
def bundles(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("bundles")
    seen: list[tuple[str, int, int]] = []
    build_bundles(training(data_folder, output, lambda *call: seen.append(call)), Modality.curves())
    assert seen[-1] == ("bundles", 3, 3)
    assert ("Fe pdf curves", 22, 22) in seen
    return output


def curve(modality: Modality, text: str, q_max: float, **changes: object) -> PairDistribution:
    metal = "" if modality is Modality.PDF else "Fe"
    pairs = "anomalous" if modality is Modality.DPDF_ANOMALOUS else ""
    r, g = pair_distribution(
        read_cif(text), q_min=0.7, q_max=q_max, q_damp=0.03, u_iso=0.006, r_max=12.0, metal=metal, pairs=pairs
    )
    found = PairDistribution(r=r, g=g, settings={"q_max": q_max}, composition={"Fe": 0.5, "O": 0.5})
    return replace(found, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("modality", Modality.curves())
def test_bundle_answers_for_structures_it_has_not_seen(bundles: Path, modality: Modality) -> None:
    q_max = float(np.mean(q_max_range("Fe", modality, RECIPE.augmentation)))
    store = BundleStore(bundles)
    for length, (shift, neighbours), valence in ((4.3, ROCK_SALT, 2), (4.27, ZINC_BLENDE, 3)):
        prediction = predict_pdf(curve(modality, cubic(length, shift), q_max), store, modality, element="Fe")
        answer = prediction.descriptors
        distance = length * (0.5 if neighbours == 6 else np.sqrt(3.0) / 4.0)
        assert prediction.quality.verdict is Verdict.GOOD
        assert prediction.technique == ("pdf" if modality is Modality.PDF else "dpdf")
        assert answer["oxidation_state"].value == pytest.approx(valence, abs=0.45)
        assert answer["coordination_number"].value == pytest.approx(neighbours, abs=0.9)
        assert answer["bond_length"].value == pytest.approx(distance, abs=LENGTH_TOLERANCE[modality])
        assert answer["geometry"].value == neighbours
        assert answer["ocn"].value == pytest.approx(neighbours, abs=0.9)
        for descriptor in answer.values():
            assert descriptor.low <= descriptor.value <= descriptor.high
        assert sum(answer["coordination_number"].probabilities.values()) == pytest.approx(1.0)


def test_manifest_tells_what_was_trained(bundles: Path) -> None:
    manifest = load_bundle(bundles / "Fe-dpdf_anomalous-1").manifest
    assert manifest["training"]["n_materials"] == 22
    assert manifest["training"]["held_out_formulas"] == ["Made0", "Made1"]
    low, high = manifest["input"]["q_max"]
    assert 5.0 < low < high < 7.21
    metrics = {(row["target"], row["metric"]): row for row in manifest["metrics"]["simulated"]}
    accuracy = metrics["oxidation_state", "accuracy"]
    assert accuracy["value"] > accuracy["majority"]
    card = (bundles / "Fe-dpdf_anomalous-1" / "card.md").read_text()
    assert "shells\n  merge" in card
    assert "Made0, Made1" in card


def test_bundle_holds_what_explains_and_checks_it(bundles: Path) -> None:
    bundle = load_bundle(bundles / "Fe-pdf-1")
    assert bundle.tables["background"].shape == (64, 92)
    check = check_golden(bundle)
    assert check.checked
    assert check.ok
    assert set(bundle.manifest["importances"]) == {"oxidation_state", "coordination_number", "bond_length"}
    for target in ("oxidation_state", "coordination_number", "geometry"):
        settings = bundle.manifest["targets"][target]
        assert len(settings["thresholds"]) == len(settings["classes"]) == 2
        coverage = bundle.manifest["metrics"]["coverage"][target]
        assert coverage["share"] >= 0.8
        assert sum(coverage["members"].values()) == 22
    assert "2: 1.00 (11), 3: 1.00 (11)" in (bundles / "Fe-pdf-1" / "card.md").read_text()


def test_intervals_span_the_set_of_classes(bundles: Path) -> None:
    store = BundleStore(bundles)
    found = curve(Modality.PDF, cubic(4.3, 0.5), 22.0)
    answer = predict_pdf(found, store, "pdf", element="Fe").descriptors["coordination_number"]
    thresholds = store.find("Fe", "", "pdf").manifest["targets"]["coordination_number"]["thresholds"]
    shares = answer.probabilities
    assert shares is not None
    inside = [
        float(name) for (name, p), t in zip(shares.items(), thresholds, strict=True) if 1.0 - p <= t + 1e-12
    ]
    inside = inside or [float(max(shares, key=lambda name: shares[name]))]
    assert answer.low == pytest.approx(min(*inside, answer.value))
    assert answer.high == pytest.approx(max(*inside, answer.value))


def test_a_curve_of_another_kind_is_novel(bundles: Path) -> None:
    r = np.arange(0.0, 12.0, 0.02)
    other = PairDistribution(
        r=r, g=np.sin(9.0 * r), settings={"q_max": 22.0}, composition={"Fe": 0.5, "O": 0.5}
    )
    store = BundleStore(bundles)
    prediction = predict_pdf(other, store, "pdf", element="Fe")
    assert prediction.quality.verdict is Verdict.SUSPECT
    assert "not like what the models were trained on" in prediction.quality.reasons[0]
    familiar = predict_pdf(curve(Modality.PDF, cubic(4.3, 0.5), 22.0), store, "pdf", element="Fe")
    assert familiar.diagnostics["novelty_score"] < 0.5 * prediction.diagnostics["novelty_score"]


def test_same_seed_gives_the_same_bundle(bundles: Path, data_folder: Path, tmp_path: Path) -> None:
    (again,) = build_bundles(training(data_folder, tmp_path), [Modality.DPDF])
    assert load_bundle(again).sha256 == load_bundle(bundles / "Fe-dpdf-1").sha256


def test_doubts_are_said(bundles: Path) -> None:
    store, text = BundleStore(bundles), cubic(4.3, 0.5)
    short = predict_pdf(curve(Modality.PDF, text, 12.0), store, "pdf", element="Fe")
    assert short.quality.verdict is Verdict.SUSPECT
    assert "trained on 18.0 to 30.0" in short.quality.reasons[0]
    unknown = predict_pdf(curve(Modality.PDF, text, 22.0, settings={}), store, "pdf", element="Fe")
    assert "q_max is not known" in unknown.quality.reasons[0]
    other = predict_pdf(curve(Modality.PDF, text, 22.0, composition={"Ti": 1.0}), store, "pdf", element="Fe")
    assert "holds no Fe" in other.quality.reasons[0]


def test_refusals(bundles: Path) -> None:
    store, found = BundleStore(bundles), curve(Modality.PDF, cubic(4.3, 0.5), 22.0)
    with pytest.raises(ModelNotFoundError):
        predict_pdf(found, store, "pdf", element="Ti")
    with pytest.raises(FeatureError, match="the model needs"):
        predict_pdf(replace(found, r=found.r[:500], g=found.g[:500]), store, "pdf", element="Fe")
    bundle = store.find("Fe", "", "pdf")
    altered = replace(bundle, manifest={**bundle.manifest, "input": {"scale": "another"}})
    with pytest.raises(BundleError, match="expects scale another"):
        predict_pdf(found, BundleStore(bundles / "none", [altered]), "pdf", element="Fe")


def test_features_are_kept_between_calls(data_folder: Path, tmp_path: Path) -> None:
    materials = load_materials(data_folder, "Fe").select(np.arange(3))
    settings = PdfAugmentation(copies=2)

    def simulate(seed: int) -> np.ndarray:
        return simulated_features(
            data_folder,
            materials,
            Modality.PDF,
            settings,
            seed=seed,
            cache=tmp_path,
            progress=lambda *_: None,
        )

    first, other, again = simulate(0), simulate(1), simulate(0)
    assert len(list(tmp_path.iterdir())) == 2
    np.testing.assert_array_equal(again, first)
    assert not np.allclose(other, first)


def test_materials_that_cannot_be_used(data_folder: Path, tmp_path: Path) -> None:
    assert {"mixed", "sulfide", "unlabelled"}.isdisjoint(load_materials(data_folder, "Fe").identifier)
    with pytest.raises(TrainingError, match="none of them"):
        load_materials(data_folder, "Ti")
    with pytest.raises(TrainingError, match="is missing"):
        load_materials(tmp_path, "Fe")
    strict = replace(RECIPE, smallest_class=20)
    with pytest.raises(TrainingError, match="at least two valences"):
        usable_materials(load_materials(data_folder, "Fe"), strict)
