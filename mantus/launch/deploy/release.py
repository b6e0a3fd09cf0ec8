"""What deploying needs to know of a release: the gate's verdict, the folder to serve, and its lineage.

It reads manifests from the store, no model.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from mantus.launch.deploy.config import DeployConfig
from mantus.storage import Manifest, Reference, open_store, read_manifest


@dataclass(frozen=True, slots=True)
class Release:
    """One release that passed its gate."""

    uri: str
    key: str
    storage_uri: str
    """The folder that a server loads."""
    lineage: dict[str, str]
    """Annotations: what it was made from, with what, and what the gate said."""


def read_release(config: DeployConfig) -> Release:
    """The release to deploy. ValueError when it is none, RuntimeError when the gate refused it."""
    if not config.release.startswith("s3://"):
        raise ValueError(f"deploy.release: {config.release} must be s3://..., where the cluster can read it")
    try:
        manifest = read_manifest(config.release)
    except FileNotFoundError as error:
        raise ValueError(f"deploy.release: {error}") from None
    if manifest.kind != "release":
        raise ValueError(f"deploy.release: {config.release} holds a {manifest.kind}, not a release")
    found = json.loads(open_store(config.release).get("release.json"))
    said = "; ".join(check["message"] for check in found["gate"]["checks"])
    if found["gate"]["verdict"] != "passed":
        raise RuntimeError(f"the gate refused {config.release}: {said}; nothing was deployed")
    variant = config.variant or found["served"]
    if variant not in {row["name"] for row in found["variants"]}:
        raise ValueError(f"deploy.variant: {config.release} has no {variant!r}")
    lineage = {
        "mantus.dev/release": manifest.uri,
        "mantus.dev/release-key": manifest.key,
        "mantus.dev/gate": said,
        "mantus.dev/mantus-version": manifest.mantus_version,
        **{f"mantus.dev/{kind}-key": keys for kind, keys in _inputs(manifest).items()},
    }
    return Release(manifest.uri, manifest.key, f"{manifest.uri}/{variant}", lineage)


def _inputs(manifest: Manifest) -> dict[str, str]:
    """Kind of input -> its content keys, and the tokenizer that the model was made with."""
    found: dict[str, dict[str, None]] = {}
    for reference in (*manifest.inputs, *_tokenizers(manifest)):
        found.setdefault(_kind(reference), {})[reference.key] = None
    return {kind: ",".join(keys) for kind, keys in sorted(found.items())}


def _tokenizers(manifest: Manifest) -> Iterator[Reference]:
    """Tokenizers among the ancestors of the release's model."""
    todo, seen = [item for item in manifest.inputs if _kind(item) == "model"], set()
    while todo:
        reference = todo.pop()
        if reference.key in seen:
            continue
        seen.add(reference.key)
        try:
            parents = read_manifest(reference.uri).inputs
        except (FileNotFoundError, ValueError):  # collected as garbage since
            continue
        yield from (item for item in parents if _kind(item) == "tokenizer")
        todo += [item for item in parents if _kind(item) == "model"]


def _kind(reference: Reference) -> str:
    """The kind that an artifact's URI names: <store>/<kind>/<key>."""
    return reference.uri.rstrip("/").rpartition("/")[0].rpartition("/")[2]
