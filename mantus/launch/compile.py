"""Compile the pipelines to KFP IR YAML.

It knows the compiler, not the phases.
"""

from pathlib import Path


def compile_pipelines(out: Path) -> list[Path]:
    """Write `<out>/life.yaml`; the paths written."""
    from kfp import compiler

    from pipelines.life import life

    out.mkdir(parents=True, exist_ok=True)
    target = out / "life.yaml"
    compiler.Compiler().compile(life, str(target))
    return [target]
