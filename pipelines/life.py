"""The whole life of one model as one Kubeflow pipeline: corpus to agent, with the gate in between.

It knows the order of the phases, not what they do nor where they run.
"""

from pathlib import Path
from typing import Any

import yaml
from kfp import dsl

from components.agent.component import agent as run_agent
from components.chatdata.component import chatdata as make_chatdata
from components.clean.component import clean as clean_corpus
from components.collect.component import collect as collect_sources
from components.dedup.component import dedup as drop_duplicates
from components.evaluate.component import evaluate_model as measure_model
from components.evaluate.component import evaluate_release as measure_release
from components.gate.component import refuse
from components.pretrain.component import pretrain as train_model
from components.release.component import release as release_model
from components.report.component import report as draw_report
from components.sft.component import sft as tune
from components.sft.component import sft_tools as tune_on_tools
from components.tokenize.component import tokenize as write_shards
from components.tokenizer.component import tokenizer as train_tokenizer
from components.tooldata.component import tooldata as make_tooldata

DEFAULTS: dict[str, Any] = yaml.safe_load((Path(__file__).parent.parent / "recipes" / "laptop.yaml").read_text())


def _named(name: str, task: Any) -> Any:
    """Tell the task which section of the recipe it is; KFP's own cache stays out of the way of content keys."""
    return task.set_env_variable("MANTUS_TASK", name).set_display_name(name).set_caching_options(False)


@dsl.pipeline(name="mantus-life", description="A language model's whole life: corpus, training, release, agent.")
def life(
    store: str = "s3://mantus",
    collect: dict = DEFAULTS["collect"],
    clean: dict = DEFAULTS["clean"],
    dedup: dict = DEFAULTS["dedup"],
    tokenizer: dict = DEFAULTS["tokenizer"],
    tokenize: dict = DEFAULTS["tokenize"],
    pretrain: dict = DEFAULTS["pretrain"],
    chatdata: dict = DEFAULTS["chatdata"],
    tooldata: dict = DEFAULTS["tooldata"],
    sft_chat: dict = DEFAULTS["sft_chat"],
    sft_tools: dict = DEFAULTS["sft_tools"],
    evaluate_model: dict = DEFAULTS["evaluate_model"],
    release: dict = DEFAULTS["release"],
    evaluate_release: dict = DEFAULTS["evaluate_release"],
    agent: dict = DEFAULTS["agent"],
    report: dict = DEFAULTS["report"],
):
    """Every parameter but `store` is the section of the recipe with its name.

    Args:
        store: Where artifacts go, s3://bucket/prefix.
        collect: Sources of the corpus.
        clean: Thresholds of the filters.
        dedup: What counts as a duplicate.
        tokenizer: Size of the vocabulary and what it is learnt from.
        tokenize: Shards and the held-out share.
        pretrain: Size of the model, steps, learning rate.
        chatdata: Instruction rows.
        tooldata: Tools and how many conversations to make from them.
        sft_chat: Tuning on instructions.
        sft_tools: Tuning on tool use.
        evaluate_model: What is measured on the trained model.
        release: Variants and the gate's limits.
        evaluate_release: What is measured over the served endpoint.
        agent: The agent's tasks and limits.
        report: What the page shows.
    """
    corpus = _named("collect", collect_sources(config=collect, store=store)).outputs["out"]
    cleaned = _named("clean", clean_corpus(corpus=corpus, config=clean, store=store)).outputs["out"]
    kept = _named("dedup", drop_duplicates(corpus=cleaned, config=dedup, store=store)).outputs["out"]
    chat = _named("chatdata", make_chatdata(corpus=kept, config=chatdata, store=store)).outputs["out"]
    tools = _named("tooldata", make_tooldata(corpus=kept, config=tooldata, store=store)).outputs["out"]
    vocabulary = _named(
        "tokenizer", train_tokenizer(corpus=kept, chat=chat, tools=tools, config=tokenizer, store=store)
    ).outputs["out"]
    tokens = _named("tokenize", write_shards(corpus=kept, tokenizer=vocabulary, config=tokenize, store=store)).outputs[
        "out"
    ]
    base = _named("pretrain", train_model(tokens=tokens, tokenizer=vocabulary, config=pretrain, store=store)).outputs[
        "out"
    ]
    tuned = _named("sft_chat", tune(model=base, data=chat, config=sft_chat, store=store)).outputs["out"]
    final = _named(
        "sft_tools", tune_on_tools(model=tuned, data=tools, replay=chat, config=sft_tools, store=store)
    ).outputs["out"]
    measured = _named(
        "evaluate_model", measure_model(model=base, tokens=tokens, config=evaluate_model, store=store)
    ).outputs["out"]
    released = _named(
        "release", release_model(model=final, tokens=tokens, chat=chat, tools=tools, config=release, store=store)
    )
    with dsl.If(released.outputs["Output"] == "passed", name="released"):
        endpoint = _named(
            "evaluate_release",
            measure_release(release=released.outputs["out"], tooldata=tools, config=evaluate_release, store=store),
        ).outputs["out"]
        transcripts = _named(
            "agent", run_agent(release=released.outputs["out"], corpus=kept, config=agent, store=store)
        ).outputs["out"]
        _named(
            "report",
            draw_report(
                collected=corpus,
                cleaned=cleaned,
                deduplicated=kept,
                tokenizer=vocabulary,
                tokens=tokens,
                pretrained=base,
                chat=chat,
                chat_model=tuned,
                tools=tools,
                tool_model=final,
                evaluation=measured,
                release_folder=released.outputs["out"],
                endpoint_evaluation=endpoint,
                transcripts=transcripts,
                config=report,
                store=store,
            ),
        )
    with dsl.Else(name="refused"):
        refuse(release=released.outputs["out"])
