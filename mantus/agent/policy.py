"""Decide which calls may run by themselves, from what a conversation has read so far.

It knows effects and what tools said, not how a call is run nor who is asked.
"""

from mantus.agent.tools import Effect, Tool, coerce
from mantus.text.calls import Call, parse


class Policy:
    """What one conversation has taken in, and what that forbids.

    Private data, text that nobody vouches for, and a way out must not meet unseen: after a tool that reads, the network
    needs approval; after a tool that brings text from the network, so does whatever writes or uses the network. A call
    that stands word for word in a tool's output was not made by the model but copied, and needs approval always.
    """

    def __init__(self, ask_for: frozenset[Effect] = frozenset()) -> None:
        """ask_for: effects that always need approval."""
        self.ask_for = ask_for
        self.seen: set[Effect] = set()
        self._quoted: list[Call] = []

    def objection(self, tool: Tool, call: Call) -> str:
        """Why the call needs approval; '' when it may run."""
        if tool.effects & self.ask_for:
            return f"it {' and '.join(sorted(tool.effects & self.ask_for))}"
        if any(_is_same(tool, call, quoted) for quoted in self._quoted):
            return "the call stands in what a tool has said"
        if Effect.NETWORK in self.seen and tool.effects & {Effect.WRITES, Effect.NETWORK}:
            return "text from the network has been read"
        if Effect.READS in self.seen and Effect.NETWORK in tool.effects:
            return "private data has been read"
        return ""

    def note(self, tool: Tool, output: str) -> None:
        """A tool has run, well or not, and said something."""
        self.seen |= tool.effects
        self._quoted += [call for call in parse(output).calls if isinstance(call, Call)]


def _is_same(tool: Tool, call: Call, quoted: Call) -> bool:
    """Whether two calls do the same, however their numbers are written."""
    given, copied = (coerce(one.arguments, tool.parameters) for one in (call, quoted))
    return call.name == quoted.name and given == copied
