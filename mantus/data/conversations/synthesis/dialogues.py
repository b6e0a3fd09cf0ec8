"""Whole conversations about tools: one call or several, none that fits, one argument missing, results, mended errors.

It knows tools, requests and turns, not files.
"""

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mantus.data.conversations.synthesis.requests import Request, request
from mantus.data.conversations.synthesis.specs import Spec, enumerated
from mantus.data.conversations.synthesis.twins import twins
from mantus.data.conversations.values import Values, made_up, number
from mantus.text.calls import Call
from mantus.text.chat import asking, calling, giving, saying

Row = dict[str, Any]
MIX = {
    "simple": 34,
    "multiple": 20,
    "parallel": 9,
    "parallel_multiple": 7,
    "irrelevance": 15,
    "missing_parameter": 4,
    "result": 5,
    "two_steps": 3,
    "repair": 3,
}
"""Kinds of conversations and their weights. `repair`: the tool refuses a misspelt value, and is called again."""
UNFIT = {"twin": 22, "near": 32, "about": 18, "far": 14, "off_topic": 14}
"""Where nothing fits: the tool for another kind of thing, tools of the same domain, a question about what the tool
does, tools of other domains, and questions about anything."""
TWINS, ALL_MISSING, LETTERS = 0.2, 0.5, 0.25
"""Shares: tools narrowed by a word; requests without any value; letters in the place of numbers (`for n nights`)."""
NUMBERS = ("integer", "number")
REFUSALS = (
    "I cannot {verb} {object} with the tools that I have.",
    "None of the tools on offer can {verb} {object}.",
    "There is no tool for that here.",
    "I have no tool for that.",
    "The tools that I was given do not fit this request.",
)
OFF_TOPIC = (
    "What is the capital of {country}?",
    "Who wrote {title}?",
    "Explain {phrase} in simple words.",
    "Why is the sky blue over {city}?",
    "How tall is {person}?",
    "Tell me a joke about {phrase}.",
    "What does the word {word} mean?",
    "Is {city} older than {country}?",
    "How many people live in {city}?",
    "When was {person} born?",
    "Which river flows through {city}?",
    "What language do they speak in {country}?",
    "Can {count} be divided by {small}?",
    "How far is {city} from {country}?",
    "Is {word} a noun or a verb?",
    "Give me three reasons to visit {city}.",
    "What happens when iron rusts for {count} days?",
    "Sum up {title} in one sentence.",
    "Which of {small} and {count} is larger?",
    "How does {person} spell that name?",
    "What rhymes with {word}?",
    "Why did {country} change its flag?",
    "What colour do you get from {small} parts of blue and one of yellow?",
)
ABOUT = (
    "Why do people {verb} {object}?",
    "What should I know before I {verb} {object}?",
    "Who was the first to {verb} {object}?",
    "Is it hard to {verb} {object}?",
    "What does it mean to {verb} {object}?",
    "Write a poem about somebody who wants to {verb} {object}.",
    "What is the history behind {object}?",
    "What are the risks when you {verb} {object}?",
    "How did people {verb} {object} a hundred years ago?",
    "Which laws apply to those who {verb} {object}?",
    "Translate 'I want to {verb} {object}' into Spanish.",
    "How can somebody get better at this: {verb} {object}?",
)
"""Questions about what a tool does, which it does not answer."""
ASKS = ("Which {} should I use?", "Please tell me the {}.", "I need the {} for that.", "What is the {}?")
SECOND = ("Then {}", "After that, {}", "Also, {}", "And {}", "In addition, {}")
ANSWERS = ("The result is {}.", "Here it is: {}.", "{}", "I got {}.")


@dataclass(frozen=True, slots=True)
class Settings:
    """How conversations are made."""

    max_offered: int = 4
    masked: float = 0.1
    """Share of conversations whose tools and arguments have random names, so that descriptions must be read."""
    mix: dict[str, int] = field(default_factory=lambda: dict(MIX))


def mix(changes: Mapping[str, int]) -> dict[str, int]:
    """The usual weights with these changes. ValueError names a kind that is none, or a weight below 0."""
    wrong = [f"{kind}: {weight}" for kind, weight in changes.items() if kind not in MIX or weight < 0]
    made = {**MIX, **changes}
    if wrong or not any(made.values()):
        told = wrong[0] if wrong else "all are 0"
        raise ValueError(f"{told}; give weights from 0 on for some of {', '.join(MIX)}")
    return made


