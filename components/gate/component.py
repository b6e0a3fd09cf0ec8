"""Components: what did not pass its gate ends the run."""

from kfp import dsl
from kfp.dsl import Artifact, Input

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def refuse(release: Input[Artifact], store: str):
    """End the run because the gate refused the release; the message names the checks that failed.

    Args:
        release: The refused release.
        store: Where the run keeps what became of it, s3://bucket/prefix.
    """
    from mantus.launch.component import refuse

    refuse(release, store)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def refuse_evaluation(evaluation: Input[Artifact], store: str):
    """End the run because an evaluation missed its limits; the message names them.

    Args:
        evaluation: The evaluation, with the limits that it missed.
        store: Where the run keeps what became of it, s3://bucket/prefix.
    """
    from mantus.launch.component import refuse

    refuse(evaluation, store, [evaluation.metadata["missed"]])
