"""Tasks of a language model's life, built in one way: place, secret, retries, and what follows what.

It knows components and the parameters that all pipelines share, not which stages a pipeline has.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from kfp import dsl, kubernetes

from components.adopt.component import adopt
from components.agent.component import agent as run_agent
from components.chatdata.component import chatdata as make_chatdata
from components.clean.component import clean as clean_corpus
from components.collect.component import collect as collect_sources
from components.dedup.component import dedup as drop_duplicates
from components.deploy.component import deploy as deploy_release
from components.doctor.component import doctor as look
from components.evaluate.component import evaluate_model, evaluate_release
from components.gate.component import refuse, refuse_evaluation
from components.pretrain.component import pretrain as train_model
from components.release.component import release as release_model
from components.sft.component import sft, sft_tools
from components.summary.component import summary
from components.tokenize.component import tokenize as write_shards
from components.tokenizer.component import tokenizer as train_tokenizer
from components.tooldata.component import tooldata as make_tooldata
from mantus.launch.jobs.spec import SECRET_KEYS
from mantus.launch.recipe import defaults

DEFAULTS: dict[str, dict[str, Any]] = defaults()
"""Section of the recipe -> what it says by default: the laptop's recipe, without what only a checkout has."""

DEFAULTS["collect"] = {
    **DEFAULTS["collect"],
    "sources": [source for source in DEFAULTS["collect"].get("sources", ()) if source.get("path") != "."],
}

NOWHERE: dict[str, Any] = {}
NOTHING: list[Any] = []

RETRIES = {"num_retries": 3, "backoff_duration": "30s", "backoff_factor": 2.0, "backoff_max_duration": "600s"}
"""For tasks that run long enough to meet a node's end: they go on from their checkpoints, or adopt their job."""


@dataclass(frozen=True)
class Run:
    """The parameters that every task needs."""

    store: Any
    image: Any
    secret: Any
    node_selector: Any
    tolerations: Any
    cluster: Any = None
    """What the doctor made of the parameter `cluster`."""

    def task(self, name: str, component: Any, retry: bool = False, **inputs: Any) -> Any:
        """One task: `component` under the name of its recipe section, placed as the parameters say.

        KFP's own cache stays off: it would have to know the key before the task starts, and a content key takes the
        keys of the inputs and a digest of the code in the image. The task itself looks for its artifact by that key,
        in the store, and ends at once when it is there.
        """
        task = component(store=self.store, **inputs)
        task.set_display_name(name).set_caching_options(False).set_container_image(self.image)
        task.set_env_variable("MANTUS_TASK", name)
        if retry:
            task.set_retry(**RETRIES)
        kubernetes.use_secret_as_env(task, self.secret, {key: key for key in SECRET_KEYS}, optional=True)
        kubernetes.use_field_path_as_env(task, "MANTUS_RUN", "metadata.labels['pipeline/runid']")
        kubernetes.empty_dir_mount(task, "tmp", "/tmp")
        kubernetes.add_node_selector_json(task, self.node_selector)
        kubernetes.add_toleration_json(task, self.tolerations)
        return task

    def phase(self, name: str, component: Any, retry: bool = False, **inputs: Any) -> Any:
        """The same for a component that runs a phase, which may run on the cluster."""
        return self.task(name, component, retry, cluster=self.cluster, **inputs)

    def summary(self) -> Any:
        """The task that ends every run, whatever became of it."""
        return self.task("summary", summary)

    def checked(self, cluster: Any, deploy: Any, queue: Any) -> "Run":
        """The run once the doctor found nothing that it would break on; all later tasks wait for that."""
        given = {"image": self.image, "secret": self.secret, "queue": queue}
        places = {"node_selector": self.node_selector, "tolerations": self.tolerations}
        doctor = self.task("doctor", look, cluster=cluster, deploy=deploy, **given, **places)
        return replace(self, cluster=doctor.outputs["Output"])

    def adopted(self, name: str, kind: str, uri: Any) -> Any:
        """An artifact of an earlier run, by its URI."""
        return self.task(f"given_{name}", adopt, uri=uri, kind=kind).outputs["out"]


class Corpus(NamedTuple):
    """The corpus after each step."""

    collected: Any
    cleaned: Any
    kept: Any


