"""A paraphrase grammar: a tool and arguments -> a request in which every argument can be read off.

It knows frames and the words around values, not conversations.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mantus.data.conversations.synthesis.specs import Slot, Spec
from mantus.data.conversations.values import Values
from mantus.text.calls import Call

COMMANDS = (
    "{Verb} {object}{tail}.",
    "{Verb} {object}{tail}.",
    "Please {verb} {object}{tail}.",
    "{Verb} {object}{tail}, please.",
    "Can you {verb} {object}{tail}?",
    "Could you {verb} {object}{tail} for me?",
    "Could you please {verb} {object}{tail}?",
    "I want to {verb} {object}{tail}.",
    "I'd like to {verb} {object}{tail}.",
    "I would like you to {verb} {object}{tail}.",
    "I need to {verb} {object}{tail}.",
    "Help me {verb} {object}{tail}.",
    "How do I {verb} {object}{tail}?",
    "Is it possible to {verb} {object}{tail}?",
    "Go ahead and {verb} {object}{tail}.",
    "{Verb} {object}. Use these values: {list}.",
    "I have the following: {list}. {Verb} {object}.",
    "{Front}, {verb} {object}.",
    "We must {verb} {object}{tail}.",
)
QUESTIONS = (
    "What is {object}{tail}?",
    "What would be {object}{tail}?",
    "Tell me {object}{tail}.",
    "I need {object}{tail}.",
)
"""For verbs that ask to know something, where the object has an article."""
KNOWING = {
    "calculate", "compute", "determine", "find", "get", "look", "work", "estimate", "check", "show", "fetch", "read",
}  # fmt: skip
BEFORE = (
    "I am preparing for next week. ",
    "Quick question. ",
    "For a report at work: ",
    "My friend asked me about this. ",
    "Hi! ",
    "I am a beginner at this. ",
    "We are comparing options. ",
)
FLAGS = ("with {} switched on", "with {} set to true")


@dataclass(frozen=True, slots=True)
class Request:
    """What is said, and the call that it asks for."""

    text: str
    call: Call
    said: dict[str, str]
    """Argument -> its words."""


def request(
    spec: Spec, values: Values, chance: random.Random, unsaid: Mapping[str, str] | None = None, bare: bool = False
) -> Request:
    """Ask for a tool. bare: a plain command, to stand among others.

    unsaid: arguments without their values, with what is said instead: a letter, or nothing.
    """
    unsaid = unsaid or {}
    chosen = [name for name in spec.slots if name in spec.required or chance.random() < 0.45]
    drawn = {name: spec.slots[name].draw(values, chance) for name in chosen if name not in unsaid}
    words = {**drawn, **{name: (None, letter) for name, letter in unsaid.items() if letter}}
    order = list(words)
    if chance.random() < 0.3:
        chance.shuffle(order)
    fragments = [fragment(name, spec.slots[name], *words[name], chance) for name in order]
    text = _framed(spec, [part for part in fragments if part], _listed(words), chance, bare)
    arguments: dict[str, Any] = {name: drawn[name][0] for name in spec.slots if name in drawn}
    return Request(text, Call(spec.name, arguments), {name: said for name, (_, said) in drawn.items()})


def fragment(name: str, slot: Slot, value: Any, said: str, chance: random.Random) -> str:
    """The words for one argument."""
    words = name.replace("_", " ")
    if slot.kind == "flag":
        return chance.choice(slot.says) if "{}" not in slot.says[0] else chance.choice(FLAGS).format(words)
    if chance.random() < 0.06:
        return chance.choice(("with {} = {}", "with {} {}", "where {} is {}")).format(words, said)
    return chance.choice(slot.says).format(said)


def _listed(drawn: dict[str, tuple[Any, str]]) -> str:
    pairs = [f"{name.replace('_', ' ')} {'yes' if value is True else said}" for name, (value, said) in drawn.items()]
    return ", ".join(pairs)


def _framed(spec: Spec, fragments: list[str], listed: str, chance: random.Random, bare: bool) -> str:
    verb = chance.choice(spec.verbs)
    frames: tuple[str, ...] = COMMANDS[:1] if bare else COMMANDS
    if not bare and verb.split()[0] in KNOWING and spec.object.split()[0] in ("the", "a", "an", "my"):
        frames = frames + QUESTIONS * 2
    front = fragments[0] if fragments else ""
    usable = [
        frame
        for frame in frames
        if (fragments or not {"{list}", "{Front}"} & set(_slots(frame)))
        and ("{Front}" not in frame or len(fragments) == 1)
    ]
    text = chance.choice(usable).format(
        verb=verb,
        Verb=verb[:1].upper() + verb[1:],
        object=spec.object,
        tail=_joined(fragments, chance),
        list=listed,
        Front=front[:1].upper() + front[1:],
    )
    return text if bare or chance.random() > 0.15 else chance.choice(BEFORE) + text


def _slots(frame: str) -> list[str]:
    return [word for word in ("{list}", "{Front}") if word in frame]


def _joined(fragments: list[str], chance: random.Random) -> str:
    if not fragments:
        return ""
    if len(fragments) > 2 and chance.random() < 0.4:
        return f" {', '.join(fragments[:-1])} and {fragments[-1]}"
    return " " + chance.choice((" ", ", ")).join(fragments)
