"""Tools with what is needed to ask for them: composed of the shipped domains, or read from any tools schema.

It knows tools and the words for their arguments, not conversations.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mantus.data.conversations.synthesis import kinds
from mantus.data.conversations.values import Values

DOMAINS = Path(__file__).parent.parent / "defaults" / "domains.yaml"
Tool = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Slot:
    """An argument: how its values are drawn, and the words around them in a request."""

    kind: str
    """Of kinds.py; empty: drawn from `schema`."""
    about: str
    says: tuple[str, ...]
    schema: dict[str, Any]

    def draw(self, values: Values, chance: random.Random) -> kinds.Drawn:
        """A value and how it is said."""
        from mantus.data.conversations.synthesis.sampling import sample

        return kinds.draw(self.kind, values, chance) if self.kind else sample(self.schema, self.about, values, chance)


@dataclass(frozen=True, slots=True)
class Spec:
    """A tool, its domain, the words for what it does, and its arguments."""

    domain: str
    name: str
    description: str
    verbs: tuple[str, ...]
    object: str
    slots: dict[str, Slot]
    required: tuple[str, ...]
    base: str = ""
    """What `object` was before a word narrowed it (twins.py)."""

    @property
    def key(self) -> str:
        """What the tool does: tools that only look different have the same."""
        return f"{self.domain}: {self.base or self.object}"

    def tool(self) -> Tool:
        """In OpenAI's shape."""
        parameters = {
            "type": "object",
            "properties": {
                name: {**slot.schema, **({"description": slot.about} if slot.about else {})}
                for name, slot in self.slots.items()
            },
            "required": list(self.required),
        }
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class Action:
    """What can be done in a domain: many tools may do it, with other names and arguments."""

    domain: str
    verbs: tuple[str, ...]
    object: str
    slots: dict[str, Slot]
    optional: frozenset[str]


def read_actions(path: Path = DOMAINS) -> list[Action]:
    """The actions of a domains file. ValueError names what is wrong in it."""
    found = []
    for domain in yaml.safe_load(path.read_text(encoding="utf-8")):
        slots = {key: _slot(text, f"{path.name}: {domain['domain']}.{key}") for key, text in domain["values"].items()}
        for text in domain["actions"]:
            verbs, thing, keys = text.split("|")
            names = [key.rstrip("?") for key in keys.split()]
            if unknown := sorted(set(names) - set(slots)):
                raise ValueError(f"{path.name}: {domain['domain']}: {text!r}: no value is called {unknown[0]!r}")
            optional = frozenset(key.rstrip("?") for key in keys.split() if key.endswith("?"))
            chosen = {name: slots[name] for name in names}
            found.append(Action(domain["domain"], tuple(verbs.split("/")), thing, chosen, optional))
    return found


def _slot(text: str, where: str) -> Slot:
    kind, about, says = text.split("|")
    if kind.split(":")[0] not in {*kinds.KINDS, "enum"}:
        raise ValueError(f"{where}: no kind of values is called {kind!r}; there are {', '.join(kinds.KINDS)}")
    return Slot(kind, about, tuple(says.split(";")), kinds.shape(kind))


def compose(action: Action, chance: random.Random) -> Spec:
    """A tool that does an action: a name in some style, a description, and some of the optional arguments."""
    kept = [key for key in action.slots if key not in action.optional or chance.random() < 0.7]
    slots = {_styled(key, chance): key for key in kept}
    verb = chance.choice(action.verbs)
    described = {name: _described(action.slots[key], key in action.optional, chance) for name, key in slots.items()}
    required = tuple(name for name, key in slots.items() if key not in action.optional)
    return Spec(
        action.domain,
        _name(verb, action.object, action.domain, chance),
        _description(verb, action.object, [key.replace("_", " ") for key in kept], chance),
        action.verbs,
        action.object,
        described,
        required,
    )


def _styled(key: str, chance: random.Random) -> str:
    if chance.random() < 0.12 and "_" in key:
        head, *rest = key.split("_")
        return head + "".join(word.capitalize() for word in rest)
    return key


