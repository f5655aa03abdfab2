"""Data files of every technique -> records: spectra, patterns, images, pair distribution functions."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from bluesky_xpdml.errors import MissingDataError
from bluesky_xpdml.records import AbsorptionScan, PairDistribution, ScatteringPattern
from bluesky_xpdml.reduction.pattern import QUnit
from bluesky_xpdml.settings import ScatteringSettings
from bluesky_xpdml.vocabulary import Modality

IMAGES = (".tif", ".tiff", ".edf", ".cbf", ".npy")
PATTERNS = (".chi", ".xy", ".iq")
G_OF_R = ".gr"


class FileKind(StrEnum):
    """What a data file holds."""

    AUTO = "auto"
    """By the suffix: images, `.chi`, `.xy`, `.iq` and `.gr` are total scattering, all else is absorption."""
    XANES = "xanes"
    PDF = "pdf"
    DPDF = "dpdf"
    """The pairs of the metal that is named: a `.gr` file, or two patterns below its edge."""

    def of(self, path: Path) -> "FileKind":
        """Return what a file holds: what the user states, or what its suffix stands for.

        Examples
        --------
        >>> FileKind.AUTO.of(Path("nickel.CHI")), FileKind.AUTO.of(Path("iron.xdi"))
        (<FileKind.PDF: 'pdf'>, <FileKind.XANES: 'xanes'>)
        """
        if self is not FileKind.AUTO:
            return self
        is_scattering = path.suffix.lower() in {*IMAGES, *PATTERNS, G_OF_R}
        return FileKind.PDF if is_scattering else FileKind.XANES


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReading:
    """How data files are read, and what they do not state themselves.

    Examples
    --------
    >>> FileReading(element="Fe").modality(FileKind.XANES)
    <Modality.XANES: 'xanes'>
    """

    element: str = ""
    """Absorbing element, or the metal of a differential PDF."""
    edge: str = ""
    columns: tuple[str, ...] = ()
    """Meaning of the columns of a spectrum, in file order; empty if the file states it."""
    energy_unit: str = ""
    composition: str = ""
    """Formula of the sample."""
    q_unit: QUnit | None = None
    wavelength: float | None = None
    """Of the X-rays [angstrom], for patterns over 2 theta."""
    poni: Path | None = None
    """Calibration of the detector, for images."""
    dark: Path | None = None
    mask: Path | None = None
    background: Path | None = None
    """Pattern or image of what is around the sample."""
    far: Path | None = None
    """Pattern far below the edge, of which the difference is taken."""
    far_wavelength: float | None = None
    far_poni: Path | None = None
    scattering: ScatteringSettings = field(default_factory=ScatteringSettings)
    """How images are integrated, and the calibration for those without `poni`."""

    def modality(self, kind: FileKind) -> Modality:
        """Return which models answer for a kind of file."""
        is_difference = kind is FileKind.DPDF and self.far is not None
        return Modality.DPDF_ANOMALOUS if is_difference else Modality(kind)

    def load(self, path: Path, kind: FileKind) -> AbsorptionScan | ScatteringPattern | PairDistribution:
        """Read one file.

        Raises
        ------
        DocumentError
            If it cannot be read as what it is said to be, or lacks what a record needs.
        OSError
            If it cannot be opened.
        """
        if kind is FileKind.XANES:
            return self.scan(path)
        if kind is FileKind.DPDF:
            return self._difference(path)
        return self._distribution(path) if path.suffix.lower() == G_OF_R else self.pattern(path)

    def scan(self, path: Path) -> AbsorptionScan:
        """Read a spectrum."""
        from bluesky_xpdml.sources.files import read_scan

        return read_scan(
            path,
            element=self.element,
            edge=self.edge,
            columns=list(self.columns) or None,
            energy_unit=self.energy_unit or None,
        )

    def pattern(self, path: Path) -> ScatteringPattern:
        """Read a pattern, or integrate an image.

        Raises
        ------
        MissingDataError
            If there is no calibration for an image.
        """
        return self._pattern(path, self.wavelength, self.poni)

    def background_pattern(self) -> ScatteringPattern | None:
        """Return what is around the sample; None if it was not measured."""
        return None if self.background is None else self.pattern(self.background)

    def _pattern(self, path: Path, wavelength: float | None, poni: Path | None) -> ScatteringPattern:
        from bluesky_xpdml.reduction.image import reduce_image
        from bluesky_xpdml.sources.images import read_calibration, read_frame, read_image, read_mask
        from bluesky_xpdml.sources.patterns import read_pattern

        if path.suffix.lower() not in IMAGES:
            return read_pattern(path, q_unit=self.q_unit, wavelength=wavelength, composition=self.composition)
        given = self.scattering.calibration
        if poni is None and given is None:
            raise MissingDataError(
                f"{path.name}: an image needs the calibration of its detector: give --poni, or "
                "scattering.poni in the settings"
            )
        rows, columns = read_image(path).shape[-2:]
        shape = (int(rows), int(columns))
        frame = read_frame(
            path,
            calibration=given if poni is None else read_calibration(poni, shape=shape),
            dark=self.dark,
            mask=None if self.mask is None else read_mask(self.mask, shape),
            composition=self.composition,
        )
        return reduce_image(frame, self.scattering.image)

    def _distribution(self, path: Path) -> PairDistribution:
        from bluesky_xpdml.sources.patterns import read_pdf

        return read_pdf(path, composition=self.composition)

    def _difference(self, path: Path) -> PairDistribution:
        """Return G(r) of the pairs of one metal: as the file gives it, or the difference of two patterns."""
        from bluesky_xpdml.reduction.anomalous import AnomalousSettings, anomalous_difference

        if not self.element:
            raise MissingDataError(
                f"{path.name}: a differential PDF is that of one metal: name it with --element"
            )
        if path.suffix.lower() == G_OF_R:
            return self._distribution(path)
        q_max = self.scattering.pdf.q_max
        if self.far is None or isinstance(q_max, str) or not self.composition:
            raise MissingDataError(
                f"{path.name}: the difference of two patterns needs the one far below the edge (--far), "
                "--composition and --q-max"
            )
        return anomalous_difference(
            self._pattern(self.far, self.far_wavelength, self.far_poni),
            self.pattern(path),
            composition=self.composition,
            element=self.element,
            settings=AnomalousSettings(q_max=q_max),
        )
