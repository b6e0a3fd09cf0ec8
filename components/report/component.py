"""Component: all artifacts of a run -> one page."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

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
    out: Output[Artifact],
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
        out: The artifact made, or found by its content key.
    """
    from mantus.launch.component import perform

    perform(
        "report",
        config,
        store,
        out,
        {
            "artifacts": [
                collected.uri,
                cleaned.uri,
                deduplicated.uri,
                tokenizer.uri,
                tokens.uri,
                pretrained.uri,
                chat.uri,
                chat_model.uri,
                tools.uri,
                tool_model.uri,
                evaluation.uri,
                release_folder.uri,
                endpoint_evaluation.uri,
                transcripts.uri,
            ]
        },
    )
