"""Where and how phases run on a cluster of Kubernetes or Ray: a small settings object that pipelines carry as a dict.

It does not speak to a cluster.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import mantus
from mantus.storage.phase import field_error

Quantity = Annotated[str, Field(coerce_numbers_to_str=True)]
"""Of processors or memory, as Kubernetes writes it; YAML makes a number of `2`."""


class Cluster(BaseModel):
    """How to run phases as jobs of their own."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    executor: Literal["", "kubernetes", "ray"] = ""
    """'': a phase runs where its component runs; kubernetes: as an Indexed Job or a training job of its own; ray: data
    phases that can be divided run as tasks of Ray, the others where their components run."""
    ray_address: str = ""
    """The Ray cluster; '': that of RAY_ADDRESS, else one of this machine's own for as long as the phase runs."""
    namespace: str = ""
    """Where the jobs go; '': the namespace of this pod, or of the kubeconfig's context."""
    image: str = f"mantus-python:{mantus.__version__}"
    """The image of the pods."""
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When the kubelet pulls it."""
    secret: str = "mantus-s3"
    """Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and AWS_DEFAULT_REGION."""
    service_account: str = "mantus-worker"
    """What the pods run as; it needs no rights."""
    training: Literal["pytorchjob", "trainjob"] = "pytorchjob"
    """Kubeflow's training operator 1.9 (PyTorchJob), or Trainer v2 (TrainJob)."""
    nodes: int = Field(default=1, ge=1)
    """Pods of a training job. They share the recipe's `processes`."""
    min_nodes: int = Field(default=0, ge=0)
    """Above 0: elastic, training goes on with any number of pods from this one to `nodes` (PyTorchJob only)."""
    shards: int = Field(default=1, ge=1)
    """Pods of the Indexed Job, or tasks of Ray, of a data phase that can be divided."""
    cpu: Quantity = ""
    """Processors of each pod or task, as Kubernetes writes them; '': not said (Ray: 1)."""
    memory: Quantity = ""
    """Memory of each pod: request and limit; of each task of Ray: request."""
    gpus: int = Field(default=0, ge=0)
    """nvidia.com/gpu of each training pod."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels that the nodes must have."""
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    """Kubernetes tolerations."""
    queue: str = ""
    """Kueue's local queue: jobs start suspended until it admits them."""
    priority_class: str = ""
    """Kubernetes priority class."""
    deadline_s: int = Field(default=86_400, ge=1)
    """Seconds after which a job is ended, failed."""
    schedule_s: int = Field(default=45, ge=1)
    """Seconds that a pod may wait for a node; raise it where nodes are added on demand."""
    run: str = Field(default="", max_length=30, pattern=r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Name of the run: a label of all that it makes, and part of the jobs' names."""

    @model_validator(mode="after")
    def _fits(self) -> "Cluster":
        if self.min_nodes > self.nodes:
            raise ValueError(f"min_nodes {self.min_nodes} is above nodes {self.nodes}")
        if self.min_nodes and self.training == "trainjob":
            raise ValueError("min_nodes: TrainJob cannot change its size; use training: pytorchjob")
        return self


def parse_cluster(values: dict[str, Any]) -> Cluster:
    """The checked settings; an empty dict takes MANTUS_CLUSTER (JSON). ValueError names field and value."""
    if not values and (text := os.environ.get("MANTUS_CLUSTER")):
        values = json.loads(text)
    try:
        return Cluster.model_validate(values)
    except ValidationError as error:
        raise ValueError("; ".join(field_error("cluster", item) for item in error.errors())) from None


def read_cluster(text: str) -> dict[str, Any]:
    """`--cluster`: a YAML or JSON file, or JSON itself. ValueError with one line."""
    path = Path(text)
    if not text.lstrip().startswith("{") and not path.is_file():
        raise ValueError(f"--cluster {text}: no such file, and not JSON")
    try:
        values = yaml.safe_load(text if text.lstrip().startswith("{") else path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"--cluster: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ValueError(f"--cluster {text}: expected fields such as 'executor:'")
    parse_cluster(values)
    return values
