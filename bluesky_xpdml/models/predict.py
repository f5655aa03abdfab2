"""From a reduced XANES spectrum to a prediction with its verdict."""

from collections.abc import Iterator, Mapping

from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.novelty import novelty
from bluesky_xpdml.models.observation import XanesObservation, observe, require_input
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.xanes_answers import (
    PEAK_SEEN,
    answers_with,
    edge_curve_state,
    expected_states,
    oxidation_state,
)
from bluesky_xpdml.records import Estimate, FloatArray, Prediction, Quality, Xanes
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES, shows_metal
from bluesky_xpdml.reduction.xanes import unfit

DISAGREEMENT = 1.0
"""Edge position and shape may differ by this much before the verdict says so [e]."""
OUTLYING = 2.0
"""Edges this many standard deviations beyond those of the outermost valences belong to no oxide."""
SLOWEST_RISE = 8.5
"""Measured oxides without pre-edge peak rise from 30 to 90 % within this [eV]: 40 of 43 do, and no metal, no
sulfide of Cr, Fe or Ni among those at hand."""
TETRAHEDRAL_RISE = 7.0
"""Octahedral Fe2+ rises within this [eV]; tetrahedral Fe2+ of spinels takes longer."""
NOVELTY = "novelty"
"""Entry of a manifest that says what familiar rows look like."""


def predict_xanes(xanes: Xanes, store: BundleStore) -> Prediction:
    """Predict oxidation state, coordination number and bond length from a K-edge spectrum.

    Parameters
    ----------
    xanes
        Reduced spectrum.
    store
        Where the bundle of the element is found.

    Returns
    -------
    Prediction
        With descriptors and 90 % intervals; its quality continues that of the spectrum.

    Raises
    ------
    ModelNotFoundError
        If there is no bundle for the element and edge.
    BundleError
        If the bundle was trained on other features than this version computes.
    FeatureError
        If the spectrum does not cover the window of the model.
    ReductionError
        If no edge is found where the element's should be.
    """
    bundle = store.find(xanes.element, xanes.edge, "xanes")
    require_input(bundle)
    observation = observe(xanes)
    expected = expected_states(bundle, observation)
    answer = answers_with(bundle, observation, expected)
    diagnostics = _diagnostics(bundle, observation, expected, answer["oxidation_state"].value)
    return Prediction(
        technique="xanes",
        element=xanes.element,
        edge=xanes.edge,
        quality=_judge(
            xanes.quality.suspect(*unfit(xanes.quality), *_foreign(xanes, observation)),
            bundle,
            answer,
            diagnostics,
        ),
        descriptors=answer,
        models=(bundle.reference,),
        sample=xanes.sample,
        raw_uids=xanes.raw_uids,
        source=xanes.source,
        completeness=xanes.completeness,
        settings={
            "reduction": dict(xanes.settings),
            "energy_axis": {
                "source": str(xanes.axis.source),
                "offset": xanes.axis.offset,
                "uncertainty": xanes.axis.uncertainty,
            },
        },
        diagnostics=diagnostics,
        xanes=xanes,
    )


def _diagnostics(
    bundle: Bundle, observation: XanesObservation, expected: FloatArray, state: float
) -> dict[str, float]:
    moved = [oxidation_state(bundle, observation, expected, centre).value for centre in (-1.0, 1.0)]
    return {
        "edge_position": observation.edge,
        "edge_width": observation.edge_width,
        "pre_edge_peak": observation.pre_edge_peak,
        "edge_curve_oxidation_state": edge_curve_state(bundle, observation),
        "forest_oxidation_state": float(observation.weights() @ expected),
        "oxidation_state_axis_minus_1_ev": moved[0],
        "oxidation_state_axis_plus_1_ev": moved[1],
        "largest_move_over_1_ev": max(abs(value - state) for value in moved),
        **novelty_diagnostics(bundle, observation.unshifted),
    }


