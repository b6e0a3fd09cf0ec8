"""Words around requests for the tools of the tools file. It knows no tools but those that begin a pair of steps."""

OPENINGS = ("Please: ", "Hey. ", "OK. ", "Now: ", "Next: ", "Well, ")
BEFORE_COMMANDS = ("Could you ", "Can you ", "I want you to ", "Be so kind and ", "Then ", "Now ")
COMMANDS = frozenset(
    """
    add calculate change check compute convert count create delete erase evaluate find get list look mail make note open
    plan play print put quote read remove save say schedule search send set show solve start store tell translate turn
    wake work write
    """.split()
)
"""Words that open a command: only these can stand behind "Could you"."""
STEP_STARTS = {
    "calculator": ["Compute {expression}", "Calculate {expression}", "Work out {expression}"],
    "file_read": ["Read {path}", "Read the file {path}", "Open {path}"],
}
JOINTS = (
    " and write the result to {}.",
    " and write the result to the file {}.",
    ", then save the result in {}.",
    " and put the result into {}.",
    " and save it in the file {}.",
)
