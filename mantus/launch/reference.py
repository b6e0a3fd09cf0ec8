"""Write docs/phases.md from the phases' own Configs, so that it cannot drift.

It knows fields and their docstrings, nothing else. `python -m mantus.launch.reference docs/phases.md`
"""

import sys
from pathlib import Path
from typing import Any

from mantus.launch.phases import PHASES

HEAD = """# Phases and their fields

Made by `python -m mantus.launch.reference docs/phases.md`; a test holds it to the code. Every field is a flag of
the verb (`mantus clean --min-words 20`), a field of the recipe's section, and an entry of the pipeline's
parameter of that name. Fields marked *runtime* say how to run, not what to make: they stay out of the content key.
"""


def reference() -> str:
    """The whole page as Markdown."""
    return HEAD + "".join(_section(verb) for verb in PHASES)


def _section(verb: str) -> str:
    phase = PHASES[verb]
    rows = [_row(name, info) for name, info in phase.config.model_fields.items() if name != "store"]
    title = f"\n## {verb}\n\n{phase.summary[0].upper()}{phase.summary[1:]}.\n\n"
    return title + "| field | default | meaning |\n|---|---|---|\n" + "".join(rows)


def _row(name: str, info: Any) -> str:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    default = "required" if info.is_required() else f"`{info.get_default(call_default_factory=True)!r}`"
    if len(default) > 60:
        default = "see the code"
    meaning = " ".join((info.description or "").split()) + (" *(runtime)*" if extra.get("runtime") else "")
    return f"| `{name}` | {default} | {meaning} |\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
