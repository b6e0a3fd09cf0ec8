"""The compiled pipelines as they stand in golden/. `python -m tests.pipelines.golden` writes them anew."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
GOLDEN = Path(__file__).parent / "golden"


def compiled(out: Path, *words: str, **environment: str) -> Path:
    """`mantus compile` in a process of its own, without the environment's image; its folder.

    kfp searches all modules of its process at every setting: half a minute in one that has run other tests.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MANTUS_")}
    command = [sys.executable, "-m", "mantus.cli", "compile", "--out", str(out), *words]
    subprocess.run(command, cwd=ROOT, env={**kept, **environment}, check=True, stdout=subprocess.DEVNULL)
    return out


if __name__ == "__main__":
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        for path in compiled(Path(temporary)).glob("*.yaml"):
            shutil.copy(path, GOLDEN / path.name)
            print(GOLDEN / path.name)
