"""Commands as cron starts them: without streams, with streams that are broken or full, in any encoding."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from entitlement_gate.operators.billing import parse_ids
from entitlement_gate.operators.terminal import (
    Bar,
    Cell,
    LenientStream,
    Line,
    Screen,
    Table,
    decode_text,
    encode_source,
    printable,
    render,
)
from tests.operators.world import EMPTY, GRANTS, ONE, ORGANISATION, STRANGER, scenario

NAMES = ["Año nuevo", "naïve \\ 'quoted' \"twice\"", "日本語 ☃", "plain"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project over a scenario whose names no ASCII holds, and how to run a command in it."""
    place = tmp_path_factory.mktemp("project")
    extra = [{"name": name, "type": "Feature"} for name in NAMES]
    (place / "scenario.json").write_text(json.dumps(scenario(*GRANTS, *extra)))
    settings = {"BASE_URL": f"sandbox:{place / 'scenario.json'}", "CUSTOMER_ATTRIBUTE": "username"}
    (place / "cronned.py").write_text(f"from tests.settings import *\nENTITLEMENT_GATE = {settings!r}\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    environment |= {
        "DJANGO_SETTINGS_MODULE": "cronned",
        "PYTHONPATH": os.pathsep.join((str(place), str(Path.cwd()))),
        "ZENSKAR_BASE_URL": settings["BASE_URL"],
        "ZENSKAR_API_KEY": "key",
        "ZENSKAR_ORGANISATION": ORGANISATION,
    }

    def run(command, *, stdin=b"", **more):
        return subprocess.run(
            ["/bin/sh", "-c", command], input=stdin, capture_output=True, env={**environment, **more}, check=False,
            cwd=place, timeout=120,
        )  # fmt: skip

    return run


MANAGE = f"{sys.executable} -m django entitlements"
SCRIPT = f"{sys.executable} -m entitlement_gate.cli"
BOTH = pytest.mark.parametrize("door", [MANAGE, SCRIPT], ids=["manage.py", "entitlement-gate"])
ALLOWED, DENIED = f"check {ONE} sso", f"check {ONE} seats"


@BOTH
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (f"{ALLOWED} >&-", 2),
        (f"{ALLOWED} >&- 2>&-", 2),
        (f"{ALLOWED} 2>&-", 0),
        (f"{ALLOWED} 2>/dev/full", 0),
        (f"{ALLOWED} >/dev/full 2>/dev/full", 2),
        (f"{DENIED} 2>&-", 1),
        ("check nobody sso 2>&-", 2),
        ("check nobody sso 2>/dev/full", 2),
        ("check nobody sso --format json >&- 2>&-", 2),
        ("check 2>&-", 2),
        (f"doctor {ONE} >&- 2>&-", 2),
    ],
)
def test_the_exit_code_is_right_without_streams(project, door, command, code):
    done = project(f"{door} {command}")

    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("names >&- 2>&-", 2),
        ("gates >&- 2>&-", 2),
        (f"invalidate {ONE} 2>&-", 0),
        (f"invalidate {ONE} 2>/dev/full", 0),
        ("warm - <&-", 2),
        ("warm - <&- 2>&-", 2),
        ("warm missing.txt 2>&-", 2),
        ("warm --all 2>/dev/full", 0),
        ("ship --dead >&- 2>&-", 2),
        (f"gates 2>&-; {MANAGE} names {ONE} 2>&-", 0),
    ],
)
def test_the_exit_code_of_the_others_is_right_too(project, command, code):
    done = project(f"{MANAGE} {command}")

    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stdout + done.stderr


def test_a_traceback_that_was_asked_for_is_no_denial(project):
    done = project(f"{MANAGE} --traceback check nobody sso")

    assert done.returncode == 2
    assert b"CommandError: 'nobody' is no customer id" in done.stderr


def test_an_input_that_is_none_is_one_line(project):
    done = project(f"{MANAGE} warm - <&-")

    assert done.stderr.decode() == "CommandError: -: there is no input to read from\n"


