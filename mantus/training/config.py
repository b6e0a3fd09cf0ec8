"""Fields that every training phase has. It does not import torch."""

from typing import Literal

from pydantic import Field

from mantus.storage.phase import RUNTIME, PhaseConfig


class TrainingConfig(PhaseConfig):
    """How to train, whatever the objective."""

    seq_len: int = Field(default=256, ge=8)
    """Tokens a sequence; longer conversations are left out and counted."""
    batch_tokens: int = Field(default=4096, ge=8)
    """Tokens a step, over all processes."""
    lr: float = Field(default=3e-3, gt=0)
    """Peak learning rate."""
    embedding_lr: float = Field(default=1.0, ge=0)
    """Learning rate of embeddings and norms, as a share of `lr`."""
    optimizer: Literal["adamw", "muon"] = "muon"
    """muon: Muon for hidden matrices, AdamW for embeddings and norms."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of hidden matrices."""
    schedule: Literal["wsd", "cosine"] = "wsd"
    """Warm up, stay, decay; or cosine."""
    warmup: int = Field(default=20, ge=0)
    """Steps until the peak learning rate."""
    decay_share: float = Field(default=0.4, gt=0, le=1)
    """wsd: the share of steps in which the learning rate falls to zero."""
    clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    z_loss: float = Field(default=0.0, ge=0)
    """Weight of logsumexp^2, which keeps logits small."""
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """Matrix products in bfloat16 (weights stay float32); auto: where the processor has it."""
    seed: int = 1
    """Decides initial weights and data order."""
    log_every: int = Field(default=10, ge=1)
    """Steps between rows of history.jsonl."""
    evaluate_every: int = Field(default=100, ge=0)
    """Steps between held-out losses; 0: only at both ends."""
    processes: int = Field(default=1, ge=1)
    """Training processes; part of the key, since it decides the order of float sums."""
    compile: bool = False
    """Compile the model with inductor; needs a C++ compiler, pays off after minutes."""
    checkpoint_every: int = Field(default=50, ge=0, json_schema_extra=RUNTIME)
    """Steps between checkpoints; 0: none."""
    upload_checkpoints: bool = Field(default=False, json_schema_extra=RUNTIME)
    """Also keep checkpoints in the store, for machines that may vanish."""
    metrics_port: int = Field(default=0, ge=0, json_schema_extra=RUNTIME)
    """Serve Prometheus metrics of the first process at this port; 0: do not."""
