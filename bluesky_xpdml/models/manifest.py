"""What a manifest of a bundle must look like, so that no later use of it can stumble.

Only entries that are there are checked, as bundles differ; one that is missing is a `BundleError` where it is
needed.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from bluesky_xpdml.errors import BundleError
from bluesky_xpdml.vocabulary import Descriptor


class _Table(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, protected_namespaces=())


Number = Annotated[float, Field(ge=-1e9, le=1e9)]
"""Numbers whose squares are numbers too."""


class _EdgeModel(_Table):
    valence: list[Number] = Field(min_length=2, max_length=10_000)
    edge: list[Number]
    sigma: list[Number]
    pre_edge_shift: Number = 0.0

    @model_validator(mode="after")
    def _is_curve(self) -> "_EdgeModel":
        if not len(self.valence) == len(self.edge) == len(self.sigma) or min(self.sigma) <= 0.0:
            raise ValueError("valence, edge and sigma of one length, and sigma above zero")
        return self


class _Target(_Table):
    unit: str = ""
    thresholds: list[Number] = []
    interval_factor: Number = 0.0
    interval_factor_uncalibrated: Number = 0.0
    interval_floor: Number = 0.0
    forest_sigma: float = Field(default=1.0, gt=0.0, le=1e9)
    forest_sigma_without_peak: float = Field(default=1.0, gt=0.0, le=1e9)
    forest_weight: Number = 0.0
    half_width: Number = 0.0
    weight: Number = 0.0
    knows_pre_edge_peaks: bool = False
    bond_valence_r0: dict[str, Number] = Field(default={"1": 1.0}, min_length=1)

    @model_validator(mode="after")
    def _has_valences(self) -> "_Target":
        if not all(valence.isdecimal() for valence in self.bond_valence_r0):
            raise ValueError("bond valence parameters by valence")
        return self


class _Numbered(_Target):
    classes: list[Number] = []


class _Polyhedra(_Target):
    classes: list[str] = []

    @model_validator(mode="after")
    def _have_corners(self) -> "_Polyhedra":
        if not all(name[:1].isalpha() and name[1:].isdecimal() and len(name) < 4 for name in self.classes):
            raise ValueError("polyhedra named by their corners, such as T4")
        return self


class _Surroundings(_Table):
    names: list[str] = []
    units: dict[str, str] = {}
    interval_factor: dict[str, Number] = {}
    spread_floor: dict[str, Number] = {}

    @model_validator(mode="after")
    def _name_descriptors(self) -> "_Surroundings":
        if not set(self.names) <= set(Descriptor):
            raise ValueError("names of descriptors")
        return self


class _Targets(_Table):
    oxidation_state: _Numbered = _Numbered()
    coordination_number: _Numbered = _Numbered()
    geometry: _Polyhedra = _Polyhedra()
    bond_length: _Target = _Target()
    surroundings: _Surroundings = _Surroundings()


class _Input(_Table):
    q_max: list[Number] = Field(default=[0.0, 0.0], min_length=2, max_length=2)


class _Novelty(_Table):
    residual_unit: float = Field(default=1.0, gt=0.0)
    distance_unit: float = Field(default=1.0, gt=0.0)
    threshold: float = 0.0
    deviations: list[PositiveFloat] = []


class _Stack(_Table):
    name: str
    version: int
    sha256: str


class _Manifest(_Table):
    name: str = Field(pattern=r"^[A-Za-z0-9_+-]{1,40}$")
    version: int = Field(ge=0)
    element: str = Field(default="Fe", pattern=r"^[A-Z][a-z]?$")
    edge: str = Field(default="", max_length=2)
    modality: str = ""
    edge_model: _EdgeModel | None = None
    targets: _Targets = _Targets()
    input: dict[str, Any] = {}
    novelty: _Novelty | None = None
    golden: dict[str, list[list[Number]]] | None = None
    importances: dict[str, dict[str, list[float]]] = {}
    stacks: dict[str, _Stack] = {}
    files: dict[str, str]

    @model_validator(mode="after")
    def _has_sound_inputs(self) -> "_Manifest":
        inputs = [self.input, *(each for each in self.input.values() if isinstance(each, dict))]
        for each in inputs:
            _Input.model_validate(each)
        return self


def check_manifest(manifest: Mapping[str, Any], outputs: Mapping[str, int]) -> None:
    """Refuse a manifest of the present format whose known entries are not what later use expects.

    `outputs` is the number of outputs of each forest. A BundleError is raised for the first fault.
    """
    try:
        found = _Manifest.model_validate(manifest)
    except (ValidationError, RecursionError) as error:
        where, what = "", "too many levels"
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False, include_input=False)[0]
            where, what = ".".join(map(str, first["loc"]))[:100], first["msg"]
        raise BundleError(
            f"the manifest of a bundle is faulty at {where or 'its top'}: {what}; fetch it again"
        ) from None
    for target, count in outputs.items():
        _require_outputs(target, getattr(found.targets, target, None), count)


def _require_outputs(target: str, settings: Any, count: int) -> None:
    """Refuse a target whose classes or names are not as many as the outputs of its forest."""
    for kind in ("classes", "names", "thresholds"):
        listed = getattr(settings, kind, ())
        if kind in getattr(settings, "model_fields_set", ()) and len(listed) != count:
            raise BundleError(
                f"the manifest of a bundle has {len(listed)} {kind} for {target}, its forest {count}: fetch "
                "it again"
            )
