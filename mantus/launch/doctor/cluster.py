"""What a namespace of a cluster has for a run: kinds, rights, secret, quota, processors. It changes nothing there."""

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mantus.launch import kubernetes
from mantus.launch.cluster import Cluster
from mantus.launch.doctor.checks import Check
from mantus.launch.jobs.spec import SECRET_KEYS, Body

ROLE = "have the role mantus-pipeline bound to it (chart: rbac.extraSubjects)"
KINDS = {
    "pytorchjobs": ("kubeflow.org", "v1", "Kubeflow's training operator 1.9"),
    "trainjobs": ("trainer.kubeflow.org", "v1alpha1", "Kubeflow Trainer 2"),
    "inferenceservices": ("serving.kserve.io", "v1beta1", "KServe 0.18 or newer"),
    "clusterservingruntimes": ("serving.kserve.io", "v1alpha1", "KServe 0.18 or newer"),
}
"""Kind -> API group, version, and what brings it."""
RUNTIME = "mantus"


@dataclass
class Site:
    """A namespace, and who looks at it."""

    cluster: Cluster
    client: Any
    namespace: str
    serving: bool = True
    """Whether the run also deploys."""
    secret: dict[str, str] = field(default_factory=dict)
    """The S3 secret, as far as it could be read."""

    def __post_init__(self) -> None:
        from kubernetes import client

        self.core = client.CoreV1Api(self.client)

    def get(self, path: str) -> Body | None:
        """GET; None when it is not there. ApiException on all else."""
        from kubernetes.client import ApiException

        try:
            found: Body = self.client.call_api(
                path, "GET", response_type="object", auth_settings=["BearerToken"], _return_http_data_only=True
            )
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return found


def look(site: Site) -> Iterator[Check]:
    """Every check of a namespace that needs no pod."""
    for title, check in CHECKS.items():
        yield from _guarded(title, site, check)


def api(client: Any) -> Check:
    """Whether the API answers, and its version."""
    from kubernetes.client import VersionApi

    with kubernetes.refusals():
        version = VersionApi(client).get_code(_request_timeout=(5, 10)).git_version
    return Check("api", "ok", f"Kubernetes {version} at {client.configuration.host}")


def _guarded(name: str, site: Site, check: Callable[[Site], Iterator[Check]]) -> Iterator[Check]:
    """A check's findings; what one may not look at is unknown, not lacking."""
    from kubernetes.client import ApiException

    try:
        yield from check(site)
    except ApiException as error:
        if error.status != 403:
            yield Check(name, "unknown", kubernetes.explain(error))
        elif name not in SILENT:
            yield Check(name, "unknown", f"not allowed to look in namespace {site.namespace}")


def _namespace(site: Site) -> Iterator[Check]:
    found = site.get(f"/api/v1/namespaces/{site.namespace}")
    if found is None:
        yield Check(
            "namespace", "lacks", f"{site.namespace} does not exist", f"kubectl create namespace {site.namespace}"
        )
        return
    level = (found["metadata"].get("labels") or {}).get("pod-security.kubernetes.io/enforce", "not enforced")
    yield Check("namespace", "ok", f"{site.namespace}, pod security {level}")


def _training(site: Site) -> Iterator[Check]:
    yield _kind(site, site.cluster.training + "s")


def _serving(site: Site) -> Iterator[Check]:
    """KServe's kinds, and a runtime for our releases."""
    if not site.serving:
        return
    for name in ("inferenceservices", "clusterservingruntimes"):
        found = _kind(site, name)
        yield found
        if found.state == "lacks":
            return
    yield from _guarded("runtime", site, _runtime)


def _kind(site: Site, name: str) -> Check:
    group, version, brings = KINDS[name]
    found = site.get(f"/apis/{group}")
    if found is None:
        return Check(name, "lacks", f"the cluster does not know {name}.{group}", f"install {brings}")
    served = [item["version"] for item in found["versions"]]
    listed = (site.get(f"/apis/{group}/{version}") or {}).get("resources", ()) if version in served else ()
    if any(item["name"] == name for item in listed):
        return Check(name, "ok", f"{group}/{version}")
    return Check(name, "lacks", f"{group} serves {', '.join(served)} without {name} {version}", f"install {brings}")


def _runtime(site: Site) -> Iterator[Check]:
    for place in (f"namespaces/{site.namespace}/servingruntimes", "clusterservingruntimes"):
        if site.get(f"/apis/serving.kserve.io/v1alpha1/{place}/{RUNTIME}"):
            yield Check("runtime", "ok", f"{place.rpartition('/')[2]}/{RUNTIME}")
            return
    yield Check(
        "runtime", "lacks", f"no serving runtime {RUNTIME}: releases cannot be deployed", "install Mantus' chart"
    )


