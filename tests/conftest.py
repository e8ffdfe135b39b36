"""What tests in several modules start from."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Whoever starts the tests in the background may have SIGINT ignored, and so would all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def own_session() -> Iterator[None]:
    """The session of huggingface_hub, which is the process's, is closed after the test: servers come and go."""
    import huggingface_hub  # Most tests ask no Hub.

    yield
    huggingface_hub.close_session()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of two models to serve."""
    from tests.hub_models import make_models

    return make_models(tmp_path)
