"""What machines of several modules have in common."""

from __future__ import annotations

import pytest

from tests.support.tls import PrivateCA


@pytest.fixture(scope="package")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The certificate of a private authority."""
    return PrivateCA(tmp_path_factory.mktemp("ca")).ca_file.read_text()
