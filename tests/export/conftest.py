"""What several of these tests look at, made once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from amused_lite.bundle import Bundle, open_bundle


@pytest.fixture(scope="session")
def half(small_bundle: Callable[..., Path]) -> Bundle:
    """A Core ML bundle in float16 for iOS18: two functions of `unmask`, and no log_probs."""
    return open_bundle(small_bundle(target="coreml", deployment_target="iOS18", log_probs=False))
