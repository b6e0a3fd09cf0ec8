"""Component: a refused release ends the run."""

from kfp import dsl
from kfp.dsl import Artifact, Input

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def refuse(release: Input[Artifact]):
    """End the run because the gate refused the release; the message names the checks that failed.

    Args:
        release: The refused release.
    """
    from mantus.launch.component import refuse

    refuse(release.uri)
