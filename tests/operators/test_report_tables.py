from __future__ import annotations

from decimal import Decimal

import pytest

from entitlement_gate.operators.reports import Bar, Cell, Line, Page, Table, printable, render

ROWS = (
    (Cell("API Calls", "good"), Cell("950 of 1200 calls", bar=Bar(Decimal(950), Decimal(1200)))),
    ("priority support for everybody who asks", ""),
)
TABLE = Table(("NAME", "LEFT"), ROWS)


def test_a_table_that_fits_is_as_wide_as_its_text():
    assert render((TABLE,), Page(80)) == (
        "NAME                                     LEFT\n"
        "API Calls                                ████████░░ 950 of 1200 calls\n"
        "priority support for everybody who asks\n"
    )


def test_a_table_that_does_not_fit_breaks_between_words():
    assert render((TABLE,), Page(40)).splitlines() == [
        "NAME                 LEFT",
        "API Calls            ████████░░ 950 of",
        "                     1200 calls",
        "priority support",
        "for everybody who",
        "asks",
    ]


def test_a_table_that_cannot_fit_breaks_words():
    text = render((Table(("ID",), (("x" * 30,),)),), Page(20))
    assert text.splitlines() == ["ID", "x" * 20, "x" * 10]
    assert max(map(len, render((Table(("A", "B"), (("x" * 30, "y" * 30),)),), Page(5)).splitlines())) == 14


def test_bars_are_longer_where_there_is_room_and_plain_where_signs_are_few():
    assert "█████████████████░░░" not in render((TABLE,), Page(119))
    assert "████████████████░░░░" in render((TABLE,), Page(200))
    assert "########.. 950" in render((TABLE,), Page(80, can_draw=False))


@pytest.mark.parametrize(
    ("part", "whole", "drawn"),
    [(0, 5, "░░░░"), (5, 5, "████"), (7, 5, "████"), (-1, 5, "░░░░"), (1, 0, "████"), (0, 0, "░░░░"), (0, -1, "░░░░")],
)
def test_a_bar_is_never_longer_or_shorter_than_itself(part, whole, drawn):
    text = render((Table(("L",), ((Cell("x", bar=Bar(Decimal(part), Decimal(whole))),),)),), Page(80))
    assert drawn[0] * 10 in text


def test_a_little_is_not_nothing_and_nearly_all_is_not_all():
    for part, drawn in ((1, "█░░░░░░░░░"), (999, "█████████░")):
        assert drawn in render((Table(("L",), ((Cell("", bar=Bar(Decimal(part), Decimal(1000))),),)),), Page(80))


def test_paint_does_not_disturb_the_columns():
    page = Page(80, lambda tone, text: f"<{tone}>{text}</>" if tone else text)
    lines = render((TABLE, Line("done", "good")), page).splitlines()
    assert lines[0] == "<heading>NAME</>                                     <heading>LEFT</>"
    assert lines[1].startswith("<good>API Calls</>                                ███")
    assert lines[-1] == "<good>done</>"


def test_what_billing_sends_cannot_move_the_cursor():
    assert printable("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\nc"
    assert printable("größe ✓") == "größe ✓"
    assert render((Line("a\rb"),), Page(80)) == "a\\rb\n"


def test_wide_signs_count_twice_and_combining_ones_not_at_all():
    text = render((Table(("N", "M"), (("日本", "x"), ("e\u0301", "y"))),), Page(80))
    assert text.splitlines() == ["N     M", "日本  x", "e\u0301     y"]


def test_paragraphs_are_wrapped_and_indented():
    assert render((Line("aaaa bbbb cccc", indent=2),), Page(12)) == "  aaaa bbbb\n  cccc\n"
    assert render((Line(""),), Page(12)) == "\n"
