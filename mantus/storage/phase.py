"""A phase is a function of (config, inputs) that runs once: found by content key, or made and committed.

It knows how a phase is keyed, staged and committed, not what any phase does.
"""

import ast
import fcntl
import hashlib
import multiprocessing
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import mantus
from mantus import console
from mantus.processes import shard
from mantus.storage import artifact
from mantus.storage.artifact import Manifest, Reference
from mantus.storage.objects import Store, open_store

PLUMBING = ("mantus.storage", "mantus.console", "mantus.processes")
"""Packages that move bytes but do not decide them: they stay out of code digests."""
FILE_NAME = re.compile(r"[\w-]+(\.[\w-]+)+")


class MadeElsewhere(Exception):
    """Another process of the same job commits this artifact; this one has done its part."""


_maker: ContextVar[Callable[[Manifest], None] | None] = ContextVar("maker", default=None)


@contextmanager
def made_elsewhere(make: Callable[[Manifest], None]) -> Iterator[None]:
    """Within the block no phase works here: `make` gets the draft of each missing artifact and has it committed."""
    token = _maker.set(make)
    try:
        yield
    finally:
        _maker.reset(token)


class _Input:
    """Marks a config field as the URI of an input artifact."""


ArtifactURI = Annotated[str, _Input()]
"""The URI of an artifact; '' where it is optional and absent. Its content key enters the phase's key."""

RUNTIME: dict[str, Any] = {"runtime": True}
"""Field marker (`Field(json_schema_extra=RUNTIME)`): how to run, not what to make; stays out of the key."""


class PhaseConfig(BaseModel):
    """What every phase takes. Subclasses add frozen fields, each with a docstring for --help and the docs."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())

    store: str = Field(default=".mantus/store", json_schema_extra=RUNTIME)
    """Where artifacts go: s3://bucket/prefix, file:///path or a path."""

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
    fetch_inputs: bool = True,
) -> Manifest:
    """Find the artifact of this work, or make it.

    kind: artifact kind, the folder in the store.  produce: writes files into `work.out`, returns stats
    (JSON, deterministic).  sources: further inputs that are not artifacts (files, URLs), with their fingerprints.
    fetch_inputs: False leaves `work.inputs` empty, for a phase that reads little of each from the store.
    The code digest covers the module that defines `produce` and every mantus module it imports.
    Processes of one machine that want the same artifact make it once: the others wait.
    ValueError when an input is no artifact; StoreError when a store fails; RuntimeError in a worker that imports a
    script which calls this without a main guard.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # set while a worker imports the main module
        raise RuntimeError(f"{kind}: this script has no main guard; put its calls under `if __name__ == '__main__':`")
    found = {name: _read(name, uri) for name, uri in _input_fields(config)}
    store = open_store(config.store)
    draft = _draft(kind, config, produce.__module__, found, sources or [])
    key = draft.key
    if made := _find(draft.uri):
        return made
    if make := _maker.get():
        return _have_made(draft, make)
    with _own(artifact.cache_root() / "work" / kind / _work_name(key), kind) as base:
        if made := _find(draft.uri):
            return made  # by the process that owned the folder before
        local = {name: _fetch(value) for name, value in found.items()} if fetch_inputs else {}
        return _make(draft, produce, Work(base / "out", base / "scratch", local, found, key, store))


def find(kind: str, config: PhaseConfig, module: str, sources: list[Reference] | None = None) -> Manifest | None:
    """The artifact that `execute` would find for a `produce` defined in `module`; None where it would make it."""
    found = {name: _read(name, uri) for name, uri in _input_fields(config)}
    return _find(_draft(kind, config, module, found, sources or []).uri)


def _draft(kind: str, config: PhaseConfig, module: str, found: dict[str, Any], sources: list[Reference]) -> Manifest:
    """The manifest of what is yet to be made, with its key."""
    references = [Reference(m.uri, m.key) for value in found.values() for m in _as_list(value)] + sources
    code_digest, settings = module_digest(module), key_settings(config)
    keys = [f"{name}={m.key}" for name, value in found.items() for m in _as_list(value)]
    key = artifact.artifact_key(kind, code_digest, settings, keys + [f"={r.key}" for r in sources])
    uri = f"{open_store(config.store).uri}/{kind}/{key}"
    return Manifest(kind, key, uri, code_digest, settings, references, [], {})


def _work_name(key: str) -> str:
    """The work folder's name: those that share work on one machine have one each, and need not wait for each other."""
    index, count = shard()
    return key if count == 1 else f"{key}-{index}-of-{count}"


def _find(uri: str) -> Manifest | None:
    try:
        return replace(artifact.read_manifest(uri), cached=True)
    except FileNotFoundError:
        return None


def _have_made(draft: Manifest, make: Callable[[Manifest], None]) -> Manifest:
    make(draft)
    if made := _find(draft.uri):
        return replace(made, cached=False)
    raise RuntimeError(f"{draft.uri}: the job left no artifact though it ended well; has it this code, and this store?")


