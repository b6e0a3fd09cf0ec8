"""What each attack is held off by: the edits that take a defence away, for `python -m tests.agent.mutation`.

It knows nothing of the attacks, which are ordinary tests.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Test = TypeVar("Test", bound=Callable[..., None])


@dataclass(frozen=True)
class Edit:
    """One passage of a file of the package, and what stands there once the defence is gone."""

    path: str
    old: str
    new: str


DEFENCES: dict[str, tuple[Edit, ...]] = {}
"""Test -> the edits that, together, must make it fail."""


def held_off_by(*edits: tuple[str, str, str]) -> Callable[[Test], Test]:
    """Names the defence of the attack that follows: (file below mantus/, what stands there, what is left without)."""

    def note(test: Test) -> Test:
        assert test.__name__ not in DEFENCES
        DEFENCES[test.__name__] = tuple(Edit(*edit) for edit in edits)
        return test

    return note
