"""Finds every pod a manifest leads to, and says what Pod Security "restricted" has against it.

Written from the Pod Security Standards, not from the chart: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
HOST = ("hostNetwork", "hostPID", "hostIPC")
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
}


def pod_specs(item: Object) -> Iterator[tuple[str, Object]]:
    """(where, pod spec): pods, pod templates of any kind at any depth, and KServe's runtimes."""
    where = f"{item['kind']}/{item['metadata']['name']}"
    if item["kind"] == "Pod" or item["kind"].endswith("ServingRuntime"):
        yield where, item["spec"]
        return
    if item["kind"] == "ClusterStorageContainer":
        yield where, {"containers": [item["spec"]["container"]]}
        return
    yield from _templates(where, item)


def _templates(where: str, node: Any) -> Iterator[tuple[str, Object]]:
    if isinstance(node, list):
        for value in node:
            yield from _templates(where, value)
    elif isinstance(node, dict):
        template = node.get("template")
        if isinstance(template, dict) and "containers" in template.get("spec", {}):
            yield where, template["spec"]
        for value in node.values():
            yield from _templates(where, value)


def offences(spec: Object, writable_root: bool = False) -> list[str]:
    """What is wrong with a pod; beyond "restricted", a root file system that is not read-only."""
    found = [name for name in HOST if spec.get(name)]
    found += [f"volume {v['name']}" for v in spec.get("volumes", ()) if set(v) - {"name"} - VOLUMES]
    pod = spec.get("securityContext", {})
    found += [f"sysctl {s['name']}" for s in pod.get("sysctls", ()) if s["name"] not in SYSCTLS]
    for part in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(part, ()):
            found += [f"{container['name']}: {what}" for what in _container(container, pod, writable_root)]
    return found


def _container(container: Object, pod: Object, writable_root: bool) -> Iterator[str]:
    own = container.get("securityContext", {})
    both = {**pod, **own}
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()) or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "capabilities"
    if both.get("runAsNonRoot") is not True:
        yield "runAsNonRoot"
    if both.get("runAsUser") == 0:
        yield "runAsUser 0"
    if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield "hostPort"
    if not writable_root and own.get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem"
