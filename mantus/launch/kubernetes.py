"""The Kubernetes API: a client from this pod's account or a kubeconfig, and its refusals in one line.

It knows how to reach a cluster and what its errors mean, not what is asked of it.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token and its namespace."""

CONNECT_TIMEOUT_S = 5


class ClusterError(OSError):
    """The cluster could not be reached or refused; the message is one line for the user."""


def connect() -> Any:
    """A `kubernetes.client.ApiClient`: from KUBECONFIG, else this pod's account, else ~/.kube/config.

    It gives up connecting after a few seconds; reading has no limit unless a call sets one.
    ClusterError with one line when there is nothing to connect with. It does not ask the cluster anything yet.
    """
    from kubernetes import client, config
    from urllib3.util import Retry

    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it would print each retry
    settings = client.Configuration()
    try:
        if in_pod():
            config.load_incluster_config(client_configuration=settings)
        else:
            config.load_kube_config(config_file=_kubeconfig(), client_configuration=settings)
    except (config.ConfigException, OSError, ValueError, TypeError, KeyError) as error:
        raise ClusterError(_no_configuration(error)) from None
    settings.retries = Retry(total=3, backoff_factor=0.2)

    class Client(client.ApiClient):  # type: ignore[misc]
        def call_api(self, *arguments: Any, **options: Any) -> Any:
            options["_request_timeout"] = options.get("_request_timeout") or (CONNECT_TIMEOUT_S, None)
            return super().call_api(*arguments, **options)

    return Client(settings)


def in_pod() -> bool:
    """Whether this process has a pod's service account and no kubeconfig of its own."""
    return not os.environ.get("KUBECONFIG") and (ACCOUNT / "token").is_file()


def namespace() -> str:
    """The namespace of this pod, or of the kubeconfig's context; 'default' when it names none."""
    if in_pod():
        return (ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
    from kubernetes import config

    try:
        _, current = config.list_kube_config_contexts(config_file=_kubeconfig())
    except (config.ConfigException, OSError, ValueError, TypeError, KeyError) as error:
        raise ClusterError(_no_configuration(error)) from None
    return str(current["context"].get("namespace") or "default")


@contextmanager
def refusals(doing: str = "") -> Iterator[None]:
    """Within the block what the API refuses, or that it does not answer, is a ClusterError that says `doing` first."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (ApiException, HTTPError) as error:
        raise ClusterError(f"{doing}: {explain(error)}" if doing else explain(error)) from error


def get_object(objects: Any, *address: str) -> dict[str, Any] | None:
    """A stored object, None when there is none of that name; ApiException also when its kind is not known.

    objects: a CustomObjectsApi.  address: group, version, namespace, plural, name.
    """
    from kubernetes.client import ApiException

    try:
        found: dict[str, Any] = objects.get_namespaced_custom_object(*address)
    except ApiException as error:
        if error.status == 404 and "page not found" not in str(error.body):
            return None
        raise
    return found


@contextmanager
def absence_is_fine() -> Iterator[None]:
    """Within the block it is no error that an object is gone already."""
    from kubernetes.client import ApiException

    try:
        yield
    except ApiException as error:
        if error.status != 404:
            raise


def pods_of(core: Any, namespace: str, selector: str) -> list[dict[str, Any]]:
    """Pods by label selector, as plain objects. core: a CoreV1Api."""
    answer = core.list_namespaced_pod(namespace, label_selector=selector)
    return [core.api_client.sanitize_for_serialization(pod) for pod in answer.items]


def warnings(core: Any, namespace: str, begins: str) -> list[dict[str, Any]]:
    """Warnings about objects whose name begins so, oldest first, as plain objects. core: a CoreV1Api."""
    answer = core.list_namespaced_event(namespace, field_selector="type=Warning")
    events = [core.api_client.sanitize_for_serialization(event) for event in answer.items]
    return sorted((item for item in events if _involved(item).startswith(begins)), key=last_seen)


def _involved(event: dict[str, Any]) -> str:
    return event["involvedObject"].get("name") or ""


def last_seen(event: dict[str, Any]) -> str:
    """When an event last happened, as the API writes an object's creationTimestamp; '' when it does not say."""
    series = event.get("series") or {}
    times = (event.get("lastTimestamp"), series.get("lastObservedTime"), event.get("eventTime"))
    latest = max((str(item) for item in times if item), default="")
    return f"{latest[:19]}Z" if latest else ""


def last_lines(core: Any, pod: str, namespace: str, **which: Any) -> list[str]:
    """The last lines that a pod wrote; [] when nobody knows any more.

    core: a CoreV1Api.  which: container, previous, as its `read_namespaced_pod_log` takes them.
    """
    from kubernetes.client import ApiException

    try:
        # Undecoded, since the client would take a log that is JSON for an object and give its repr.
        answer = core.read_namespaced_pod_log(pod, namespace, tail_lines=50, _preload_content=False, **which)
    except ApiException:
        return []
    return [line.strip() for line in answer.data.decode(errors="replace").splitlines() if line.strip()]


def explain(error: Exception) -> str:
    """One line for an ApiException, or for urllib3's error when nobody answers: what happened and the way out."""
    status = getattr(error, "status", None)
    if not status:
        pool = getattr(error, "pool", None)
        where = f" from {pool.host}:{pool.port}" if pool is not None else ""
        return f"no answer{where} ({_cause(error)}); is the cluster up, and KUBECONFIG the right one?"
    message = _message(error)
    if status == 401:
        return "the cluster does not know these credentials; log in again, or check KUBECONFIG"
    if status == 403:
        return f"{message}{_way_out(message)}"
    if status == 404 and ("page not found" in message or "requested resource" in message):
        return "the cluster does not know this kind of object; `mantus doctor --cluster ...` says which operator lacks"
    return f"{message} ({status})"


def _way_out(message: str) -> str:
    if "exceeded quota" in message:
        return "; ask for less, or have the quota raised"
    if "must specify" in message:
        return "; give the cluster settings cpu and memory"
    if "violates PodSecurity" in message or "denied the request" in message:
        return ""
    return "; ask the namespace's owner for this right (chart and manifests bind it to mantus-pipeline)"


def _message(error: Any) -> str:
    try:
        text = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        text = error.body if isinstance(error.body, str) and error.body else error.reason
    return " ".join(str(text).split())


def _kubeconfig() -> str:
    """As of now: the client's own default is what KUBECONFIG was when it was imported."""
    return os.environ.get("KUBECONFIG") or "~/.kube/config"


def _cause(error: Exception) -> str:
    cause: Any = getattr(error, "reason", None) or error
    return type(cause).__name__ if isinstance(cause, Exception) else str(cause)


def _no_configuration(error: Exception) -> str:
    given = os.environ.get("KUBECONFIG", "~/.kube/config")
    text = " ".join(str(error).split()) or type(error).__name__
    return f"no cluster to talk to: this is no pod, and the kubeconfig {given} does not serve ({text}); set KUBECONFIG"
