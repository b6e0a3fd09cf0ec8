"""HTTP to a Service or a pod of the cluster: straight where this process reaches it, else through the API's proxy.

It knows addresses, not what is asked.
"""

import json
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mantus.launch.deploy.service import Services
from mantus.launch.jobs.spec import Body
from mantus.launch.kubernetes import ClusterError, explain

CONNECT_S = 2.0
PORT = 8080
"""What the servers listen on; their Service listens on 80."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Status 0: nobody answered, and `text` says why."""

    status: int
    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address. `direct` is '' where only the API's proxy reaches it."""

    services: Services
    proxy: str
    direct: str

    def ask(self, method: str, path: str, body: Body | None = None, timeout_s: float = 30.0) -> Answer:
        """One request on a connection of its own. ClusterError only when the API forbids its proxy."""
        start = time.monotonic()
        status, text = (self._straight if self.direct else self._proxied)(method, path, body, timeout_s)
        return Answer(status, text, time.monotonic() - start)

    def _straight(self, method: str, path: str, body: Body | None, timeout_s: float) -> tuple[int, str]:
        import httpx

        try:
            with httpx.Client(trust_env=False, timeout=timeout_s) as client:
                response = client.request(method, self.direct + path, json=body)
        except httpx.HTTPError as error:
            return 0, f"{type(error).__name__}: {error}"
        return response.status_code, response.text

    def _proxied(self, method: str, path: str, body: Body | None, timeout_s: float) -> tuple[int, str]:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            answer = self.services.client.call_api(
                self.proxy + path,
                method,
                header_params={"Content-Type": "application/json", "Accept": "*/*"},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=(CONNECT_S, timeout_s),
            )
        except ApiException as error:
            text = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body)
            if error.status == 403 and _is_apis(text):
                error.body = text
                raise ClusterError(f"the servers are not reached from here, and {explain(error)}") from None
            return error.status or 0, text
        except HTTPError as error:
            return 0, f"{type(error).__name__}: {error}"
        return answer.status, answer.data.decode(errors="replace")


def service_endpoint(services: Services, stored: Body) -> Endpoint:
    """The Service of a ready InferenceService."""
    name = f"{stored['metadata']['name']}-predictor"
    host = urlsplit(_url(stored)).hostname or f"{name}.{services.namespace}"
    places = [(host, 80), (host, PORT), *_cluster_ip(services, name)]
    proxy = f"/api/v1/namespaces/{services.namespace}/services/http:{name}:80/proxy"
    return Endpoint(services, proxy, _reached(places))


def pod_endpoint(services: Services, pod: Body) -> Endpoint:
    """One server."""
    proxy = f"/api/v1/namespaces/{services.namespace}/pods/http:{pod['metadata']['name']}:{PORT}/proxy"
    return Endpoint(services, proxy, _reached([(pod["status"].get("podIP", ""), PORT)]))


def url_of(services: Services, stored: Body) -> str:
    """The address for clients in the cluster, as KServe says it."""
    name = stored["metadata"]["name"]
    return f"{(_url(stored) or f'http://{name}-predictor.{services.namespace}.svc.cluster.local').rstrip('/')}/v1"


def _url(stored: Body) -> str:
    return str(((stored.get("status") or {}).get("address") or {}).get("url") or "")


def _cluster_ip(services: Services, name: str) -> list[tuple[str, int]]:
    from kubernetes.client import ApiException

    try:
        address: Any = services.core.read_namespaced_service(name, services.namespace).spec.cluster_ip
    except ApiException:  # not allowed to look; the names may do
        return []
    return [(address, 80)] if address and address != "None" else []


def _reached(places: list[tuple[str, int]]) -> str:
    """The first place that takes a connection, as a URL; '' when none does."""
    for host, port in places:
        try:
            socket.create_connection((host, port), timeout=CONNECT_S).close()
        except OSError:
            continue
        return f"http://{host}:{port}"
    return ""


def _is_apis(text: str) -> bool:
    try:
        return bool(json.loads(text).get("kind") == "Status")
    except (ValueError, AttributeError):
        return False