def _make(draft: Manifest, produce: Callable[[Work], dict[str, Any]], work: Work) -> Manifest:
    """Run `produce` in a fresh folder, commit what it wrote, and leave nothing but scratch behind on failure."""
    shutil.rmtree(work.out, ignore_errors=True)  # of a process that was killed
    work.out.mkdir()
    work.scratch.mkdir(exist_ok=True)
    try:
        start = time.monotonic()
        stats = produce(work)
        console.emit({"made": draft.kind, "seconds": round(time.monotonic() - start, 1)})
        manifest = replace(draft, files=artifact.describe_files(work.out), stats=stats, created=artifact.now())
        artifact.commit(work.store, manifest, work.out)
    except MadeElsewhere:
        artifact.discard(work.out.parent)  # this share is in the store: no text is left on this machine
        raise
    except BaseException:
        shutil.rmtree(work.out, ignore_errors=True)
        raise
    artifact.discard(work.out.parent)
    return manifest


@contextmanager
def _own(folder: Path, kind: str) -> Iterator[Path]:
    """Own a work folder, made when absent: no other process has it until the block or this process ends."""
    said = False
    while True:
        with ExitStack() as stack:
            owned = False
            with suppress(FileNotFoundError):  # only of the lock: what the block raises is the caller's
                owned = stack.enter_context(lock_folder(folder))
            if owned:
                yield folder
                return
        if not said:
            console.say(f"another process makes this {kind}; waiting for it")
            said = True
        time.sleep(0.2)


@contextmanager
def lock_folder(folder: Path) -> Iterator[bool]:
    """Try to lock a folder: False when another process has it, or has just removed it.

    The lock ends with this process even when forked workers outlive it, which a flock would not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("ab") as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = os.path.samestat(os.fstat(handle.fileno()), os.stat(folder / "lock"))
        except (BlockingIOError, PermissionError, FileNotFoundError):
            same = False
        yield same


def key_settings(config: PhaseConfig) -> dict[str, Any]:
    """The part of a config that decides the result: no runtime fields, no input URIs (their keys count instead)."""
    skip = set(input_field_names(type(config))) | {
        name
        for name, info in type(config).model_fields.items()
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("runtime")
    }
    return config.model_dump(mode="json", exclude=skip)


def module_digest(module: str) -> str:
    """A digest of a module's source and of every mantus module it imports, at any depth, plumbing left out.

    A data file that lies beside a module and that the module names in a string counts as part of it.
    """
    digest = hashlib.blake2b(digest_size=16)
    closure = _import_closure(module)
    for name in sorted(closure):
        digest.update(name.encode() + b"\0" + closure[name].read_bytes())
        for beside in _data_files(closure[name]):
            digest.update(beside.name.encode() + b"\0" + beside.read_bytes())
    return digest.hexdigest()


def _import_closure(module: str) -> dict[str, Path]:
    seen: dict[str, Path] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        path = _source(name)
        if path is not None and name not in seen and not name.startswith(PLUMBING):
            seen[name] = path
            todo += (found for found in _imported(name, path) if found.startswith("mantus."))
    return seen


def _imported(module: str, path: Path) -> Iterator[str]:
    """Names that may be mantus modules; those that are not have no source."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for level, origin, names in _read_source(path, path.stat().st_mtime_ns).imports:
        above = package.split(".")[: package.count(".") + 2 - level] if level else []
        whole = ".".join([*above, *([origin] if origin else [])])
        yield from (f"{whole}.{name}" if whole else name for name in names)
        if whole:
            yield whole


@dataclass(frozen=True, slots=True)
class _Source:
    """What a module's text says of others."""

    imports: tuple[tuple[int, str, tuple[str, ...]], ...]
    """Level, origin and names of each import; no origin for `import name`."""
    strings: frozenset[str]
    """Its constants that may be file names."""


@cache
def _read_source(path: Path, changed: int) -> _Source:
    """Parsed once while its time of change is `changed`."""
    nodes = list(ast.walk(ast.parse(path.read_bytes())))
    whole = [(0, "", tuple(alias.name for alias in node.names)) for node in nodes if isinstance(node, ast.Import)]
    parts = [
        (node.level, node.module or "", tuple(alias.name for alias in node.names))
        for node in nodes
        if isinstance(node, ast.ImportFrom)
    ]
    constants = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return _Source((*whole, *parts), frozenset(text for text in constants if FILE_NAME.fullmatch(text)))


def _source(module: str) -> Path | None:
    """The file of a mantus module, or of a loaded one elsewhere (a test's); found without importing anything."""
    top, *rest = module.split(".")
    if top != "mantus":
        file = getattr(sys.modules.get(module), "__file__", None)
        return Path(file) if file else None
    base = Path(mantus.__file__).parent.joinpath(*rest)
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _data_files(path: Path) -> list[Path]:
    names = _read_source(path, path.stat().st_mtime_ns).strings
    beside = (path.with_name(name) for name in sorted(names))
    return [file for file in beside if file.suffix != ".py" and file.is_file()]


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


def _read(field: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_read(field, uri) for uri in value]
    try:
        return artifact.read_manifest(value)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{field}: {error}") from None


def _fetch(value: Any) -> Any:
    if isinstance(value, list):
        return [artifact.fetch(manifest.uri) for manifest in value]
    return artifact.fetch(value.uri)


def _as_list(value: Any) -> list[Manifest]:
    return value if isinstance(value, list) else [value]


def field_error(where: str, item: Any) -> str:
    """One line for one of pydantic's errors: field, what is wrong, the value given."""
    name = ".".join([where, *(str(part) for part in item["loc"])])
    if item["type"] == "value_error":  # our own words
        return f"{name}: {item['ctx']['error']}"
    shown = "" if item["type"] == "missing" else f" (got {item['input']!r})"
    return f"{name}: {item['msg'].lower()}{shown}"