def _rights(site: Site) -> Iterator[Check]:
    from kubernetes import client

    authorization = client.AuthorizationV1Api(site.client)
    denied: dict[str, list[str]] = {}
    for group, resource, verbs in rights(site.cluster, site.serving):
        for verb in verbs:
            name, _, sub = resource.partition("/")
            what: Body = {"namespace": site.namespace, "verb": verb, "group": group, "resource": name}
            review = {"spec": {"resourceAttributes": {**what, "subresource": sub}}}
            if not authorization.create_self_subject_access_review(review).status.allowed:
                denied.setdefault(resource, []).append(verb)
    who = _who(site)
    if not denied:
        yield Check("rights", "ok", f"{who} may start and follow jobs and services in {site.namespace}")
        return
    listed = ", ".join(f"{' and '.join(verbs)} {resource}" for resource, verbs in denied.items())
    yield Check("rights", "lacks", f"{who} may not {listed} in namespace {site.namespace}", ROLE)


def rights(cluster: Cluster, serving: bool) -> list[tuple[str, str, tuple[str, ...]]]:
    """Group, resource and verbs that launching needs, and deploying."""
    training = cluster.training + "s"
    services = [("serving.kserve.io", "inferenceservices", ("create", "get", "patch", "delete"))] if serving else []
    return [
        (KINDS[training][0], training, ("create", "get", "delete")),
        ("batch", "jobs", ("create", "get", "delete")),
        *services,
        ("", "pods", ("get", "list")),
        ("", "pods/log", ("get",)),
        ("", "events", ("list",)),
    ]


def _who(site: Site) -> str:
    from kubernetes import client

    try:
        answer = client.AuthenticationV1Api(site.client).create_self_subject_review(client.V1SelfSubjectReview())
    except client.ApiException:  # before Kubernetes 1.28
        return "this user"
    name: str = answer.status.user_info.username
    return name.removeprefix("system:serviceaccount:").replace(":", "/")


def _secret(site: Site) -> Iterator[Check]:
    name = site.cluster.secret
    found = site.get(f"/api/v1/namespaces/{site.namespace}/secrets/{name}")
    if found is None:
        keys = " ".join(f"--from-literal={key}=..." for key in SECRET_KEYS)
        way_out = f"install Mantus' chart, or kubectl -n {site.namespace} create secret generic {name} {keys}"
        yield Check("secret", "lacks", f"{name} is not in namespace {site.namespace}", way_out)
        return
    data: Mapping[str, str] = found.get("data") or {}
    site.secret = {key: base64.b64decode(data[key]).decode(errors="replace") for key in SECRET_KEYS if key in data}
    if missing := [key for key, optional in SECRET_KEYS.items() if not optional and not site.secret.get(key)]:
        yield Check("secret", "lacks", f"{name} has no {' and no '.join(missing)}", "add what is missing")
        return
    annotations = found["metadata"].get("annotations") or {}
    if "AWS_ENDPOINT_URL" in site.secret and "serving.kserve.io/s3-endpoint" not in annotations:
        way_out = "annotate it, or KServe asks AWS for the release"
        yield Check("secret", "note", f"{name} has no annotation serving.kserve.io/s3-endpoint", way_out)
        return
    yield Check("secret", "ok", f"{name} with {', '.join(site.secret)}")


def _account(site: Site) -> Iterator[Check]:
    name = site.cluster.service_account
    if site.get(f"/api/v1/namespaces/{site.namespace}/serviceaccounts/{name}") is None:
        way_out = f"install Mantus' chart, or kubectl -n {site.namespace} create serviceaccount {name}"
        yield Check("account", "lacks", f"no service account {name} in namespace {site.namespace}", way_out)
        return
    yield Check("account", "ok", name)


def _queue(site: Site) -> Iterator[Check]:
    if not (queue := site.cluster.queue):
        return
    group = site.get("/apis/kueue.x-k8s.io")
    if group is None:
        yield Check("queue", "lacks", f"queue {queue} needs Kueue, which the cluster does not have", "install Kueue")
        return
    version = group["preferredVersion"]["version"]
    place = f"/apis/kueue.x-k8s.io/{version}/namespaces/{site.namespace}/localqueues/{queue}"
    if site.get(place) is None:
        yield Check("queue", "lacks", f"no LocalQueue {queue} in namespace {site.namespace}", "create it")
        return
    yield Check("queue", "ok", f"LocalQueue {queue}")


def _gpus(site: Site) -> Iterator[Check]:
    if not (wanted := site.cluster.gpus):
        return
    nodes = site.core.list_node().items
    most = max((int((node.status.allocatable or {}).get("nvidia.com/gpu", 0)) for node in nodes), default=0)
    if most < wanted:
        found = f"no node has {wanted} nvidia.com/gpu: the most is {most}"
        yield Check("gpus", "lacks", found, "add such a node, or install the GPU operator")
        return
    yield Check("gpus", "ok", f"a node has {most} nvidia.com/gpu")


def _limits(site: Site) -> Iterator[Check]:
    from mantus.launch.doctor.quota import quota

    yield from quota(site.core, site.namespace, site.cluster)


CHECKS: dict[str, Callable[[Site], Iterator[Check]]] = {
    "namespace": _namespace,
    "training": _training,
    "serving": _serving,
    "rights": _rights,
    "secret": _secret,
    "account": _account,
    "quota": _limits,
    "queue": _queue,
    "gpus": _gpus,
}
SILENT = ("namespace", "account")
"""Checks that say nothing when one may not look: the pod that is started says it."""
