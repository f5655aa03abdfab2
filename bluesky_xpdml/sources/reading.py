"""How the command line reads total scattering: images, patterns, G(r)."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bluesky_xpdml.cli.options import Technique
from bluesky_xpdml.errors import MissingDataError
from bluesky_xpdml.records import PairDistribution, ScatteringPattern
from bluesky_xpdml.reduction.pattern import QUnit

if TYPE_CHECKING:
    from bluesky_xpdml.reduction.pdf import PdfSettings

IMAGES = (".tif", ".tiff", ".edf", ".cbf", ".npy")
PATTERNS = (".chi", ".xy", ".iq")
G_OF_R = ".gr"


def technique_of(path: Path, given: Technique) -> Technique:
    """Return what a file was measured by: what the caller says, or what its suffix stands for.

    Examples
    --------
    >>> technique_of(Path("nickel.CHI"), Technique.AUTO), technique_of(Path("iron.xdi"), Technique.AUTO)
    (<Technique.PDF: 'pdf'>, <Technique.XANES: 'xanes'>)
    """
    if given is not Technique.AUTO:
        return given
    known = path.suffix.lower() in {*IMAGES, *PATTERNS, G_OF_R}
    return Technique.PDF if known else Technique.XANES


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Numbers of the reduction, None where it is to choose them."""

    background_scale: float | None
    q_min: float | None
    q_max: float | None
    q_max_inst: float | None
    r_poly: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatteringReading:
    """How files of total scattering are read and reduced, as the options say."""

    composition: str
    q_unit: QUnit | None
    wavelength: float | None
    poni: Path | None
    dark: Path | None
    mask: Path | None
    background: Path | None
    ranges: Ranges
    far: Path | None
    far_wavelength: float | None
    far_poni: Path | None

    def settings(self) -> "PdfSettings":
        """Return the settings of the reduction."""
        from bluesky_xpdml.reduction.pdf import PdfSettings

        ranges = self.ranges
        return PdfSettings(
            composition=self.composition or None,
            background_scale="fit" if ranges.background_scale is None else ranges.background_scale,
            q_min="auto" if ranges.q_min is None else ranges.q_min,
            q_max="auto" if ranges.q_max is None else ranges.q_max,
            q_max_inst="auto" if ranges.q_max_inst is None else ranges.q_max_inst,
            r_poly="auto" if ranges.r_poly is None else ranges.r_poly,
        )

    def pattern(self, path: Path) -> ScatteringPattern:
        """Read a pattern, or integrate an image.

        Raises
        ------
        MissingDataError
            If an image comes without a calibration.
        """
        return self._pattern(path, self.wavelength, self.poni)

    def _pattern(self, path: Path, wavelength: float | None, poni: Path | None) -> ScatteringPattern:
        from bluesky_xpdml.reduction.image import reduce_image
        from bluesky_xpdml.sources.images import read_calibration, read_frame, read_image, read_mask
        from bluesky_xpdml.sources.patterns import read_pattern

        if path.suffix.lower() not in IMAGES:
            return read_pattern(path, q_unit=self.q_unit, wavelength=wavelength, composition=self.composition)
        if poni is None:
            raise MissingDataError(
                f"{path.name}: an image needs the calibration of its detector: give --poni"
            )
        rows, columns = read_image(path).shape[-2:]
        shape = (int(rows), int(columns))
        frame = read_frame(
            path,
            calibration=read_calibration(poni, shape=shape),
            dark=self.dark,
            mask=None if self.mask is None else read_mask(self.mask, shape),
            composition=self.composition,
        )
        return reduce_image(frame)

    def background_pattern(self) -> ScatteringPattern | None:
        """Return what is around the sample, where it was measured."""
        return None if self.background is None else self.pattern(self.background)

    def differential(self, path: Path, element: str) -> PairDistribution:
        """Return G(r) of the pairs of one metal: as a `.gr` file gives it, or the difference of two patterns.

        Raises
        ------
        MissingDataError
            If the metal, or what a difference needs, is not given.
        """
        from bluesky_xpdml.reduction.anomalous import AnomalousSettings, anomalous_difference
        from bluesky_xpdml.sources.patterns import read_pdf

        if not element:
            raise MissingDataError(
                f"{path.name}: a differential PDF is that of one metal: name it with --element"
            )
        if path.suffix.lower() == G_OF_R:
            return read_pdf(path, composition=self.composition)
        if self.far is None or self.ranges.q_max is None or not self.composition:
            raise MissingDataError(
                f"{path.name}: the difference of two patterns needs the one far below the edge (--far), "
                "--composition and --q-max"
            )
        return anomalous_difference(
            self._pattern(self.far, self.far_wavelength, self.far_poni),
            self.pattern(path),
            composition=self.composition,
            element=element,
            settings=AnomalousSettings(q_max=self.ranges.q_max),
        )

    def distribution(self, path: Path) -> PairDistribution:
        """Return G(r): as a `.gr` file gives it, or reduced."""
        from bluesky_xpdml.reduction.pdf import reduce_pdf
        from bluesky_xpdml.sources.patterns import read_pdf

        if path.suffix.lower() == G_OF_R:
            return read_pdf(path, composition=self.composition)
        return reduce_pdf(self.pattern(path), self.settings(), background=self.background_pattern())


def scattering_reading(composition: str, q_unit: QUnit | None, wavelength: float | None) -> ScatteringReading:
    """Return how patterns are read, with everything that `xpdml predict` could be told left to be chosen."""
    return ScatteringReading(
        composition=composition,
        q_unit=q_unit,
        wavelength=wavelength,
        poni=None,
        dark=None,
        mask=None,
        background=None,
        ranges=Ranges(background_scale=None, q_min=None, q_max=None, q_max_inst=None, r_poly=None),
        far=None,
        far_wavelength=None,
        far_poni=None,
    )
