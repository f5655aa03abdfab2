"""Fixtures that every part of the suite shares."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of measured and reference data, which is not part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the development data are not beside the repository ({SHARED_DATA} is missing)")
    return SHARED_DATA