class Dialogues:
    """Endless conversations about `tools`; only they are called, `others` may be on offer beside them."""

    def __init__(
        self, tools: Sequence[Spec], others: Sequence[Spec], values: Values, chance: random.Random, settings: Settings
    ) -> None:
        assert tools
        self.tools, self.others = list(tools), [*tools, *others]
        self.values, self.chance, self.settings = values, chance, settings
        self.by_domain: dict[str, list[Spec]] = {}
        for spec in self.others:
            self.by_domain.setdefault(spec.domain, []).append(spec)

    def __iter__(self) -> Iterator[Row]:
        kinds, weights = list(self.settings.mix), list(self.settings.mix.values())
        makers: dict[str, Callable[[], tuple[list[Row], list[Spec]]]] = {
            kind: getattr(self, f"_{kind}") for kind in kinds
        }
        while True:
            kind = self.chance.choices(kinds, weights)[0]
            self.masks = Masks(self.chance) if self.chance.random() < self.settings.masked else None
            messages, offered = makers[kind]()
            yield {
                "messages": messages,
                "tools": [spec.tool() for spec in offered],
                "source": "mantus",
                "license": "Apache-2.0",
                "category": kind,
            }

    def _simple(self) -> tuple[list[Row], list[Spec]]:
        asked, spec = self._asked()
        return [asking(asked.text), calling(asked.call)], [spec]

    def _multiple(self) -> tuple[list[Row], list[Spec]]:
        spec, twin = twins(self.chance.choice(self.tools), self.chance)
        if self.chance.random() > TWINS:
            asked, spec = self._asked()
            return [asking(asked.text), calling(asked.call)], self._offer([spec], least=1)
        asked = request(self._masked(spec), self.values, self.chance)
        return [asking(asked.text), calling(asked.call)], self._offer([self._masked(spec), self._masked(twin)])

    def _parallel(self) -> tuple[list[Row], list[Spec]]:
        spec = self._masked(self.chance.choice(self.tools))
        texts, calls = self._several([spec] * self.chance.choice((2, 2, 3)))
        return [asking(texts), calling(*calls)], [spec]

    def _parallel_multiple(self) -> tuple[list[Row], list[Spec]]:
        first = self.chance.choice(self.tools)
        near = [spec for spec in self.by_domain[first.domain] if spec.key != first.key and spec in self.tools]
        second = self.chance.choice(near if near and self.chance.random() < 0.6 else self.tools)
        specs = [self._masked(first)] + ([self._masked(second)] if second.name != first.name else [])
        texts, calls = self._several(specs)
        return [asking(texts), calling(*calls)], self._offer(specs)

    def _irrelevance(self) -> tuple[list[Row], list[Spec]]:
        """A request for a tool that is not on offer, though one that sounds alike may be, or for none at all."""
        wanted = self.chance.choice(self.tools)
        way = self.chance.choices(list(UNFIT), list(UNFIT.values()))[0]
        near = [spec for spec in self.by_domain[wanted.domain] if spec.key != wanted.key]
        if way in ("twin", "near") and near:
            pool = [spec for spec in near if spec.slots.keys() & wanted.slots.keys()] or near
        else:
            pool = [spec for spec in self.others if spec.domain != wanted.domain] or near
        many = self.chance.choice((1, 1, 1, self.settings.max_offered))
        offered = self.chance.sample(pool, min(len(pool), many))
        if way == "about":
            offered = [wanted, *offered[1:]]
        elif way == "twin":
            wanted, twin = twins(wanted, self.chance)
            offered = [twin, *offered[1:]]
        self.chance.shuffle(offered)
        words = {"verb": self.chance.choice(wanted.verbs), "object": wanted.object}
        answer = self.chance.choice(REFUSALS[2:])
        if way == "about":
            text = self.chance.choice(ABOUT).format(**words)
        elif way == "off_topic":
            text = self._off_topic()
        else:
            text = request(wanted, self.values, self.chance).text
            answer = self.chance.choice(REFUSALS).format(**words)
        return [asking(text), saying(answer)], [self._masked(spec) for spec in self._distinct(offered)]

    def _missing_parameter(self) -> tuple[list[Row], list[Spec]]:
        """One argument is not said, or none is: the assistant asks for what is missing, and calls once it is told."""
        spec = self._masked(self.chance.choice([spec for spec in self.tools if spec.required] or self.tools))
        whole = request(spec, self.values, self.chance)
        left = [name for name in spec.required if whole.said.get(name)]
        if not left:
            return [asking(whole.text), calling(whole.call)], [spec]
        gone = left if self.chance.random() < ALL_MISSING else [self.chance.choice(left)]
        letters = self.chance.random() < LETTERS
        asked = request(
            spec, self.values, self.chance, {name: self._letter(spec, name) if letters else "" for name in gone}
        )
        arguments = {key: (whole if key in gone else asked).call.arguments[key]
                     for key in spec.slots if key in gone or key in asked.call.arguments}  # fmt: skip
        names = [self._spoken(spec, name) for name in gone]
        question = self.chance.choice(ASKS if len(gone) == 1 else ASKS[1:3]).format(enumerated(names))
        told = [whole.said[name] if len(gone) == 1 else f"{words} {whole.said[name]}"
                for name, words in zip(gone, names, strict=True)]  # fmt: skip
        turns = [asking(asked.text), saying(question), asking(", ".join(told)), calling(Call(spec.name, arguments))]
        return turns, [spec]

    def _letter(self, spec: Spec, name: str) -> str:
        """What stands for a number that is not known yet; nothing for what is no number."""
        return self.chance.choice("abcdhknpqrtuvwxyz") if spec.slots[name].schema.get("type") in NUMBERS else ""

    def _spoken(self, spec: Spec, name: str) -> str:
        """An argument in words: its name, or what it is about where the name says nothing."""
        return name.replace("_", " ") if self.masks is None else spec.slots[name].about.rstrip(".").lower() or name

    def _result(self) -> tuple[list[Row], list[Spec]]:
        asked, spec = self._asked()
        result, answer = self._outcome()
        return [asking(asked.text), calling(asked.call), giving(result), saying(answer)], self._offer([spec])

    def _two_steps(self) -> tuple[list[Row], list[Spec]]:
        """Two requests in one, done one after the other."""
        first, second = self._pair()
        begin, then = (request(spec, self.values, self.chance, bare=True) for spec in (first, second))
        one, _ = self._outcome()
        two, answer = self._outcome()
        said = f"{begin.text} {self.chance.choice(('Then', 'After that,', 'When that is done,'))} {_lower(then.text)}"
        turns = [asking(said), calling(begin.call), giving(one), calling(then.call), giving(two), saying(answer)]
        return turns, self._offer([first, second])

    def _repair(self) -> tuple[list[Row], list[Spec]]:
        """The tool does not know a value and says what it may have been: called again with that."""
        asked, spec = self._asked()
        names = [name for name, value in asked.call.arguments.items() if isinstance(value, str) and len(value) > 3]
        if not names:
            return self._result()
        name = self.chance.choice(names)
        right = asked.call.arguments[name]
        wrong = right[:2] + right[3:]
        if "enum" in spec.slots[name].schema or asked.text.count(right) != 1:
            return self._result()
        first = Call(spec.name, {**asked.call.arguments, name: wrong})
        error = json.dumps({"error": f"unknown {name.replace('_', ' ')} {wrong!r}; did you mean {right!r}?"})
        result, answer = self._outcome()
        text = asked.text.replace(right, wrong)
        turns = [asking(text), calling(first), giving(error), calling(asked.call), giving(result), saying(answer)]
        return turns, self._offer([spec])

    def _asked(self) -> tuple[Request, Spec]:
        spec = self.chance.choice(self.tools)
        if self.chance.random() < TWINS:
            spec, _ = twins(spec, self.chance)
        return request(self._masked(spec), self.values, self.chance), self._masked(spec)

    def _pair(self) -> tuple[Spec, Spec]:
        first = self.chance.choice(self.tools)
        others = [spec for spec in self.tools if spec.name != first.name] or [first]
        return self._masked(first), self._masked(self.chance.choice(others))

    def _several(self, specs: Sequence[Spec]) -> tuple[str, list[Call]]:
        """Requests joined in one text, each with its own values."""
        asked = [request(spec, self.values, self.chance, bare=True) for spec in specs]
        parts = [asked[0].text] + [self.chance.choice(SECOND).format(_lower(item.text)) for item in asked[1:]]
        return " ".join(parts), [item.call for item in asked]

    def _offer(self, needed: list[Spec], least: int = 0) -> list[Spec]:
        """The needed tools among others: of the same domain rather than of another, in any order."""
        free = max(0, self.settings.max_offered - len(needed))
        many = self.chance.randint(min(least, free), free)
        taken = {spec.key for spec in needed}
        near = [spec for spec in self.by_domain.get(needed[0].domain, []) if spec.key not in taken]
        chosen = [self.chance.choice(near if near and self.chance.random() < 0.6 else self.others) for _ in range(many)]
        others = [spec for spec in chosen if spec.key not in taken]
        offered = self._distinct([*needed, *map(self._masked, others)])
        self.chance.shuffle(offered)
        return offered

    def _distinct(self, specs: Sequence[Spec]) -> list[Spec]:
        return list({spec.name: spec for spec in reversed(specs)}.values())

    def _outcome(self) -> tuple[str, str]:
        """What a tool returned, and the answer made of it."""
        value = self.chance.choice(
            (number(self.chance), self.values.word(self.chance), self.values.phrase(self.chance, 3))
        )
        key = self.chance.choice(("result", "value", "status", "answer"))
        return json.dumps({key: value}), self.chance.choice(ANSWERS).format(value)

    def _off_topic(self) -> str:
        from mantus.data.conversations.synthesis.kinds import draw

        text = self.chance.choice(OFF_TOPIC)
        words = {
            kind: draw(kind, self.values, self.chance)[0] for kind in re.findall(r"{(\w+)}", text) if kind != "word"
        }
        return text.format(**words, word=made_up(self.chance))

    def _masked(self, spec: Spec) -> Spec:
        return self.masks.masked(spec) if self.masks else spec


class Masks:
    """Random names for tools and arguments, the same ones throughout a conversation."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.known: dict[str, Spec] = {}

    def masked(self, spec: Spec) -> Spec:
        """The tool under another name; what it does stays in its description."""
        if spec.name not in self.known:
            names = {name: f"{made_up(self.chance)}{index}" for index, name in enumerate(spec.slots)}
            slots = {names[name]: replace(slot, about=slot.about or name) for name, slot in spec.slots.items()}
            required = tuple(names[name] for name in spec.required)
            name = f"{made_up(self.chance)}_{len(self.known)}"
            self.known[spec.name] = self.known[name] = replace(spec, name=name, slots=slots, required=required)
        return self.known[spec.name]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
