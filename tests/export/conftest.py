"""What several of these tests look at, made once."""

import pytest
from small import small_source

from amused_lite.bundle import Bundle, open_bundle


@pytest.fixture(scope="session")
def half(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A Core ML bundle in float16 for iOS18: two functions of `unmask`, and no log_probs."""
    from amused_lite.export.bundle import export_bundle
    from amused_lite.export.options import ExportOptions

    folder = tmp_path_factory.mktemp("half")
    options = ExportOptions("coreml", deployment_target="iOS18", log_probs=False)
    export_bundle(small_source(folder), folder / "bundle", options)
    return open_bundle(folder / "bundle")
