"""A phase is a function of (config, inputs) that runs once: found by content key, or made and committed.

It knows how a phase is keyed, staged and committed, not what any phase does.
"""

import ast
import hashlib
import importlib.util
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mantus import console
from mantus.storage import artifact
from mantus.storage.artifact import Manifest, Reference
from mantus.storage.objects import Store, open_store

PLUMBING = ("mantus.storage", "mantus.console")
"""Packages that move bytes but do not decide them: they stay out of code digests."""


class _Input:
    """Marks a config field as the URI of an input artifact."""


ArtifactURI = Annotated[str, _Input()]
"""The URI of an artifact; '' where it is optional and absent. Its content key enters the phase's key."""

RUNTIME = {"runtime": True}
"""Field marker (`Field(json_schema_extra=RUNTIME)`): how to run, not what to make; stays out of the key."""


class PhaseConfig(BaseModel):
    """What every phase takes. Subclasses add frozen fields, each with a docstring for --help and the docs."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())

    store: str = Field(default="file://.mantus/store", json_schema_extra=RUNTIME)
    """Where artifacts go: s3://bucket/prefix or file:///path."""

    @classmethod
    def parse(cls, values: dict[str, Any], where: str) -> "PhaseConfig":
        """Validate; ValueError with one line per wrong field, each naming field and value."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ValueError("; ".join(field_error(where, item) for item in error.errors())) from None


@dataclass(frozen=True, slots=True)
class Work:
    """What a phase is given to work with."""

    out: Path
    """Fresh folder; what is in it at the end becomes the artifact."""
    scratch: Path
    """Folder that survives a crash of this very work (same key); removed after the commit."""
    inputs: dict[str, Any]
    """Local folders of the input artifacts, by config field (a list field gives a list; absent ones are left out)."""
    manifests: dict[str, Any]
    """Their manifests, by config field."""
    key: str
    store: Store


def execute(
    kind: str,
    config: PhaseConfig,
    produce: Callable[[Work], dict[str, Any]],
    sources: list[Reference] | None = None,
) -> Manifest:
    """Find the artifact of this work, or make it.

    kind: artifact kind, the folder in the store.  produce: writes files into `work.out`, returns stats
    (JSON, deterministic).  sources: further inputs that are not artifacts (files, URLs), with their fingerprints.
    The code digest covers the module that defines `produce` and every mantus module it imports.
    """
    fields = [*_input_fields(config)]
    found = {name: _read(uri) for name, uri in fields}
    references = [Reference(m.uri, m.key) for value in found.values() for m in _as_list(value)] + (sources or [])
    code_digest = module_digest(produce.__module__)
    settings = key_settings(config)
    key = artifact.artifact_key(kind, code_digest, settings, [r.key for r in references])
    store = open_store(config.store)
    uri = f"{store.uri}/{kind}/{key}"
    try:
        return replace(artifact.read_manifest(uri), cached=True)
    except FileNotFoundError:
        pass
    base = artifact.cache_root() / "work" / kind / key
    out, scratch = base / f"out-{os.getpid()}", base / "scratch"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    scratch.mkdir(exist_ok=True)
    try:
        local = {name: _fetch(value) for name, value in found.items()}
        start = time.monotonic()
        stats = produce(Work(out, scratch, local, found, key, store))
        console.emit({"made": kind, "seconds": round(time.monotonic() - start, 1)})
        files = artifact.describe_files(out)
        manifest = Manifest(kind, key, uri, code_digest, settings, references, files, stats)
        artifact.commit(store, manifest, out)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    shutil.rmtree(base, ignore_errors=True)
    return manifest


def key_settings(config: PhaseConfig) -> dict[str, Any]:
    """The part of a config that decides the result: no runtime fields, no input URIs (their keys count instead)."""
    skip = {name for name, _ in _input_fields(config)} | {
        name
        for name, info in type(config).model_fields.items()
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("runtime")
    }
    return config.model_dump(mode="json", exclude=skip)


def module_digest(module: str) -> str:
    """A digest of a module's source and of every mantus module it imports, at any depth, plumbing left out."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(_import_closure(module)):
        path = _source(name)
        assert path is not None
        digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _import_closure(module: str) -> set[str]:
    seen: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        path = _source(name)
        if name in seen or name.startswith(PLUMBING) or path is None:
            continue
        seen.add(name)
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                todo += [alias.name for alias in node.names if alias.name.startswith("mantus.")]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mantus."):
                todo += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return seen


def _source(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def input_field_names(config: type[PhaseConfig]) -> dict[str, bool]:
    """The fields of a config that name input artifacts, and whether each is a list."""
    found = {}
    for name, info in config.model_fields.items():
        if any(isinstance(item, _Input) for item in info.metadata):
            found[name] = False
        elif get_origin(info.annotation) is list:
            inner = (item for argument in get_args(info.annotation) for item in get_args(argument)[1:])
            if any(isinstance(item, _Input) for item in inner):
                found[name] = True
    return found


def _input_fields(config: PhaseConfig) -> list[tuple[str, Any]]:
    return [(name, value) for name in input_field_names(type(config)) if (value := getattr(config, name))]


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [artifact.read_manifest(uri) for uri in value]
    return artifact.read_manifest(value)


def _fetch(value: Any) -> Any:
    if isinstance(value, list):
        return [artifact.fetch(manifest.uri) for manifest in value]
    return artifact.fetch(value.uri)


def _as_list(value: Any) -> list[Manifest]:
    return value if isinstance(value, list) else [value]


def field_error(where: str, item: Any) -> str:
    """One line for one of pydantic's errors: field, what is wrong, the value given."""
    name = ".".join([where, *(str(part) for part in item["loc"])])
    shown = "" if item["type"] == "missing" else f" (got {item['input']!r})"
    return f"{name}: {item['msg'].lower()}{shown}"