def corpus(run: Run, collect: Any, clean: Any, dedup: Any) -> Corpus:
    """Sources become a clean corpus without duplicates."""
    collected = run.phase("collect", collect_sources, retry=True, config=collect).outputs["out"]
    cleaned = run.phase("clean", clean_corpus, retry=True, corpus=collected, config=clean).outputs["out"]
    kept = run.phase("dedup", drop_duplicates, retry=True, corpus=cleaned, config=dedup).outputs["out"]
    return Corpus(collected, cleaned, kept)


class Conversations(NamedTuple):
    """What a model is tuned on."""

    chat: Any
    tools: Any


def conversations(run: Run, kept: Any, chatdata: Any, tooldata: Any) -> Conversations:
    """A corpus gives the words of instructions and of tool calls."""
    chat = run.phase("chatdata", make_chatdata, corpus=kept, config=chatdata).outputs["out"]
    tools = run.phase("tooldata", make_tooldata, corpus=kept, config=tooldata).outputs["out"]
    return Conversations(chat, tools)


class Tokens(NamedTuple):
    """The tokenizer, and the corpus in its tokens."""

    tokenizer: Any
    shards: Any


def tokens(run: Run, kept: Any, talk: Conversations, tokenizer: Any, tokenize: Any) -> Tokens:
    """A vocabulary is learnt and the corpus written in it."""
    inputs = {"corpus": kept, "chat": talk.chat, "tools": talk.tools}
    vocabulary = run.phase("tokenizer", train_tokenizer, config=tokenizer, **inputs).outputs["out"]
    both = {"corpus": kept, "tokenizer": vocabulary}
    return Tokens(vocabulary, run.phase("tokenize", write_shards, retry=True, config=tokenize, **both).outputs["out"])


def pretrained(run: Run, made: Tokens, pretrain: Any, size: Any) -> Any:
    """A model is trained from random weights."""
    inputs = {"tokens": made.shards, "tokenizer": made.tokenizer, "config": pretrain, "size": size}
    return run.phase("pretrain", train_model, retry=True, **inputs).outputs["out"]


class Tuned(NamedTuple):
    """The model after each tuning."""

    chat: Any
    tools: Any


def tuned(run: Run, base: Any, talk: Conversations, sft_chat: Any, sft_tools_config: Any) -> Tuned:
    """The model learns to follow instructions, then to use tools."""
    chat = run.phase("sft_chat", sft, retry=True, model=base, data=talk.chat, config=sft_chat).outputs["out"]
    inputs = {"model": chat, "data": talk.tools, "replay": talk.chat, "config": sft_tools_config}
    return Tuned(chat, run.phase("sft_tools", sft_tools, retry=True, **inputs).outputs["out"])


def measured(run: Run, base: Any, shards: Any, config: Any) -> Any:
    """The evaluation of a model: outputs `out` and the verdict `Output`."""
    return run.phase("evaluate_model", evaluate_model, retry=True, model=base, tokens=shards, config=config)


def released(run: Run, final: Any, shards: Any, talk: Conversations, config: Any) -> Any:
    """The release of a model: outputs `out` and the verdict `Output`."""
    inputs = {"model": final, "tokens": shards, "chat": talk.chat, "tools": talk.tools, "config": config}
    return run.phase("release", release_model, retry=True, **inputs)


def served(run: Run, release: Any, tools: Any, config: Any) -> Any:
    """The evaluation of a release through its endpoint: outputs `out` and the verdict `Output`."""
    return run.phase("evaluate_release", evaluate_release, retry=True, release=release, tooldata=tools, config=config)


def transcripts(run: Run, release: Any, kept: Any, config: Any) -> Any:
    """The agent at work with a release."""
    return run.phase("agent", run_agent, retry=True, release=release, corpus=kept, config=config).outputs["out"]


def deployed(run: Run, release: Any, evaluation: Any, config: Any) -> None:
    """The release goes behind KServe when its evaluation passed, else the run ends with what it missed."""
    with dsl.If(evaluation.outputs["Output"] == "passed", name="measured"):
        run.phase("deploy", deploy_release, release=release, config=config)
    with dsl.Else(name="too-poor"):
        refused_evaluation(run, evaluation)


def refused_evaluation(run: Run, evaluation: Any) -> None:
    """The run ends: an evaluation missed its limits."""
    run.task("gate", refuse_evaluation, evaluation=evaluation.outputs["out"])


def refused_release(run: Run, release: Any) -> None:
    """The run ends: nothing follows a release that its gate refused."""
    run.task("gate", refuse, release=release.outputs["out"])
