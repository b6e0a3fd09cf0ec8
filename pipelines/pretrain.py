"""The first half of a life as a pipeline: from sources to a base model, measured.

It knows the order of the stages, not what they do nor where they run.
"""

from kfp import dsl

from components import IMAGE
from pipelines import tasks
from pipelines.tasks import DEFAULTS, NOTHING, NOWHERE


@dsl.pipeline(name="mantus-pretrain", description="From sources to a measured base model.")
def pretraining(
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
    evaluate_model: dict = DEFAULTS["evaluate_model"],
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
        evaluate_model: What is measured on the trained model, and the limits that it must keep.
    """
    run = tasks.Run(store, image, secret, node_selector, tolerations)
    with dsl.ExitHandler(run.summary(), name="run"):
        run = run.checked(cluster, NOWHERE, queue)
        kept = tasks.corpus(run, collect, clean, dedup).kept
        talk = tasks.conversations(run, kept, chatdata, tooldata)
        shards = tasks.tokens(run, kept, talk, tokenizer, tokenize)
        base = tasks.pretrained(run, shards, pretrain, size)
        measured = tasks.measured(run, base, shards.shards, evaluate_model)
        with dsl.If(measured.outputs["Output"] == "refused", name="too-little-learnt"):
            tasks.refused_evaluation(run, measured)
