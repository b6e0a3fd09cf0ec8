"""The chart, rendered once for each set of values in helm/mantus/ci."""

from functools import cache
from typing import Any

import pytest

from manifests.generate import APIS, merged, render, values

MATRIX = ["default", "minimal", "base", "dev", "prod", "gpu", "kueue", "no-monitoring", "full"]


@cache
def objects_of(name: str, apis: tuple[str, ...] = APIS) -> tuple[dict[str, Any], ...]:
    """Every object of the chart for these values, hooks too."""
    rendered = render(merged(values(name), {"assumeApis": list(apis)}))
    return tuple(item for objects in rendered.values() for item in objects)


@pytest.fixture(params=MATRIX)
def objects(request: pytest.FixtureRequest) -> tuple[dict[str, Any], ...]:
    """The objects of one set of values after another."""
    return objects_of(request.param)


def find(objects: tuple[dict[str, Any], ...], kind: str, name: str) -> dict[str, Any]:
    """The one object of this kind and name."""
    (found,) = [item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found


def kinds(objects: tuple[dict[str, Any], ...]) -> set[str]:
    """Which kinds are there."""
    return {item["kind"] for item in objects}