def _described(slot: Slot, optional: bool, chance: random.Random) -> Slot:
    """Often with what happens when it is left out, at times without a description."""
    about = slot.about + chance.choice(("", "."))
    schema = slot.schema
    if optional and slot.kind.startswith("enum:") and chance.random() < 0.5:
        default = chance.choice(schema["enum"])
        about = f"{about.rstrip('.')} (default: {default})"
        schema = {**schema, "default": default} if chance.random() < 0.5 else schema
    elif optional and chance.random() < 0.4:
        about = f"{about.rstrip('.')}. Optional."
    return Slot(slot.kind, about if chance.random() < 0.93 else "", slot.says, schema)


STOP = {"a", "an", "the", "of", "to", "in", "for", "my", "that", "is", "how", "whether", "what", "from", "up", "on"}


def _name(verb: str, thing: str, domain: str, chance: random.Random) -> str:
    words = [word for word in re.findall(r"[a-z]+", thing.lower()) if word not in STOP]
    words = words if len(words) <= 3 else words[: chance.randint(2, 3)]
    head = verb.split()[0]
    style = chance.random()
    if style < 0.5:
        return "_".join([head, *words])
    if style < 0.62:
        return head + "".join(word.capitalize() for word in words)
    if style < 0.75:
        return f"{domain}_{head}_{words[-1]}"
    if style < 0.9:
        return f"{domain}.{'_'.join([head, *words])}"
    return "_".join([*words, chance.choice((head, "tool", "service", "info"))])


def _description(verb: str, thing: str, keys: list[str], chance: random.Random) -> str:
    said = verb.capitalize() if chance.random() < 0.6 else _third_person(verb)
    listed = enumerated(keys)
    tail = chance.choice(
        ("", "", f" given {listed}", f" based on {listed}", f" for the given {keys[0]}" if keys else "")
    )
    return f"{said} {thing}{tail if keys else ''}."


def enumerated(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _third_person(verb: str) -> str:
    head, *rest = verb.split()
    ending = "es" if head.endswith(("s", "sh", "ch", "x", "o")) else "s"
    head = head[:-1] + "ies" if head.endswith("y") and head[-2:-1] not in "aeiou" else head + ending
    return " ".join([head.capitalize(), *rest])


VERB = re.compile(r"^(?P<verb>[A-Za-z]+) (?P<rest>.+)$")
END = re.compile(r"\s(?:given|based on|using|with|for|from|by|when|if|that|which|via|according)\s.*$|[.;:(].*$")


def from_tool(tool: Tool, domain: str) -> Spec:
    """A tool of a schema, its words taken from its name and description."""
    function = tool["function"]
    parameters = function.get("parameters") or {}
    required = tuple(parameters.get("required", ()))
    slots = {
        name: Slot("", shape.get("description", ""), _generic(name), shape_without(shape))
        for name, shape in parameters.get("properties", {}).items()
    }
    verb, thing = _intent(function)
    return Spec(domain, function["name"], function.get("description") or "", (verb,), thing, slots, required)


def shape_without(shape: dict[str, Any]) -> dict[str, Any]:
    """A schema without its own description, which the slot holds."""
    return {key: value for key, value in shape.items() if key != "description"}


def _intent(function: dict[str, Any]) -> tuple[str, str]:
    """A verb and what it is done to, from the description, else from the name."""
    text = END.sub("", function.get("description") or "").strip()
    match = VERB.match(text)
    if match is None or len(text.split()) < 2:
        words = re.sub(r"([a-z])([A-Z])", r"\1 \2", function["name"]).replace("_", " ").replace(".", " ").split()
        return words[0].lower(), " ".join(words[1:]).lower() or "it"
    verb = match["verb"].lower()
    if verb.endswith("ies"):
        verb = verb[:-3] + "y"
    elif verb.endswith(("ches", "shes", "sses", "xes")):
        verb = verb[:-2]
    elif verb.endswith("s") and not verb.endswith("ss"):
        verb = verb[:-1]
    return verb, match["rest"]


def _generic(name: str) -> tuple[str, ...]:
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).replace("_", " ").lower()
    return (f"with {words} {{}}", f"where the {words} is {{}}", f"and the {words} should be {{}}", f"({words}: {{}})")


def distinct(specs: Iterator[Spec], wanted: int, tries: int = 20) -> list[Spec]:
    """The first `wanted` specs with different names, as far as `tries` times as many give them."""
    found: dict[str, Spec] = {}
    for _ in range(wanted * tries):
        if len(found) >= wanted:
            break
        spec = next(specs)
        found.setdefault(spec.name, spec)
    return list(found.values())
