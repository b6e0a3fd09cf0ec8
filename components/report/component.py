"""Component: all artifacts of a run -> one page."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def report(
    collected: Input[Dataset],
    cleaned: Input[Dataset],
    deduplicated: Input[Dataset],
    tokenizer: Input[Artifact],
    tokens: Input[Dataset],
    pretrained: Input[Model],
    chat: Input[Dataset],
    chat_model: Input[Model],
    tools: Input[Dataset],
    tool_model: Input[Model],
    evaluation: Input[Artifact],
    release_folder: Input[Artifact],
    endpoint_evaluation: Input[Artifact],
    transcripts: Input[Artifact],
    config: dict,
    store: str,
    cluster: dict,
    out: Output[Artifact],
    page: Output[HTML],
):
    """Draw one page from all artifacts of a run.

    Args:
        collected: The corpus.
        cleaned: The cleaned corpus.
        deduplicated: The corpus without duplicates.
        tokenizer: The tokenizer.
        tokens: The token shards.
        pretrained: The pretrained model.
        chat: The conversations.
        chat_model: The model tuned on them.
        tools: The tool conversations.
        tool_model: The model tuned on them.
        evaluation: The evaluation of the model.
        release_folder: The release.
        endpoint_evaluation: The evaluation of the endpoint.
        transcripts: The agent's transcripts.
        config: Settings of the phase `report` (see docs/phases.md).
        store: Where artifacts go, s3://bucket/prefix.
        cluster: How phases run on a cluster (see `Cluster` in docs/phases.md); empty: here, in this pod.
        out: Points at the artifact made, or found by its content key.
        page: The page itself.
    """
    from mantus.launch.component import perform
    from mantus.report.show import show

    corpora = [collected, cleaned, deduplicated, tokenizer, tokens]
    models = [pretrained, chat, chat_model, tools, tool_model]
    results = [evaluation, release_folder, endpoint_evaluation, transcripts]
    show(perform("report", config, store, out, {"artifacts": corpora + models + results}, cluster), html=page)
