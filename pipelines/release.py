"""The end of a life as a pipeline: a tuned model of an earlier run is released, measured, and served behind KServe.

It knows the order of the stages and gates, not what they do nor where they run.
"""

from kfp import dsl

from components import IMAGE
from pipelines import tasks
from pipelines.tasks import DEFAULTS, NOTHING, NOWHERE


@dsl.pipeline(name="mantus-release", description="A tuned model is released, measured and served, gate by gate.")
def releasing(
    base: str,
    model: str,
    tokens: str,
    chat: str,
    tools: str,
    corpus: str,
    store: str = "s3://mantus",
    image: str = IMAGE,
    secret: str = "mantus-s3",
    node_selector: dict = NOWHERE,
    tolerations: list = NOTHING,
    queue: str = "",
    cluster: dict = NOWHERE,
    evaluate_model: dict = DEFAULTS["evaluate_model"],
    release: dict = DEFAULTS["release"],
    evaluate_release: dict = DEFAULTS["evaluate_release"],
    agent: dict = DEFAULTS["agent"],
    deploy: dict = DEFAULTS["deploy"],
):
    """Parameters after `cluster` are the sections of the recipe with their names.

    Args:
        base: The base model, for the gate of its evaluation, s3://bucket/prefix/model/key.
        model: The tuned model, s3://bucket/prefix/model/key.
        tokens: Token shards with held-out documents, s3://bucket/prefix/tokens/key.
        chat: Instruction conversations, s3://bucket/prefix/chatdata/key.
        tools: Tool conversations, s3://bucket/prefix/tooldata/key.
        corpus: The corpus that the agent looks through, s3://bucket/prefix/dedup/key.
        store: Where artifacts go, s3://bucket/prefix.
        image: Image of every task, and of the pods that phases start; give a version or a digest.
        secret: Secret with the AWS_* names of the store: keys, endpoint, region.
        node_selector: Labels of the nodes that tasks may run on.
        tolerations: Kubernetes tolerations of the tasks.
        queue: Kueue's local queue for the pods that phases start.
        cluster: How phases run on a cluster (fields of `Cluster`); empty: each in its task's own pod.
        evaluate_model: What is measured on the trained model, and the limits that it must keep.
        release: Variants and the gate's limits.
        evaluate_release: What is measured over the served endpoint, and the limits before anything is deployed.
        agent: The agent's tasks and limits.
        deploy: The service behind KServe; without `name` nothing is deployed.
    """
    run = tasks.Run(store, image, secret, node_selector, tolerations)
    with dsl.ExitHandler(run.summary(), name="run"):
        run = run.checked(cluster, deploy, queue)
        shards = run.adopted("tokens", "tokens", tokens)
        talk = tasks.Conversations(run.adopted("chat", "chatdata", chat), run.adopted("tools", "tooldata", tools))
        measured = tasks.measured(run, run.adopted("base", "model", base), shards, evaluate_model)
        final, kept = run.adopted("model", "model", model), run.adopted("corpus", "corpus|clean|dedup", corpus)
        with dsl.If(measured.outputs["Output"] == "passed", name="learnt"):
            made = tasks.released(run, final, shards, talk, release)
            with dsl.If(made.outputs["Output"] == "passed", name="released"):
                served = tasks.served(run, made.outputs["out"], talk.tools, evaluate_release)
                tasks.transcripts(run, made.outputs["out"], kept, agent)
                tasks.deployed(run, made.outputs["out"], served, deploy)
            with dsl.Else(name="refused"):
                tasks.refused_release(run, made)
        with dsl.Else(name="too-little-learnt"):
            tasks.refused_evaluation(run, measured)
