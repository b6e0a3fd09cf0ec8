"""Phase `deploy`: bring one release behind one InferenceService, and leave what served before whenever that fails.

It knows the order of things; bodies, waiting and testing are next door. There is no gateway to share traffic out, so
the canary is a service of its own that only this phase talks to; where KServe has the Gateway API, its `spec.canary`
can send it a share of the clients' requests.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mantus import console
from mantus.launch import kubernetes
from mantus.launch.deploy.config import DeployConfig
from mantus.launch.deploy.endpoint import pod_endpoint, service_endpoint, url_of
from mantus.launch.deploy.release import Release, read_release
from mantus.launch.deploy.service import KEY, Services, annotation, restorable, same, service_body
from mantus.launch.deploy.smoke import Side, Unfit, measure, smoke
from mantus.launch.deploy.watch import NotReady, Watch, is_ready
from mantus.launch.jobs.spec import Body
from mantus.processes import ended_by_sigterm
from mantus.storage import Manifest, Reference, open_store
from mantus.storage.artifact import artifact_key, commit, describe_files
from mantus.storage.phase import key_settings, module_digest


def run(config: DeployConfig) -> Manifest:
    """Deploy, and keep a record of it; never from the cache, since the cluster may have changed.

    ValueError when the release is none; RuntimeError with one line when the gate refused it, or when it does not start
    or fails its tests (then the old release serves as before, or nothing does); ClusterError when the API refuses.
    """
    release = read_release(config)
    with kubernetes.refusals(f"deploy {config.name}"), ended_by_sigterm():
        services = Services(config.namespace or kubernetes.namespace())
        record = Deployment(config, release, services).run()
    console.say(f"deploy: {record['outcome']}: {record['endpoint']} serves release {release.key[:12]}")
    return _keep(config, release, record)


@dataclass
class Deployment:
    """One run of the phase."""

    config: DeployConfig
    release: Release
    services: Services
    checks: list[dict[str, Any]] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """What was done: {outcome: created | updated | unchanged, endpoint, ...}."""
        wanted = service_body(self.config, self.release, self.services.namespace)
        stored = self.services.get(self.config.name)
        if stored and stored["metadata"].get("deletionTimestamp"):
            self.services.delete(self.config.name)
            stored = None
        if stored is None:
            return self._create(wanted)
        if same(stored, self.services.apply(wanted, dry_run=True)):
            console.say(f"deploy: {self.config.name} serves release {self.release.key[:12]} already")
            return self._record("unchanged", *self._prove(wanted))
        return self._replace(stored, wanted)

    def _create(self, wanted: Body) -> dict[str, Any]:
        done = False
        self.services.apply(wanted)
        try:
            found = self._prove(wanted)
            done = True
        except (NotReady, Unfit) as error:
            raise RuntimeError(f"{error}; {self.config.name} was removed again") from None
        finally:
            if not done:
                self.services.delete(self.config.name)
        return self._record("created", *found)

    def _replace(self, stored: Body, wanted: Body) -> dict[str, Any]:
        old = annotation(stored, KEY)
        if old != self.release.key and self.config.canary_requests:
            self._canary(stored, old)
        done = False
        self.services.apply(wanted)
        try:
            found = self._prove(wanted)
            done = True
        except (NotReady, Unfit) as error:
            raise RuntimeError(f"{error}; rolled back, {self.config.name} serves release {old[:12]} again") from None
        finally:
            if not done:
                self._restore(stored)
        return self._record("updated", *found)

    def _canary(self, stored: Body, old: str) -> None:
        """Let the new release show what it does beside the old one, then remove it; RuntimeError when it is unfit."""
        body = service_body(self.config, self.release, self.services.namespace, canary=True)
        name = body["metadata"]["name"]
        try:
            self.services.apply(body)
            ready, tested = self._prove(body)
            self.checks = measure(self._side(ready, tested["model"]), self._old_side(stored), self.config)
            console.say(f"deploy: {name}: " + "; ".join(check["message"] for check in self.checks))
            if failed := [check["message"] for check in self.checks if not check["passed"]]:
                raise Unfit("; ".join(failed))
        except (NotReady, Unfit) as error:
            raise RuntimeError(f"{error}; {self.config.name} still serves release {old[:12]}") from None
        finally:
            self.services.delete(name)

    def _prove(self, body: Body) -> tuple[Body, dict[str, Any]]:
        """Wait until it is ready, then test it: the stored service, and what the test found."""
        ready = Watch(self.services, self.config, body).wait()
        try:
            tested = smoke(service_endpoint(self.services, ready), self.config.smoke_timeout_s)
        except Unfit as error:
            raise Unfit(f"{body['metadata']['name']} fails its smoke test: {error}") from None
        console.say(f"deploy: {body['metadata']['name']} answers; a chat call with a tool took {tested['seconds']} s")
        return ready, tested

    def _side(self, stored: Body, model: str) -> Side:
        pods = [pod for pod in self.services.pods(stored["metadata"]["name"]) if is_ready(pod)]
        servers = [pod_endpoint(self.services, pod) for pod in pods]
        return Side(service_endpoint(self.services, stored), servers, model)

    def _old_side(self, stored: Body) -> Side | None:
        """The old release to compare with; None when it does not answer."""
        try:
            tested = smoke(service_endpoint(self.services, stored), timeout_s=5)
        except Unfit as error:
            console.say(f"deploy: the release served now is no measure: {error}")
            return None
        return self._side(stored, tested["model"])

    def _restore(self, stored: Body) -> None:
        """Have the old release back, ready."""
        console.say(f"deploy: rolling {self.config.name} back")
        body = restorable(stored)
        self.services.apply(body)
        Watch(self.services, self.config, body).wait()

    def _record(self, outcome: str, ready: Body, tested: dict[str, Any]) -> dict[str, Any]:
        place = {"name": self.config.name, "namespace": self.services.namespace}
        found = {"outcome": outcome, **place, "endpoint": url_of(self.services, ready), "model": tested["model"]}
        annotations = ready["metadata"]["annotations"]
        lineage = {name: text for name, text in annotations.items() if name.startswith("mantus.dev/")}
        return {**found, "chat_seconds": tested["seconds"], "checks": self.checks, "lineage": lineage}


def _keep(config: DeployConfig, release: Release, record: dict[str, Any]) -> Manifest:
    """Write the record as an artifact; a later one of the same deployment replaces it."""
    digest, settings = module_digest(__name__), {**key_settings(config), "namespace": record["namespace"]}
    key = artifact_key("deployment", digest, settings, [f"release={release.key}"])
    store = open_store(config.store)
    stats = {name: value for name, value in record.items() if isinstance(value, str | float)}
    staging = Path(tempfile.mkdtemp(prefix="mantus-deploy-"))
    try:
        (staging / "deployment.json").write_text(json.dumps(record, indent=1) + "\n")
        inputs, files = [Reference(release.uri, release.key)], describe_files(staging)
        uri = f"{store.uri}/deployment/{key}"
        manifest = Manifest("deployment", key, uri, digest, settings, inputs, files, stats)
        commit(store, manifest, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return manifest
