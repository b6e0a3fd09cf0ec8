"""The whole life of one model as one Kubeflow pipeline: corpus to agent, with the gates in between.

It knows the order of the stages, not what they do nor where they run.
"""

from kfp import dsl

from components import IMAGE
from components.report.component import report as draw_report
from pipelines import tasks
from pipelines.tasks import DEFAULTS, NOTHING, NOWHERE


@dsl.pipeline(name="mantus-life", description="A language model's whole life: corpus, training, release, agent.")
def life(
    store: str = "s3://mantus",
    image: str = IMAGE,
    secret: str = "mantus-s3",
    size: str = "",
    node_selector: dict = NOWHERE,
    tolerations: list = NOTHING,
    queue: str = "",
    cluster: dict = NOWHERE,
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
    deploy: dict = DEFAULTS["deploy"],
    report: dict = DEFAULTS["report"],
):
    """Parameters after `cluster` are the sections of the recipe with their names.

    Args:
        store: Where artifacts go, s3://bucket/prefix.
        image: Image of every task, and of the pods that phases start; give a version or a digest.
        secret: Secret with the AWS_* names of the store: keys, endpoint, region.
        size: Size of the model instead of the one in `pretrain`: nano, tiny, mini, small, base, 1b, 4b, 8b.
        node_selector: Labels of the nodes that tasks may run on.
        tolerations: Kubernetes tolerations of the tasks.
        queue: Kueue's local queue for the pods that phases start.
        cluster: How phases run on a cluster (fields of `Cluster`); empty: each in its task's own pod.
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
        evaluate_model: What is measured on the trained model, and the limits that it must keep.
        release: Variants and the gate's limits.
        evaluate_release: What is measured over the served endpoint, and the limits before anything is deployed.
        agent: The agent's tasks and limits.
        deploy: The service behind KServe; without `name` nothing is deployed.
        report: What the page shows.
    """
    run = tasks.Run(store, image, secret, node_selector, tolerations)
    with dsl.ExitHandler(run.summary(), name="run"):
        run = run.checked(cluster, deploy, queue)
        texts = tasks.corpus(run, collect, clean, dedup)
        talk = tasks.conversations(run, texts.kept, chatdata, tooldata)
        shards = tasks.tokens(run, texts.kept, talk, tokenizer, tokenize)
        base = tasks.pretrained(run, shards, pretrain, size)
        final = tasks.tuned(run, base, talk, sft_chat, sft_tools)
        measured = tasks.measured(run, base, shards.shards, evaluate_model)
        with dsl.If(measured.outputs["Output"] == "passed", name="learnt"):
            made = tasks.released(run, final.tools, shards.shards, talk, release)
            with dsl.If(made.outputs["Output"] == "passed", name="released"):
                served = tasks.served(run, made.outputs["out"], talk.tools, evaluate_release)
                transcripts = tasks.transcripts(run, made.outputs["out"], texts.kept, agent)
                run.phase(
                    "report",
                    draw_report,
                    collected=texts.collected,
                    cleaned=texts.cleaned,
                    deduplicated=texts.kept,
                    tokenizer=shards.tokenizer,
                    tokens=shards.shards,
                    pretrained=base,
                    chat=talk.chat,
                    chat_model=final.chat,
                    tools=talk.tools,
                    tool_model=final.tools,
                    evaluation=measured.outputs["out"],
                    release_folder=made.outputs["out"],
                    endpoint_evaluation=served.outputs["out"],
                    transcripts=transcripts,
                    config=report,
                )
                tasks.deployed(run, made.outputs["out"], served, deploy)
            with dsl.Else(name="refused"):
                tasks.refused_release(run, made)
        with dsl.Else(name="too-little-learnt"):
            tasks.refused_evaluation(run, measured)
