"""Settings of `mantus deploy`. It does not speak to a cluster."""

from typing import Any

from pydantic import Field, model_validator

from mantus.launch.cluster import Quantity
from mantus.storage import ArtifactURI, PhaseConfig


class DeployConfig(PhaseConfig):
    """What to serve, how, and what it has to show before it replaces what is served now."""

    release: ArtifactURI
    """The release: s3://bucket/.../release/<key>, where the cluster can read it."""
    name: str = Field(default="mantus", pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=40)
    """Name of the InferenceService, and of the model in its API."""
    namespace: str = ""
    """Where it goes; '': the namespace of this pod, or of the kubeconfig's context."""
    variant: str = ""
    """Folder of the release to serve; '': the one that the gate judged."""
    runtime: str = "mantus"
    """Serving runtime: `mantus` on processors, `mantus-vllm` (with variant hf) on GPU."""
    storage_container: str = "mantus"
    """ClusterStorageContainer that downloads the release, fit for Pod Security "restricted"; '': KServe's default."""
    service_account: str = "mantus-serving"
    """What the servers run as; it carries the S3 secret for KServe."""
    replicas: int = Field(default=1, ge=1)
    """Servers, or the fewest when `max_replicas` is above 0."""
    max_replicas: int = Field(default=0, ge=0)
    """Above 0: a HorizontalPodAutoscaler adds servers up to this many when they use 80 % of their processors."""
    cpu: Quantity = "1"
    """Processors that each server asks for, as Kubernetes writes them."""
    cpu_limit: Quantity = ""
    """The most processors a server may use; '': what it asks for."""
    memory: Quantity = "2Gi"
    """Memory of each server: request and limit."""
    gpus: int = Field(default=0, ge=0)
    """nvidia.com/gpu of each server."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels that the nodes must have."""
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    """Kubernetes tolerations."""
    priority_class: str = ""
    """Kubernetes priority class."""
    drain_s: int = Field(default=15, ge=1)
    """Seconds from a server's leaving the Service to its being told to end: no request may meet a closed door."""
    canary_requests: int = Field(default=8, ge=0)
    """Requests that a new release answers as `<name>-canary`, beside the old one, before it may replace it; 0: none."""
    max_error_rate: float = Field(default=0.0, ge=0, le=1)
    """Largest share of the canary's requests that may fail."""
    max_latency_s: float = Field(default=30.0, gt=0)
    """Largest mean seconds of a request to the canary."""
    max_slowdown: float = Field(default=3.0, gt=0)
    """Largest time a token of the canary over that of the old release, medians measured side by side."""
    smoke_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds for the smoke test: the list of models, and one chat call with a tool."""
    schedule_s: float = Field(default=45.0, gt=0)
    """Seconds that a server may find no node (more where an autoscaler makes nodes)."""
    timeout_s: float = Field(default=900.0, gt=0)
    """Seconds until all servers must be ready."""

    @model_validator(mode="after")
    def _fits(self) -> "DeployConfig":
        if 0 < self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is below replicas {self.replicas}")
        return self
