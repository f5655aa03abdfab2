"""Answers of one measurement each, as beamlines publish them: what the tests of pairing start from."""

from dataclasses import replace
from functools import lru_cache

from bluesky_xpdml import BundleStore, analyse_scan
from bluesky_xpdml.analysis.scattering import ask_metals
from bluesky_xpdml.demo.beamline import load_scattering_samples
from bluesky_xpdml.demo.simulated_scan import simulated_scan
from bluesky_xpdml.publish import derived_run, published
from bluesky_xpdml.records import Origin, PairDistribution, Prediction, Quality, Sample
from bluesky_xpdml.reduction.composition import atom_fractions
from bluesky_xpdml.reduction.xanes import XanesSettings
from bluesky_xpdml.simulation.pair_distribution import Instrument
from bluesky_xpdml.vocabulary import Reason, ReasonCode, Technique

NOON = 1.7e9
SAMPLE = Sample(name="LFO-1", composition="LaFeO3")


@lru_cache(maxsize=1)
def measured() -> tuple[Prediction, Prediction]:
    """Return the answers to a spectrum and to a pair distribution function of one oxide of iron."""
    store = BundleStore.default()
    xanes = analyse_scan(simulated_scan(seed=1), store=store, settings=XanesSettings())
    powder = next(each for each in load_scattering_samples() if each.name == "LaFeO3")
    r, g = powder.measurable_pair_distribution(r_max=20.0, instrument=Instrument(q_max=22.0))
    curve = PairDistribution(
        r=r,
        g=g,
        composition=atom_fractions("LaFeO3"),
        settings={"q_max": 22.0},
        quality=Quality().note(Reason("made for a test", ReasonCode.INTERPRETED_INPUT)),
        completeness=0.75,
    )
    (pdf,) = ask_metals(curve, store)
    return xanes, pdf


def of(technique, uid, *, time=NOON, sample=SAMPLE, element="Fe", failed="", bare=False, **origin):
    """Return the answer to one run, which began some time after noon [s]; a bare one is quick to publish."""
    xanes, pdf = measured()
    technique = Technique(technique)
    found = xanes if technique is Technique.XANES else pdf
    record = {"sample": sample, "raw_uids": (uid,), "source": f"scan {uid}"}
    curves = {"xanes": xanes.xanes} if technique is Technique.XANES else {"pdf": pdf.pdf}
    curves = {name: replace(curve, **record) for name, curve in curves.items()}
    where = Origin(time=time, **origin)
    if failed:
        quality = Quality().failed(Reason(failed, ReasonCode.REDUCTION_FAILED))
        return Prediction(
            technique=technique, element=element, edge="", quality=quality, origin=where, **record
        )
    found = replace(found, element=element, origin=where, **record, **curves)
    return replace(found, xanes=None, pdf=None) if bare else found


def start_of(prediction, clock=lambda: NOON):
    """Return what a catalog gives back of a prediction."""
    return published(derived_run(prediction, clock=clock)[0][1])