BUG = "import sys; import entitlement_gate.cli as it; it.ask = None; "
DOORS = {
    "manage.py": "from django.core.management import execute_from_command_line as run; run(['', 'entitlements', *{}])",
    "entitlement-gate": "from entitlement_gate.cli import main; sys.exit(main({}))",
}


@pytest.mark.parametrize("door", DOORS)
def test_a_bug_is_no_denial(project, door):
    program = BUG + DOORS[door].format(["check", ONE, "sso"])
    done = project(f'{sys.executable} -c "{program}"')

    assert done.returncode == 2
    assert b"TypeError: 'NoneType' object is not callable" in done.stderr


ENCODINGS = ["ascii", "latin-1", "utf-8", "shift_jis"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_module_of_names_is_python_in_any_encoding(project, encoding):
    done = project(f"{MANAGE} names {ONE}", PYTHONIOENCODING=encoding)

    assert (done.returncode, done.stderr) == (0, b"")
    module = {}
    exec(compile(done.stdout, "names.py", "exec"), module)
    assert {member.value for member in module["Entitlements"]} >= set(NAMES)
    assert ast.parse(done.stdout)


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"LC_ALL": "POSIX"}]
)
def test_nor_does_the_locale_of_cron_matter(project, locale):
    assert project(f"{MANAGE} names {ONE}", **locale).returncode == 0
    assert project(f"{MANAGE} show {ONE}", **locale).returncode == 0


@BOTH
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("action", ["show {} --rows", "explain {} '日本語 ☃'"])
def test_every_answer_can_be_written_in_any_encoding(project, door, encoding, action):
    done = project(f"{door} {action.format(ONE)}", PYTHONIOENCODING=encoding)

    assert done.returncode in {0, 1}, done.stderr
    assert b"Traceback" not in done.stderr


# Files of ids


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "content",
    [
        MARK + f"{ONE}\n{EMPTY}\n".encode(),
        f"{ONE}\r\n{EMPTY}\r\n".encode(),
        MARK + f"{ONE}\r\n{EMPTY}".encode(),
        f"{ONE}\n".encode() + MARK + f"{EMPTY}\n".encode(),
        f"  {ONE}\t\n\u00a0{EMPTY}\u00a0\n\n  \n# Año\n".encode(),
        f"{ONE} # Año nuevo\r{EMPTY}\r".encode(),
    ],
    ids=["mark", "crlf", "mark and crlf", "joined", "blanks", "cr"],
)
def test_a_file_of_ids_is_read_however_it_was_made(project, tmp_path, content):
    path = tmp_path / "ids"
    path.write_bytes(content)
    done = project(f"{MANAGE} warm {path}; {MANAGE} warm -", stdin=content, PYTHONIOENCODING="ascii")

    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.count(b"2 fetched, 0 held before") == 2


@pytest.mark.parametrize("way", ["file", "stdin"])
def test_a_file_that_is_no_text_is_one_line(project, tmp_path, way):
    path = tmp_path / "ids"
    path.write_bytes(f"{ONE}\nA\xf1o\n".encode("latin-1"))
    name = path if way == "file" else "-"
    done = project(f"{MANAGE} warm {name}", stdin=path.read_bytes())

    assert (done.returncode, done.stderr.decode()) == (2, f"CommandError: {name}: no UTF-8 text\n")


def test_an_id_with_what_no_terminal_shows_is_told_of(project):
    done = project(f"{MANAGE} warm -", stdin="10000000\u200b-x\n".encode(), PYTHONIOENCODING="ascii")

    assert done.returncode == 1
    assert b"not to be had: 10000000\\u200b-x" in done.stderr


# The parts


def test_ids_are_read_without_marks():
    assert parse_ids([f"\ufeff{ONE}", f"{EMPTY}\ufeff", "\ufeff", f"\ufeff# {STRANGER}"]) == [ONE, EMPTY]


@pytest.mark.parametrize(
    ("encoding", "text"), [("utf-8", "é"), ("UTF8", "é"), ("latin-1", "\\xe9"), ("ascii", "\\xe9")]
)
def test_source_is_what_python_reads(encoding, text):
    assert encode_source("é", type("Stream", (), {"encoding": encoding})) == text


