"""From Bluesky documents to records: the only folder that knows data keys and keys of start documents."""

from bluesky_xpdml.documents.collector import RunCollector, collect_run, collector_for
from bluesky_xpdml.documents.images import ImageMean
from bluesky_xpdml.documents.measurement import Measurement, RunKind, read_run
from bluesky_xpdml.documents.profile import Profile, detect_profile, load_profile, profile_names
from bluesky_xpdml.documents.run import CollectedRun, Stream
from bluesky_xpdml.documents.scan import absorption_scan, bragg_energy
from bluesky_xpdml.documents.scattering import (
    Position,
    ScatteringRun,
    dark_of,
    is_scattering,
    scattering_from_run,
    scattering_sample,
)
from bluesky_xpdml.documents.start import (
    claims_absorption,
    claims_scattering,
    declared_mode,
    elements_of,
    is_dark,
    is_derived,
    origin_of,
    planned_edge_energy,
    sample_of,
)
from bluesky_xpdml.documents.xas import (
    holds_energy_scan,
    is_absorption,
    scan_from_run,
    scans_from_run,
)

__all__ = [
    "CollectedRun",
    "ImageMean",
    "Measurement",
    "Position",
    "Profile",
    "RunCollector",
    "RunKind",
    "ScatteringRun",
    "Stream",
    "absorption_scan",
    "bragg_energy",
    "claims_absorption",
    "claims_scattering",
    "collect_run",
    "collector_for",
    "dark_of",
    "declared_mode",
    "detect_profile",
    "elements_of",
    "holds_energy_scan",
    "is_absorption",
    "is_dark",
    "is_derived",
    "is_scattering",
    "load_profile",
    "origin_of",
    "planned_edge_energy",
    "profile_names",
    "read_run",
    "sample_of",
    "scan_from_run",
    "scans_from_run",
    "scattering_from_run",
    "scattering_sample",
]
