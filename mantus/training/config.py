"""Fields that every training phase has. It does not import torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from mantus.storage.phase import RUNTIME, ArtifactURI, PhaseConfig


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
    skip_outliers: float = Field(default=0.0, ge=0)
    """Skip a step whose loss or gradient norm is so many standard deviations above the mean of the last 128 (0: none;
    6 is usual). Not with deepspeed."""
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
    processes: int = Field(default=1, ge=1, json_schema_extra=RUNTIME)
    """Training processes. They decide the order of float sums, but not what is made: work begun by one number goes on
    with another."""
    strategy: Literal["ddp", "fsdp2", "deepspeed"] = Field(default="ddp", json_schema_extra=RUNTIME)
    """How processes share the work. ddp: each has the whole model; fsdp2: each keeps a shard of weights, gradients and
    optimiser; deepspeed: ZeRO. The last two cannot train with muon, which needs whole matrices."""
    zero_stage: Literal[1, 2, 3] = Field(default=2, json_schema_extra=RUNTIME)
    """For deepspeed: what is divided. 1: the optimiser; 2: gradients too; 3: weights too."""
    replicas: int = Field(default=1, ge=1, json_schema_extra=RUNTIME)
    """For fsdp2: groups of processes that each hold all shards (HSDP); a divisor of their number."""
    tensor: int = Field(default=1, ge=1, json_schema_extra=RUNTIME)
    """For fsdp2: processes that share each layer's matrices and work on the same rows (tensor parallel), for sizes
    whose layers are too large for one; a divisor of the model's heads and of the processes of each replica."""
    micro_tokens: int = Field(default=0, ge=0, json_schema_extra=RUNTIME)
    """Tokens that a process works on at once; gradients of a larger share of the step add up (0: all at once)."""
    recompute: bool = Field(default=False, json_schema_extra=RUNTIME)
    """Keep only each layer's input and compute the rest again for gradients: less memory, a third more work."""
    compile: bool = False
    """Compile the layers with inductor: takes up to a minute and gains most in bfloat16. Needs a C++ compiler. Not
    with deepspeed."""
    checkpoint_every: int = Field(default=50, ge=0, json_schema_extra=RUNTIME)
    """Steps between checkpoints; 0: none. They are written and uploaded while training goes on."""
    upload_checkpoints: bool = Field(default=False, json_schema_extra=RUNTIME)
    """Also keep checkpoints in the store, for machines that may vanish."""
    metrics_port: int = Field(default=0, ge=0, json_schema_extra=RUNTIME)
    """Serve Prometheus metrics of the first process at this port; 0: do not."""
    mlflow: str = Field(default="", json_schema_extra=RUNTIME)
    """Also log to the MLflow server at this URI (http://...); empty: do not. Needs mantus[mlflow]."""
    wandb: str = Field(default="", json_schema_extra=RUNTIME)
    """Also log to this Weights & Biases project, with WANDB_MODE=offline to files below WANDB_DIR; empty: do not.
    Needs mantus[wandb]."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """What cannot be together is said before anything starts."""
        if self.strategy != "ddp" and self.optimizer == "muon":
            raise ValueError(f"strategy: {self.strategy} divides matrices that muon needs whole; take optimizer adamw")
        if self.strategy == "deepspeed" and self.skip_outliers:
            raise ValueError("skip_outliers: deepspeed knows a gradient's norm too late; take fsdp2, or 0")
        if self.strategy == "deepspeed" and self.compile:
            raise ValueError("compile: deepspeed hooks into layers; take ddp or fsdp2, or leave compile off")
        if self.processes % self.replicas:
            raise ValueError(f"replicas: {self.replicas} do not divide the {self.processes} processes")
        if self.tensor > 1 and self.strategy != "fsdp2":
            raise ValueError(f"tensor: {self.strategy} cannot share matrices; take strategy fsdp2")
        if self.processes % (self.replicas * self.tensor):
            each = self.processes // self.replicas
            raise ValueError(f"tensor: {self.tensor} does not divide the {each} processes of each replica")
        return self


class TuningConfig(TrainingConfig):
    """How to tune a model that is there, whatever the objective."""

    model: ArtifactURI
    """The model to tune, as an artifact or as a Hugging Face directory of this machine (see `mantus import`); its
    tokenizer comes with it."""
    embedding_lr: float = Field(default=0.1, ge=0)
    """Learning rate of embeddings and norms, as a share of `lr`. Low, since Adam moves the rows of tokens that no
    answer holds as far as all others, and a model that has forgotten a token cannot copy it."""
    steps: int = Field(default=0, ge=0)
    """Optimiser steps; 0: as many as `epochs` needs."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the data when `steps` is 0."""
    lora_rank: int = Field(default=0, ge=0)
    """Train low-rank adapters of the layers' matrices and nothing else (0: train everything). The model is written with
    them folded in, and they lie beside it in `adapter/`, as peft and vLLM read them."""
    lora_alpha: float = Field(default=16.0, gt=0)
    """Adapters count alpha / rank."""

    @model_validator(mode="after")
    def _adapts(self) -> Self:
        if self.lora_rank and self.optimizer == "muon":
            raise ValueError("lora_rank: muon is for whole matrices; train adapters with optimizer adamw")
        if self.lora_rank and self.tensor > 1:
            raise ValueError("lora_rank: adapters are not divided; leave tensor at 1")
        return self