def test_what_is_no_text_is_refused():
    with pytest.raises(UnicodeError):
        decode_text(b"\xff")


class Broken:
    encoding = None

    def __init__(self, error):
        self.error = error

    def write(self, text):
        raise self.error


@pytest.mark.parametrize("stream", [None, Broken(OSError()), Broken(ValueError("closed")), Broken(BrokenPipeError())])
def test_notes_that_cannot_be_written_are_lost(stream):
    notes = LenientStream(stream)

    notes.write("é")
    notes.flush()
    assert not notes.isatty()
    assert notes.encoding == "utf-8"


ROWS = (
    (Cell("API Calls", "good"), Cell("950 of 1200 calls", bar=Bar(Decimal(950), Decimal(1200)))),
    ("priority support for everybody who asks", ""),
)
TABLE = Table(("NAME", "LEFT"), ROWS)


def test_a_table_that_fits_is_as_wide_as_its_text():
    assert render((TABLE,), Screen(80)) == (
        "NAME                                     LEFT\n"
        "API Calls                                ████████░░ 950 of 1200 calls\n"
        "priority support for everybody who asks\n"
    )


def test_a_table_that_does_not_fit_breaks_between_words():
    assert render((TABLE,), Screen(40)).splitlines() == [
        "NAME                 LEFT",
        "API Calls            ████████░░ 950 of",
        "                     1200 calls",
        "priority support",
        "for everybody who",
        "asks",
    ]


def test_a_table_that_cannot_fit_breaks_words():
    text = render((Table(("ID",), (("x" * 30,),)),), Screen(20))
    assert text.splitlines() == ["ID", "x" * 20, "x" * 10]
    assert max(map(len, render((Table(("A", "B"), (("x" * 30, "y" * 30),)),), Screen(5)).splitlines())) == 14


def test_bars_are_longer_where_there_is_room_and_plain_where_signs_are_few():
    assert "█████████████████░░░" not in render((TABLE,), Screen(119))
    assert "████████████████░░░░" in render((TABLE,), Screen(200))
    assert "########.. 950" in render((TABLE,), Screen(80, can_draw=False))


@pytest.mark.parametrize(
    ("part", "whole", "drawn"),
    [(0, 5, "░░░░"), (5, 5, "████"), (7, 5, "████"), (-1, 5, "░░░░"), (1, 0, "████"), (0, 0, "░░░░"), (0, -1, "░░░░")],
)
def test_a_bar_is_never_longer_or_shorter_than_itself(part, whole, drawn):
    text = render((Table(("L",), ((Cell("x", bar=Bar(Decimal(part), Decimal(whole))),),)),), Screen(80))
    assert drawn[0] * 10 in text


def test_a_little_is_not_nothing_and_nearly_all_is_not_all():
    for part, drawn in ((1, "█░░░░░░░░░"), (999, "█████████░")):
        assert drawn in render((Table(("L",), ((Cell("", bar=Bar(Decimal(part), Decimal(1000))),),)),), Screen(80))


def test_paint_does_not_disturb_the_columns():
    page = Screen(80, lambda tone, text: f"<{tone}>{text}</>" if tone else text)
    lines = render((TABLE, Line("done", "good")), page).splitlines()
    assert lines[0] == "<heading>NAME</>                                     <heading>LEFT</>"
    assert lines[1].startswith("<good>API Calls</>                                ███")
    assert lines[-1] == "<good>done</>"


def test_what_billing_sends_cannot_move_the_cursor():
    assert printable("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\nc"
    assert printable("größe ✓") == "größe ✓"
    assert render((Line("a\rb"),), Screen(80)) == "a\\rb\n"


def test_wide_signs_count_twice_and_combining_ones_not_at_all():
    text = render((Table(("N", "M"), (("日本", "x"), ("e\u0301", "y"))),), Screen(80))
    assert text.splitlines() == ["N     M", "日本  x", "e\u0301     y"]


def test_paragraphs_are_wrapped_and_indented():
    assert render((Line("aaaa bbbb cccc", indent=2),), Screen(12)) == "  aaaa bbbb\n  cccc\n"
    assert render((Line(""),), Screen(12)) == "\n"
