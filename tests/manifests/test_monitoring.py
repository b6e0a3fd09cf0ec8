"""Rules and dashboards ask, in PromQL that parses, for metrics that the code exports; promtool fires each alert."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase as Collector

from manifests.generate import CHART
from mantus.training.trackers import GAUGES
from tests.manifests.conftest import find, objects_of
from tests.manifests.queries import DASHBOARDS, Query, board, groups, queries

pytestmark = pytest.mark.slow

QUERIES = queries()
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool here: apt-get install prometheus")


def exported() -> set[str]:
    """Names of every series of the server and of training, as /metrics has them."""
    from mantus.serving import metrics

    collectors = [item for item in vars(metrics).values() if isinstance(item, Collector)]
    families = [family for collector in collectors for family in collector.describe()]
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
    serving = {family.name + ending for family in families for ending in endings[family.type]}
    return serving | {f"mantus_train_{name}" for name in GAUGES} | {"mantus_train_tokens_total"}


def names(expr: str) -> set[str]:
    """Metrics that a query reads."""
    found: set[str] = set()

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector) and node.name:
            found.add(node.name)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.add(node.vector_selector.name)
        return True

    promql_parser.walk(promql_parser.parse(expr), visit)
    return found


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{query.kind}-{query.where}")
def test_a_query_reads_what_is_there(query: Query):
    recorded = {rule["record"] for group in groups() for rule in group["rules"] if "record" in rule}
    read = names(query.expr)
    assert read
    assert read <= exported() | recorded | {"up"}


def test_a_wrong_query_is_seen():
    with pytest.raises(ValueError, match="paren"):
        promql_parser.parse("sum(rate(vllm:generation_tokens_total[5m])")


def test_every_metric_of_ours_is_shown():
    """What nobody looks at should not be exported."""
    shown = set().union(*(names(query.expr) for query in QUERIES if query.kind == "panel"))
    idle = {name for name in exported() if not name.endswith(("_sum", "_count"))} - shown
    assert idle == set()


def test_alerts_say_what_to_do():
    runbook = {
        line[3:].strip().lower() for line in (CHART / "RUNBOOK.md").read_text().splitlines() if line[:3] == "## "
    }
    alerts = [rule for group in groups() for rule in group["rules"] if "alert" in rule]
    for rule in alerts:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"].rpartition("#")[2] == rule["alert"].lower()
    assert {rule["alert"].lower() for rule in alerts} == runbook


def test_labels_of_alerts_come_from_values():
    rules = find(objects_of("full"), "PrometheusRule", "mantus")["spec"]["groups"]
    assert all(r["labels"]["team"] == "research" for g in rules for r in g["rules"] if "alert" in r)
    assert "<<" not in json.dumps(rules)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_whole(name: str):
    shown = board(name)
    assert shown["uid"] == f"mantus-{name}"
    panels = [panel for panel in shown["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in shown["panels"]}) == len(shown["panels"])
    for panel in panels:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"]
    spots = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in shown["panels"]]
    assert len(set(spots)) == len(spots)


@pytest.fixture
def rules_file(tmp_path: Path) -> Path:
    """The rules as Prometheus reads them, beside their tests."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups()}))
    shutil.copy(Path(__file__).parent / "rules_test.yaml", tmp_path)
    return tmp_path


@pytest.mark.slow
@needs_promtool
def test_promtool_accepts_the_rules(rules_file: Path):
    done = subprocess.run([PROMTOOL, "check", "rules", "rules.yaml"], cwd=rules_file, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@needs_promtool
def test_promtool_fires_every_alert(rules_file: Path):
    tests = yaml.safe_load((rules_file / "rules_test.yaml").read_text())
    tested = {
        case["alertname"] for test in tests["tests"] for case in test.get("alert_rule_test", ()) if case["exp_alerts"]
    }
    assert tested == {rule["alert"] for group in groups() for rule in group["rules"] if "alert" in rule}
    done = subprocess.run(
        [PROMTOOL, "test", "rules", "rules_test.yaml"], cwd=rules_file, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