def novelty_diagnostics(bundle: Bundle, row: FloatArray) -> dict[str, float]:
    """Return how unlike the training a row is; nothing where the bundle does not know.

    Parameters
    ----------
    bundle
        Models of one element.
    row
        Features, (n_features,).

    Returns
    -------
    dict
        `novelty_score`, `novelty_p_value` and `novelty_threshold`, above which a row is called novel.
    """
    if bundle.familiar is None:
        return {}
    found = novelty(bundle.familiar, row)
    return {
        "novelty_score": found.score,
        "novelty_p_value": found.p_value,
        "novelty_threshold": bundle.manifest[NOVELTY]["threshold"],
    }


def unfamiliar(diagnostics: Mapping[str, float]) -> Iterator[str]:
    """Say that a row is unlike the training, where it is.

    Parameters
    ----------
    diagnostics
        From `novelty_diagnostics`.
    """
    score, threshold = diagnostics.get("novelty_score", 0.0), diagnostics.get("novelty_threshold", 0.0)
    if score > threshold:
        yield (
            f"not like what the models were trained on: novelty {score:.1f}, familiar up to {threshold:.1f}; "
            "another element or compound class, a damaged spectrum, or the axis is off"
        )


def _foreign(xanes: Xanes, observation: XanesObservation) -> Iterator[str]:
    """Say why a spectrum is not one of those that the models know."""
    if shows_metal(xanes.energy - FOIL_ENERGIES[xanes.element], xanes.mu, xanes.element):
        yield f"the spectrum is that of {xanes.element} metal or an alloy of it: the models know oxides only"
    elif observation.edge_width > SLOWEST_RISE and observation.pre_edge_peak <= PEAK_SEEN:
        yield (
            f"the edge takes {observation.edge_width:.1f} eV from 30 to 90 % of its rise, oxides up to "
            f"{SLOWEST_RISE} eV: metals, sulfides and phosphides rise so slowly, and the models know oxides "
            "only"
        )


def _judge(
    quality: Quality, bundle: Bundle, answer: Mapping[str, Estimate], diagnostics: Mapping[str, float]
) -> Quality:
    """Say what makes the answer doubtful beyond the quality of the spectrum."""
    model = bundle.edge_model
    edge = model.corrected(diagnostics["edge_position"], diagnostics["pre_edge_peak"])
    by_edge, by_shape = diagnostics["edge_curve_oxidation_state"], diagnostics["forest_oxidation_state"]
    if abs(by_edge - by_shape) > DISAGREEMENT:
        quality = quality.suspect(
            f"edge position and shape disagree: oxidation state {by_edge:.2f} by the one, {by_shape:.2f} "
            "by the other"
        )
    low = model.edge[0] - OUTLYING * model.sigma[0]
    high = model.edge.max() + OUTLYING * model.sigma[-1]
    if not low <= edge <= high:
        quality = quality.suspect(
            f"edge {edge:.1f} eV above the foil, oxides of {bundle.element} lie within {low:.1f} to "
            f"{high:.1f} eV: metallic, not an oxide, or the energy axis is off"
        )
    quality = quality.suspect(*unfamiliar(diagnostics))
    return quality.suspect(*_ferrous(bundle, answer, diagnostics))


def _ferrous(
    bundle: Bundle, answer: Mapping[str, Estimate], diagnostics: Mapping[str, float]
) -> Iterator[str]:
    """Say where the coordination number of Fe2+ cannot be trusted."""
    if bundle.element != "Fe" or answer["oxidation_state"].value >= 2.5:
        return
    width = diagnostics["edge_width"]
    if answer["coordination_number"].value < 5.5:
        yield "coordination numbers of Fe2+ below 6 are unreliable: tetrahedra look octahedral"
    elif width > TETRAHEDRAL_RISE:
        yield (
            f"the edge of this Fe2+ takes {width:.1f} eV from 30 to 90 %, octahedral Fe2+ up to "
            f"{TETRAHEDRAL_RISE} eV: tetrahedral sites look so, the coordination number may be too high"
        )
