"""The page by symptoms names every line that operators may search for, and no line that is never written."""

import ast
import re
from functools import cache

from tests.docs.pages import DOCS, ROOT, in_code, rows_of

PAGE = DOCS / "how-to" / "troubleshoot.md"
# Which argument of a call is the message.
MESSAGE = {"warning": 0, "error": 0, "exception": 0, "critical": 0, "note_warning": 1, "note_error": 1}
_WORDLESS = {"%s", "%s: %s"}  # told of in prose: what they say is another's text


@cache
def written():
    """Return the messages of all calls that log a warning or an error, as they are before they are filled in."""
    found = set()
    for path in (ROOT / "entitlement_gate").rglob("*.py"):
        tree = ast.parse(path.read_text())
        texts = {
            node.targets[0].id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for call in filter(_is_log_call, ast.walk(tree)):
            message = call.args[MESSAGE[call.func.attr]]
            if path.name == "failure_log.py":
                assert isinstance(message, ast.Name)  # it hands on what it was given
                continue
            text = message.value if isinstance(message, ast.Constant) else texts.get(getattr(message, "id", None))
            assert isinstance(text, str), f"{path.name}:{call.lineno}: a message that cannot be read here"
            found.add(text)
    return found


def _is_log_call(node):
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MESSAGE):
        return False
    holder = node.func.value
    return (holder.attr if isinstance(holder, ast.Attribute) else getattr(holder, "id", "")).endswith(("log", "logger"))


def documented():
    """Return what the first column of the tables of lines says, with something in place of what differs."""
    text = PAGE.read_text()
    lines = text[text.index("## Lines of the log") :]
    rows = [row for row in rows_of(PAGE) if len(row) == 3 and f"| {row[0]} |" in lines]
    return {line.replace("…", "it") for row in rows for line in in_code(row[0])}


def fits(message, line):
    return re.fullmatch(".+".join(re.escape(part) for part in re.split(r"%[sdr]", message)), line)


def test_every_line_of_a_warning_or_an_error_is_on_the_page():
    messages = written() - _WORDLESS
    assert len(messages) > 25
    assert {message for message in messages if not any(fits(message, line) for line in documented())} == set()


def test_every_line_on_the_page_is_written_somewhere():
    messages = written() - _WORDLESS
    assert {line for line in documented() if not any(fits(message, line) for message in messages)} == set()


def test_few_lines_have_no_words_of_their_own():
    assert {message for message in written() if not re.search(r"[a-z]{3}", message)} == _WORDLESS
