"""Components: model or release -> evaluation results."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate_model(model: Input[Model], tokens: Input[Dataset], config: dict, store: str, out: Output[Artifact]):
    """Measure a model: bits per byte against xz, cloze, lm-eval tasks.

    Args:
        model: The model to measure.
        tokens: Token shards with the held-out documents.
        config: Settings of the phase `evaluate` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        out: The artifact made, or found by its content key.
    """
    from mantus.launch.component import perform

    perform("evaluate", config, store, out, {"model": model.uri, "tokens": tokens.uri})


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate_release(
    release: Input[Artifact], tooldata: Input[Dataset], config: dict, store: str, out: Output[Artifact]
):
    """Measure a release through its served endpoint: tool selection, arguments, parse rate.

    Args:
        release: The release to serve and measure.
        tooldata: Tool conversations with held-out phrasings and unseen tools.
        config: Settings of the phase `evaluate` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        out: The artifact made, or found by its content key.
    """
    from mantus.launch.component import perform

    perform("evaluate", config, store, out, {"release": release.uri, "tooldata": tooldata.uri})
