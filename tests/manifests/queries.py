"""Every PromQL query that the chart ships: rules, alerts, panels and variables of dashboards, KEDA's trigger."""

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.manifests.conftest import find, objects_of

VARIABLES = {"$__rate_interval": "5m", "$__interval": "1m"}
DASHBOARDS = ("serving", "training")


@dataclass(frozen=True)
class Query:
    """One query, with Grafana's variables filled in as for 'All'."""

    where: str
    expr: str
    kind: str
    """record, alert, panel, variable or trigger"""


def groups() -> list[dict[str, Any]]:
    """The rule groups as installed."""
    return find(objects_of("default"), "PrometheusRule", "mantus")["spec"]["groups"]


def board(name: str) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    return json.loads(
        find(objects_of("default"), "ConfigMap", f"mantus-dashboard-{name}")["data"][f"mantus-{name}.json"]
    )


def filled(expr: str) -> str:
    """Without Grafana's variables."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return re.sub(r"\$\w+", ".*", expr)


def queries() -> list[Query]:
    """All of them."""
    found = []
    for group in groups():
        for rule in group["rules"]:
            kind = "alert" if "alert" in rule else "record"
            found.append(Query(rule[kind], rule["expr"], kind))
    for name in DASHBOARDS:
        shown = board(name)
        for panel in shown["panels"]:
            for target in panel.get("targets", ()):
                found.append(Query(f"{name}: {panel['title']}", filled(target["expr"]), "panel"))
        for variable in shown["templating"]["list"]:
            if inside := re.fullmatch(r"label_values\((.+), \w+\)", str(variable["query"]).strip()):
                found.append(Query(f"{name}: ${variable['name']}", filled(inside[1]), "variable"))
            elif isinstance(variable["query"], dict):
                inside = re.fullmatch(r"label_values\((.+), \w+\)", variable["query"]["query"])
                assert inside, variable
                found.append(Query(f"{name}: ${variable['name']}", filled(inside[1]), "variable"))
    (scaled,) = [item for item in objects_of("full") if item["kind"] == "ScaledObject"]
    return [*found, Query("keda", scaled["spec"]["triggers"][0]["metadata"]["query"], "trigger")]
