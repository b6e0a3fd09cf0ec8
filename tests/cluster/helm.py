"""Helm's own library, each call in a process of its own.

It is Go in a shared library, and within pytest's process it once ended that with a segmentation fault.
`python -m tests.cluster.helm` makes one call: JSON in, JSON out.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any


class HelmError(Exception):
    """Helm's own words."""


@dataclass(frozen=True)
class Helm:
    """Helm for one namespace of the cluster that KUBECONFIG names."""

    namespace: str

    def call(self, verb: str, *words: Any, **options: Any) -> Any:
        """What a method of helm_python's Config gives. HelmError where Helm refuses."""
        wanted = {"namespace": self.namespace, "verb": verb, "words": words, "options": options}
        command = [sys.executable, "-m", "tests.cluster.helm"]
        environment = {**os.environ, "GODEBUG": "asyncpreemptoff=1"}
        done = subprocess.run(command, input=json.dumps(wanted), env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"helm {verb}: exit {done.returncode}: {done.stderr[-2000:]}"
        answer = json.loads(done.stdout.splitlines()[-1])
        if "error" in answer:
            raise HelmError(answer["error"])
        return answer["result"]


def main() -> None:
    """Make the call that stdin names."""
    import helm_python

    wanted = json.load(sys.stdin)
    with helm_python.Config(kubeconfig_path=os.environ["KUBECONFIG"], namespace=wanted["namespace"]) as config:
        try:
            answer = {"result": getattr(config, wanted["verb"])(*wanted["words"], **wanted["options"])}
        except helm_python.HelmError as error:
            answer = {"error": str(error)}
    print(json.dumps(answer, default=str))


if __name__ == "__main__":
    main()
