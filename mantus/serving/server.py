"""The server process: a KServe model server with our routes on its app, one engine, one worker.

It knows KServe and start-up; requests are answered in api.py. `python -m mantus.serving.server` is what a container
runs, `mantus serve` what people run.
"""

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import mantus
from mantus.serving.config import ServeConfig
from mantus.serving.drain import Drain
from mantus.serving.guard import KeyGuard, read_keys

APP = "kserve.model_server:app"
UNUSED = ("pandas", "kubernetes")
"""Packages that kserve imports for dataframes and for its clients, nothing of which a server needs: half of what kserve
takes in memory and in time."""


def serve(config: ServeConfig) -> None:
    """Serve until told to stop. ValueError when the release is missing, refused, damaged or too large."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    folder = find_variant(config)
    listener = _bind(config)
    keys = read_keys(config.api_keys_file)
    with ThreadPoolExecutor(1) as pool:  # the self-test and the model's loading, while kserve is imported
        starting = pool.submit(_start, config, folder)
        app = _import_kserve()
        from mantus.serving.api import install
        from mantus.serving.generate import Generator
        from mantus.serving.metrics import MODEL

        tokenizer = _load_tokenizer(folder)
        engine, variant = starting.result()
    generator = Generator(engine, tokenizer, config.name, config.max_waiting, config.max_tokens)
    MODEL.labels(config.name, config.release, variant, mantus.__version__).set(1)
    install(app, generator, config.max_body_bytes)
    if keys:
        app.add_middleware(KeyGuard, keys=keys)
    app.add_middleware(Drain)
    with _naming(config):
        listener.listen()  # another may have taken the port meanwhile
    print(f"serving {config.name} ({variant}) at http://{config.host}:{config.port}/v1", flush=True)
    print(f"try: curl http://{config.host}:{config.port}/v1/models, or a browser at its root", flush=True)
    _run(config, generator, listener)
    engine.close()


def _run(config: ServeConfig, generator: Any, listener: socket.socket) -> None:
    """Answer requests until a signal ends it.

    KServe's own `start` listens on every interface, whatever the host, and on asyncio's loop instead of uvloop's.
    """
    import uvicorn
    from kserve import ModelServer
    from kserve.protocol.rest.server import RESTServer

    from mantus.serving.model import ServedModel

    kserves = ModelServer(enable_grpc=False)
    _quiet()
    kserves.register_model(ServedModel(config.name, generator))
    parts = kserves.dataplane, kserves.model_repository_extension
    rest = RESTServer(APP, *parts, config.port, grace_period=config.drain_seconds)
    rest.create_application()
    server = uvicorn.Server(rest.config)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, server.handle_exit)
    server.run(sockets=[listener])


def _import_kserve() -> Any:
    """KServe's app, to which routes are added."""
    arguments, sys.argv = sys.argv, sys.argv[:1]  # kserve reads the command line when it is imported
    absent = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update({name: _Unused(name) for name in absent})
    try:
        from kserve.model_server import app
    finally:
        sys.argv = arguments
        for name in absent:
            del sys.modules[name]
    return app


class _Unused(ModuleType):
    """Stands in for a package while another is imported that mentions classes of it and calls none."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)  # the engine's thread may ask meanwhile whether it is installed

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def _start(config: ServeConfig, folder: Path) -> tuple[Any, str]:
    """The engine, and the name of the variant that it runs."""
    from mantus.inference.start import start_engine

    engine, served = start_engine(folder, config.engine, config.threads, config.cache_gib)
    return engine, served.name


def _load_tokenizer(folder: Path) -> Any:
    from mantus.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    rows = int(json.loads((folder / "config.json").read_text())["vocab_size"])
    if tokenizer.vocab_size > rows:
        raise ValueError(f"{folder}: the tokenizer has {tokenizer.vocab_size} ids and the model {rows}")
    return tokenizer


def find_variant(config: ServeConfig) -> Path:
    """The folder to load. Takes a release, or a variant's folder itself. ValueError when a file of it is damaged."""
    if "://" in config.release:
        from mantus.storage import fetch

        folder = fetch(config.release)
    else:
        folder = Path(config.release)
    if (folder / "config.json").is_file():
        return folder
    if not (folder / "release.json").is_file():
        raise ValueError(f"serve.release: {config.release} holds no release; make one with `make run`")
    release: dict[str, Any] = json.loads((folder / "release.json").read_text())
    if release["gate"]["verdict"] != "passed" and not config.allow_refused:
        raise ValueError(f"serve.release: the gate refused {config.release}; --allow-refused true serves it anyway")
    served = str(release["served"])
    _check_files(folder, served)
    return folder / served


def _check_files(folder: Path, served: str) -> None:
    """ValueError when a file of the served variant does not have the digest that the release's manifest says.

    Of a variant with digests of its own only they are hashed: who opens the variant compares its files with them.
    """
    from mantus.storage import read_manifest
    from mantus.storage.artifact import find_damage
    from mantus.storage.sums import SUMS

    if not (folder / "manifest.json").is_file():
        return
    manifest = read_manifest(folder.absolute().as_uri())
    files = [entry for entry in manifest.files if entry.path.startswith(f"{served}/")]
    hashed = [entry for entry in files if entry.path == f"{served}/{SUMS}"] or files
    sizes, digests = replace(manifest, files=files), replace(manifest, files=hashed)
    if damage := find_damage(sizes, folder, verify=False) or find_damage(digests, folder, verify=True):
        raise ValueError(f"serve.release: {folder}: {damage}; make the release again, or fetch it again")


def _bind(config: ServeConfig) -> socket.socket:
    """The address to serve at, taken before the model is loaded. It listens only once there is somebody to answer."""
    listener = socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with _naming(config):
        listener.bind((config.host, config.port))
    return listener


@contextmanager
def _naming(config: ServeConfig) -> Iterator[None]:
    """ValueError that names the address, for what its socket refuses."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"serve.port: {config.host}:{config.port} cannot be used: {error.strerror}") from None


def _quiet() -> None:
    for name in ("kserve", "kserve.trace", "uvicorn", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)


def main() -> None:
    """KServe's way to start a runtime: --model_dir, --model_name, --http_port; the rest as ServeConfig's fields."""
    import argparse

    from pydantic import ValidationError

    from mantus.processes import die_with_parent

    kserves = {"model_dir": "release", "model_name": "name", "http_port": "port"}
    fields = {**ServeConfig.model_fields}
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_dir", default="/mnt/models")
    parser.add_argument("--model_name", default="mantus")
    parser.add_argument("--http_port", default="8080")
    parser.add_argument("--host", default="0.0.0.0")
    for name in sorted(set(fields) - set(kserves.values()) - {"host", "allow_refused"}):
        parser.add_argument(f"--{name}", default=argparse.SUPPRESS)
    parser.add_argument("--allow_refused", action="store_true")
    given = {kserves.get(name, name): value for name, value in vars(parser.parse_args()).items()}
    if os.environ.get("MANTUS_CHILD") == "1":
        die_with_parent()
    try:
        serve(ServeConfig(**given))
    except ValidationError as error:
        first = error.errors()[0]
        _refuse(f"serve.{'.'.join(map(str, first['loc']))}: {first['msg'].lower()} (got {first['input']!r})")
    except ValueError as error:
        _refuse(str(error))


def _refuse(message: str) -> None:
    print(f"mantus: {message}", file=sys.stderr, flush=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
