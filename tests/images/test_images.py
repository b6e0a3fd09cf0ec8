"""The built images: who they run as, what is in them, a life in one of them, and the server with a real release."""

import json
import socket
import subprocess

import httpx
import pytest

import mantus
from images.build import LABEL, digest, inspect
from mantus.storage import fetch
from tests.images.conftest import command, readable, run
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MAX_SERVE_BYTES = 1.2e9

EVERY_MODULE = """
import importlib, pkgutil, sys
skipped = sys.argv[2:]
for top in sys.argv[1].split(","):
    for found in pkgutil.walk_packages(importlib.import_module(top).__path__, top + "."):
        if not found.name.endswith("__main__") and not found.name.startswith(tuple(skipped)):
            importlib.import_module(found.name)
            print(found.name)
"""

LIFE = """
import json, sys
from mantus.launch.phases import PHASES, parse_config
STORE = "file:///tmp/store"
def make(verb, **settings):
    return PHASES[verb].run(parse_config(verb, {"store": STORE, **settings})).uri
corpus = make("collect", sources=[{"type": "code", "packages": ["jinja2", "rich"], "max_mb": 1}])
tokenizer = make("tokenizer", corpus=corpus, vocab_size=512)
tokens = make("tokenize", corpus=corpus, tokenizer=tokenizer)
shape = {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "head_dim": 32}
shape["intermediate_size"] = 128
print(make("pretrain", tokenizer=tokenizer, tokens=tokens, overrides=shape, steps=3, seq_len=32, batch_tokens=256))
"""


@pytest.fixture(params=["mantus", "mantus-serve"])
def image(request: pytest.FixtureRequest, built: dict[str, str]) -> str:
    return built[request.param]


def test_version_and_help(image: str):
    version = run(image, "mantus", "--version")
    assert (version.returncode, version.stdout.strip()) == (0, f"mantus {mantus.__version__}"), version.stderr
    told = run(image, "mantus", "--help")
    assert told.returncode == 0, told.stderr
    assert "usage: mantus <verb>" in told.stdout


def test_nobody_in_particular_can_write_only_to_tmp(image: str):
    touch = "for place in / /opt /opt/mantus /home /var/tmp; do touch $place/x 2>&1; done"
    program = f"id -u; id -un; cd; pwd; touch here && {touch}"
    done = run(image, "sh", "-c", program)
    assert done.stdout.split()[:3] == ["65532", "mantus", "/tmp"], done.stderr
    assert done.stdout.count("Read-only file system") == 5


def test_another_user_without_a_name_can_run_it_too(image: str):
    done = run(image, "python", "-c", "import getpass; print(getpass.getuser())", options=("--user=1000810000:0",))
    assert done.stdout == "mantus\n", done.stderr


def test_labels_and_what_is_left_out(built: dict[str, str]):
    for folder, name in built.items():
        found = inspect(name)
        assert found is not None
        assert found.labels[LABEL] == digest(folder)
        assert found.labels["org.opencontainers.image.version"] == mantus.__version__
        assert found.labels["org.opencontainers.image.licenses"] == "Apache-2.0"
        program = "ls -d /root/.cache /opt/pip /src /dist /opt/venv/bin/pip* 2>/dev/null; which gcc g++ make"
        assert run(name, "sh", "-c", program).stdout == ""


def test_the_server_is_small_and_has_no_torch(built: dict[str, str]):
    found = inspect(built["mantus-serve"])
    assert found is not None
    assert found.bytes <= MAX_SERVE_BYTES
    done = run(
        built["mantus-serve"],
        "python",
        "-c",
        "import importlib.util as u; print(*map(u.find_spec, ['torch', 'transformers']))",
    )
    assert done.stdout == "None None\n", done.stderr


def test_everything_can_be_imported(built: dict[str, str]):
    done = run(built["mantus"], "python", "-c", EVERY_MODULE, "mantus,components,pipelines")
    assert done.returncode == 0, done.stderr
    assert {"mantus.training.worker", "mantus.launch.jobs.pod", "pipelines.life"} <= set(done.stdout.split())


def test_the_server_has_all_that_serving_imports(built: dict[str, str]):
    tops = "mantus.serving,mantus.inference,mantus.text"
    done = run(built["mantus-serve"], "python", "-c", EVERY_MODULE, tops, "mantus.inference.torch.")
    assert done.returncode == 0, done.stderr
    assert "mantus.serving.api" in done.stdout.split()


@pytest.mark.parametrize("program", ["weed version", "python3 -m kfp.dsl.executor_main --help", "git --version"])
def test_what_pipelines_and_charts_call_is_there(built: dict[str, str], program: str):
    done = run(built["mantus"], "sh", "-ec", program)
    assert done.returncode == 0, done.stderr


def test_the_shipped_recipe_is_found(built: dict[str, str]):
    done = run(built["mantus"], "mantus", "run", "--dry-run", "--config", "recipes/quick.yaml")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pretrain"]["size"] == "nano"


def test_phases_up_to_training(built: dict[str, str]):
    done = run(built["mantus"], "python", "-c", LIFE)
    assert done.returncode == 0, done.stderr
    assert "/model/" in done.stdout.splitlines()[-1]


def test_it_serves_a_release(built: dict[str, str], released):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    volume = f"--volume={readable(fetch(released.uri))}:/mnt/models:ro"
    words = ["mantus", "serve", "--release=/mnt/models", f"--port={port}", "--cache-gib=0.1", "--allow-refused=true"]
    server = subprocess.Popen(
        command(built["mantus-serve"], *words, options=(volume, "--network=host", "--name=mantus-serve-test")),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        ready = wait_for(lambda: server.poll() is not None or _answers(port), 60)
        assert ready, server.stdout
        assert server.poll() is None, server.communicate()[0]
        asked = {"messages": [{"role": "user", "content": "It was a bright"}], "max_tokens": 8}
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=asked, timeout=30).json()
        assert answer["usage"]["completion_tokens"] > 0
        assert "vllm:time_to_first_token_seconds" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    finally:
        server.terminate()
        server.wait(60)
    assert server.returncode == 0


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v1/models").status_code == 200
    except httpx.HTTPError:
        return False
