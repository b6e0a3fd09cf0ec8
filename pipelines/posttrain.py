"""Tuning as a pipeline: a base model of an earlier run learns instructions and tools.

It knows the order of the stages, not what they do nor where they run.
"""

from kfp import dsl

from components import IMAGE
from pipelines import tasks
from pipelines.tasks import DEFAULTS, NOTHING, NOWHERE


@dsl.pipeline(name="mantus-posttrain", description="A base model learns to follow instructions and to use tools.")
def posttraining(
    base: str,
    corpus: str,
    store: str = "s3://mantus",
    image: str = IMAGE,
    secret: str = "mantus-s3",
    node_selector: dict = NOWHERE,
    tolerations: list = NOTHING,
    queue: str = "",
    cluster: dict = NOWHERE,
    chatdata: dict = DEFAULTS["chatdata"],
    tooldata: dict = DEFAULTS["tooldata"],
    sft_chat: dict = DEFAULTS["sft_chat"],
    sft_tools: dict = DEFAULTS["sft_tools"],
):
    """Parameters after `cluster` are the sections of the recipe with their names.

    Args:
        base: The base model, s3://bucket/prefix/model/key.
        corpus: The corpus whose words conversations are made of, s3://bucket/prefix/dedup/key.
        store: Where artifacts go, s3://bucket/prefix.
        image: Image of every task, and of the pods that phases start; give a version or a digest.
        secret: Secret with the AWS_* names of the store: keys, endpoint, region.
        node_selector: Labels of the nodes that tasks may run on.
        tolerations: Kubernetes tolerations of the tasks.
        queue: Kueue's local queue for the pods that phases start.
        cluster: How phases run on a cluster (fields of `Cluster`); empty: each in its task's own pod.
        chatdata: Instruction rows.
        tooldata: Tools and how many conversations to make from them.
        sft_chat: Tuning on instructions.
        sft_tools: Tuning on tool use.
    """
    run = tasks.Run(store, image, secret, node_selector, tolerations)
    with dsl.ExitHandler(run.summary(), name="run"):
        run = run.checked(cluster, NOWHERE, queue)
        kept = run.adopted("corpus", "corpus|clean|dedup", corpus)
        talk = tasks.conversations(run, kept, chatdata, tooldata)
        tasks.tuned(run, run.adopted("base", "model", base), talk, sft_chat, sft_tools)
