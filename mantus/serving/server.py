"""The server process: a KServe model server with our routes on its app, one engine, one worker.

It knows KServe and start-up; requests are answered in api.py. `python -m mantus.serving.server` is what a container
runs, `mantus serve` what people run.
"""

import json
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any

import mantus
from mantus.serving.config import ServeConfig


def serve(config: ServeConfig) -> None:
    """Serve until told to stop. ValueError when the release is missing, refused or without the variant."""
    folder, variant = find_variant(config)
    _check_port(config)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments, sys.argv = sys.argv, sys.argv[:1]  # kserve reads the command line when it is imported
    try:
        from kserve import ModelServer, model_server
    finally:
        sys.argv = arguments
    from mantus.inference.engine import open_engine
    from mantus.serving.api import install
    from mantus.serving.generate import Generator
    from mantus.serving.metrics import MODEL
    from mantus.serving.model import ServedModel
    from mantus.text.tokenizer import Tokenizer

    _quiet()
    engine = open_engine(folder, config.threads, config.cache_gib)
    generator = Generator(engine, Tokenizer.load(folder), config.name, config.max_waiting)
    MODEL.labels(config.name, config.release, variant, mantus.__version__).set(1)
    install(model_server.app, generator, config.max_body_bytes)
    print(f"serving {config.name} ({variant}) at http://{config.host}:{config.port}/v1", flush=True)
    print(f"try: curl http://{config.host}:{config.port}/v1/models", flush=True)
    server = ModelServer(http_port=config.port, enable_grpc=False, workers=1, grace_period=30)
    model_server.args.host = config.host
    server.start([ServedModel(config.name, generator)])
    engine.close()


def find_variant(config: ServeConfig) -> tuple[Path, str]:
    """The folder to load and the variant's name. Takes a release, or a variant's folder itself."""
    if "://" in config.release:
        from mantus.storage import fetch

        folder = fetch(config.release)
    else:
        folder = Path(config.release)
    if (folder / "openvino_model.xml").is_file():
        return folder, folder.name
    if not (folder / "release.json").is_file():
        raise ValueError(f"serve.release: {config.release} holds no release; make one with `make run`")
    release: dict[str, Any] = json.loads((folder / "release.json").read_text())
    if release["gate"]["verdict"] != "passed" and not config.allow_refused:
        raise ValueError(f"serve.release: the gate refused {config.release}; --allow-refused true serves it anyway")
    return folder / str(release["served"]), str(release["served"])


def _check_port(config: ServeConfig) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            raise ValueError(f"serve.port: {config.host}:{config.port} cannot be used: {error.strerror}") from None


def _quiet() -> None:
    for name in ("kserve", "kserve.trace", "uvicorn", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)


def main() -> None:
    """KServe's way to start a runtime: --model_dir, --model_name, --http_port."""
    import argparse

    from mantus.processes import die_with_parent

    parser = argparse.ArgumentParser()
    parser.add_argument("--model_dir", default="/mnt/models")
    parser.add_argument("--model_name", default="mantus")
    parser.add_argument("--http_port", type=int, default=8080)
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--cache_gib", type=float, default=1.0)
    parser.add_argument("--allow_refused", action="store_true")
    given = parser.parse_args()
    if os.environ.get("MANTUS_CHILD") == "1":
        die_with_parent()
    config = ServeConfig(
        release=given.model_dir,
        name=given.model_name,
        host=given.host,
        port=given.http_port,
        cache_gib=given.cache_gib,
        allow_refused=given.allow_refused,
    )
    try:
        serve(config)
    except ValueError as error:
        sys.exit(f"mantus: {error}")


if __name__ == "__main__":
    main()
