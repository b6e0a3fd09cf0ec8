"""A phase as a program of its own, to be killed: `maker.py <store> <seconds to spend>` prints the artifact's URI.

It writes files of fixed content in small steps, and counts its starts in the scratch folder.
"""

import hashlib
import sys
import time

from pydantic import Field

from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute
from mantus.storage.phase import RUNTIME

NUM_FILES = 6


class MakerConfig(PhaseConfig):
    seed: int = 0
    seconds: float = Field(default=0.0, json_schema_extra=RUNTIME)
    first: ArtifactURI = ""
    second: ArtifactURI = ""
    many: list[ArtifactURI] = Field(default=[])


def content(seed: int, number: int) -> bytes:
    return hashlib.sha256(f"{seed}/{number}".encode()).digest() * 30_000


def produce(work: Work, seed: int, seconds: float) -> dict[str, int]:
    starts = work.scratch / "starts"
    starts.write_text(starts.read_text() + "." if starts.exists() else ".")
    assert not any(work.out.iterdir()), "the folder is fresh"
    for number in range(NUM_FILES):
        with (work.out / f"part-{number}.bin").open("wb") as stream:
            data = content(seed, number)
            for start in range(0, len(data), 100_000):
                stream.write(data[start : start + 100_000])
                stream.flush()
                time.sleep(seconds / NUM_FILES / 10)
    return {"files": NUM_FILES}


def run(config: MakerConfig) -> Manifest:
    def make(work: Work) -> dict[str, int]:
        return produce(work, config.seed, config.seconds)

    return execute("made", config, make)


if __name__ == "__main__":
    print("ready", flush=True)
    manifest = run(MakerConfig(store=sys.argv[1], seconds=float(sys.argv[2])))
    print("cached" if manifest.cached else "made", manifest.uri, flush=True)
