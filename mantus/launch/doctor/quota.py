"""Whether a namespace's ResourceQuotas and LimitRanges have room for the pods of a run. It only reads."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from mantus.launch.cluster import Cluster
from mantus.launch.doctor.checks import Check

ASKED = {
    "requests.cpu": "cpu",
    "cpu": "cpu",
    "requests.memory": "memory",
    "memory": "memory",
    "limits.memory": "memory",
    "requests.nvidia.com/gpu": "gpus",
}
"""Name in a quota -> field of the cluster settings."""


def quota(core: Any, namespace: str, cluster: Cluster) -> Iterator[Check]:
    """One finding for quotas and limits together; the first thing that does not fit."""
    quotas = core.list_namespaced_resource_quota(namespace).items
    ranges = [item for limit in _limit_ranges(core, namespace) for item in limit.spec.limits]
    lacks = [line for item in quotas for line in _short(item, cluster, ranges)]
    lacks += [line for item in ranges for line in _above(item, cluster)]
    if lacks:
        yield Check("quota", "lacks", lacks[0][0], lacks[0][1])
    elif not quotas:
        yield Check("quota", "ok", f"no ResourceQuota in {namespace}: only the nodes limit")
    else:
        yield Check("quota", "ok", f"{', '.join(item.metadata.name for item in quotas)} leaves enough")


def _limit_ranges(core: Any, namespace: str) -> list[Any]:
    from kubernetes.client import ApiException

    try:
        found: list[Any] = core.list_namespaced_limit_range(namespace).items
    except ApiException as error:
        if error.status != 403:
            raise
        return []
    return found


def _short(item: Any, cluster: Cluster, ranges: list[Any]) -> Iterator[tuple[str, str]]:
    """What a quota has too little of, or asks every pod to say."""
    pods = max(cluster.nodes, cluster.shards)
    used, name = (item.status.used if item.status else None) or {}, item.metadata.name
    for resource, hard in (item.spec.hard or {}).items():
        free = _number(hard) - _number(used.get(resource, "0"))
        asked = ASKED.get(resource)
        if resource in ("pods", "count/pods"):
            needed = Decimal(pods)
        elif asked is None:
            continue
        elif value := getattr(cluster, asked):
            needed = pods * _number(value)
        elif asked != "gpus" and not _has_default(ranges, resource):
            yield f"quota {name} wants every pod to say {resource}", f"give cluster.{asked}"
            continue
        else:
            continue
        if needed > free:
            found = f"quota {name} leaves {_text(free)} of {hard} {resource}, {_text(needed)} are needed"
            yield found, "ask for less, wait for others to end, or have the quota raised"


def _above(item: Any, cluster: Cluster) -> Iterator[tuple[str, str]]:
    """What one container asks for beyond a LimitRange's largest."""
    for resource, most in (item.max or {}).items() if item.type in ("Container", "Pod") else ():
        value = {"cpu": cluster.cpu, "memory": cluster.memory}.get(resource)
        if value and _number(value) > _number(most):
            yield f"a pod may have at most {most} {resource}, {value} are asked for", f"lower cluster.{resource}"


def _has_default(ranges: list[Any], resource: str) -> bool:
    name = resource.rpartition(".")[2]
    return any(name in (item.default_request or {}) or name in (item.default or {}) for item in ranges)


def _number(quantity: Any) -> Decimal:
    from kubernetes.utils import parse_quantity

    return Decimal(parse_quantity(quantity))


def _text(number: Decimal) -> str:
    return f"{number / (1 << 30):.1f}Gi" if number >= 1 << 20 else f"{number.normalize():f}"
