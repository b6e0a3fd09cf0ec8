"""The table of phases: for each verb its module, its config and one line for people.

It does not import a phase until one is asked for.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mantus.storage import Manifest, PhaseConfig


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase: where its `run` and its config live."""

    module: str
    config_name: str
    summary: str

    @property
    def config(self) -> type[PhaseConfig]:
        """The phase's config class."""
        found: type[PhaseConfig] = getattr(importlib.import_module(self.module), self.config_name)
        return found

    @property
    def run(self) -> Callable[[Any], Manifest]:
        """The phase itself."""
        found: Callable[[Any], Manifest] = importlib.import_module(self.module).run
        return found


PHASES: dict[str, Phase] = {
    "collect": Phase("mantus.data.collect", "CollectConfig", "read sources into a corpus"),
    "classifier": Phase(
        "mantus.data.cleaning.train", "ClassifierConfig", "train a classifier of quality from two sets of texts"
    ),
    "clean": Phase("mantus.data.clean", "CleanConfig", "normalise, score and filter documents"),
    "dedup": Phase("mantus.data.dedup.run", "DedupConfig", "drop copies, what was taken down, and evaluation sets"),
    "tokenizer": Phase("mantus.data.vocabulary", "TokenizerConfig", "train a byte-level BPE tokenizer"),
    "tokenize": Phase("mantus.data.tokenize", "TokenizeConfig", "write token shards, held-out documents apart"),
    "export": Phase("mantus.data.tokens.export", "ExportConfig", "write token shards in the formats of other trainers"),
    "import": Phase("mantus.model.base", "ImportConfig", "take another model's Hugging Face directory to go on from"),
    "pretrain": Phase("mantus.training.pretrain", "PretrainConfig", "train a model on token shards"),
    "chatdata": Phase("mantus.data.conversations.chatdata", "ChatDataConfig", "make instruction conversations"),
    "tooldata": Phase(
        "mantus.data.conversations.tooldata", "ToolDataConfig", "make tool-use conversations from a tools schema"
    ),
    "sft": Phase("mantus.training.sft", "SftConfig", "tune a model on conversations"),
    "dpo": Phase("mantus.training.dpo", "DpoConfig", "teach a model to prefer the better of two replies"),
    "evaluate": Phase("mantus.evaluation.run", "EvaluateConfig", "measure a model or an endpoint"),
    "release": Phase("mantus.release.run", "ReleaseConfig", "quantise, export, and pass or refuse at the gate"),
    "agent": Phase("mantus.agent.run", "AgentConfig", "let the agent solve its tasks with tools"),
    "deploy": Phase("mantus.launch.deploy", "DeployConfig", "serve a release on a cluster behind KServe"),
    "report": Phase("mantus.report.run", "ReportConfig", "draw one page from the artifacts of a run"),
}


def parse_config(verb: str, values: dict[str, Any], where: str = "") -> PhaseConfig:
    """The validated config of a phase. ValueError with one line that names field and value."""
    return PHASES[verb].config.parse(values, where or verb)
