"""Where the joint answer of two raw runs comes from, and of which sample it is."""

from bluesky_xpdml.origin_records import Origin
from bluesky_xpdml.records import Sample


def joint_origin(one: Origin, other: Origin) -> Origin:
    """Return where the joint answer of two raw runs comes from: what they agree in, and both beamlines.

    Parameters
    ----------
    one, other
        Of the spectrum and of the pair distribution function.

    Examples
    --------
    >>> found = joint_origin(Origin(time=9.0, beamline="a", proposal="1"), Origin(time=5.0, beamline="b"))
    >>> found.time, found.beamline, found.proposal
    (5.0, 'a + b', '1')
    """
    times = [each.time for each in (one, other) if each.time is not None]
    names = {*one.keys, *other.keys}
    keys = {name: _agreed(one.keys.get(name, ""), other.keys.get(name, "")) for name in sorted(names)}
    same_trial = all(one.trial.get(key) == other.trial.get(key) for key in ("campaign", "id"))
    return Origin(
        time=min(times) if times else None,
        beamline=" + ".join(dict.fromkeys(each for each in (one.beamline, other.beamline) if each)),
        proposal=_agreed(one.proposal, other.proposal),
        scan_id=" + ".join(each for each in (one.scan_id, other.scan_id) if each),
        trial=one.trial if same_trial or not other.trial else {} if one.trial else other.trial,
        keys={name: value for name, value in keys.items() if value},
    )


def _agreed(one: str, other: str) -> str:
    """Return what both say, or the one that says something; empty where they differ."""
    return one or other if one == other or not (one and other) else ""


def joint_sample(one: Sample, other: Sample) -> Sample:
    """Return the sample of a spectrum, with what only the other run knows of it.

    Parameters
    ----------
    one, other
        As the run of the spectrum, and the other one, say.

    Examples
    --------
    >>> joint_sample(Sample(name="LFP-3"), Sample(name="LFP-3", uid="s-1")).uid
    's-1'
    """
    return Sample(
        name=one.name or other.name,
        uid=one.uid or other.uid,
        composition=one.composition or other.composition,
    )
