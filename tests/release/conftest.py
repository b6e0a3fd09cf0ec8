"""What the trained model of the tests says, for those who compare variants with it."""

import pytest

from mantus.release.measure import Reference
from mantus.storage import fetch


@pytest.fixture(scope="module")
def reference(inputs, trained, tmp_path_factory) -> Reference:
    from tests.release.test_release import reference_of

    return reference_of(fetch(inputs["tokens"]), fetch(trained.uri), tmp_path_factory.mktemp("rows"))
