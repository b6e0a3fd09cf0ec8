"""docs/phases.md, made from the phases' own Configs and the cluster settings.

It knows fields and their docstrings, nothing else.
"""

from typing import Any

from pydantic import BaseModel

from mantus.launch.cluster import Cluster
from mantus.launch.phases import PHASES

HEAD = """# Phases and their fields

Made by `python -m mantus.launch.reference`; a test holds it to the code. Every field is a flag of
the verb (`mantus clean --min-words 20`), a field of the recipe's section, and an entry of the pipeline's
parameter of that name. Fields marked *runtime* say how to run, not what to make: they stay out of the content key.
"""


CLUSTER = """
## cluster

Where phases run (`Cluster`): `mantus run --cluster FILE|JSON`, the pipelines' parameter `cluster`, or the environment's
MANTUS_CLUSTER (JSON). Nothing given: each phase runs where its component runs.

"""


def reference() -> str:
    """The whole page as Markdown."""
    return HEAD + "".join(_section(verb) for verb in PHASES) + CLUSTER + fields(Cluster)


def fields(config: type[BaseModel]) -> str:
    """The fields of a config as a Markdown table, without `store`, which all have."""
    rows = [_row(name, info) for name, info in config.model_fields.items() if name != "store"]
    return "| field | default | meaning |\n|---|---|---|\n" + "".join(rows)


def _section(verb: str) -> str:
    phase = PHASES[verb]
    inner = ((name, info.annotation) for name, info in phase.config.model_fields.items())
    groups = (
        f"\n### {verb}.{name}\n\n{fields(kind)}"
        for name, kind in inner
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    )
    head = f"\n## {verb}\n\n{phase.summary[0].upper()}{phase.summary[1:]}.\n\n"
    return f"{head}{fields(phase.config)}{''.join(groups)}"


def _row(name: str, info: Any) -> str:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    default = "required" if info.is_required() else f"`{info.get_default(call_default_factory=True)!r}`"
    if isinstance(info.get_default(call_default_factory=True), BaseModel):
        default = "fields of its own"
    elif len(default) > 60:
        default = "see the code"
    meaning = " ".join((info.description or "").split()) + (" *(runtime)*" if extra.get("runtime") else "")
    return f"| `{name}` | {default} | {meaning} |\n"
