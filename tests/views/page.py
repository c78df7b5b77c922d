"""Prints docs/reference/view-shapes.md: ``python -m tests.views.page > docs/reference/view-shapes.md``."""

import os
from itertools import product
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "view-shapes.md"

_HEAD = """\
# The shapes of a gated view

A gate stands in front of a view wherever a view can stand. Each ✓ below is a request through Django's WSGI or ASGI
handler to a sync or async view, with and without `EntitlementMiddleware`, by a customer who has the entitlement (let
in) and by one who has not (refused with the answer that the entitlement's reason calls for): {count} cells, all of
them tests in `tests/views/test_shapes.py`.
"""
_TAIL = """\
## The code of each shape

An async view is the same with `async def`. Imports are Django's own, and

```python
from entitlement_gate import requires_entitlement
from entitlement_gate.mixins import EntitlementRequiredMixin
```
"""
_NOTES = """\
## Worth knowing

- A gate enforces where it stands: what is above it goes first. Under `login_required` a stranger is sent to the login
  page; over it, the stranger is refused by the gate.
- `requires_entitlement` on a class gates `dispatch` of that class and of its subclasses, not of its parents. A subclass
  that overrides `dispatch` is gated from where it calls `super().dispatch()`. One that overrides a gated method, `get`
  say, without calling it has no gate there, and `entitlements gates` lists it as ungated.
- On an async class put several decorators into one `method_decorator([...], name="dispatch")`: Django's own decorators
  cannot tell that `dispatch` of an async class is async, unless a gate stands right below them.
- `view.entitlement_requirements` lists what a gate requires. Where several `method_decorator` gate the same method,
  `entitlement_gate.decorators.requirements_of(view)` tells them all.
"""


def page():
    """Return the page."""
    from tests.views.shapes import COLOURS, HANDLERS, MIDDLEWARES, SHAPES

    columns = list(product(COLOURS, HANDLERS, MIDDLEWARES))
    heads = [f"{colour}, {handler}, {middleware} middleware" for colour, handler, middleware in columns]
    lines = [
        _HEAD.format(count=len(SHAPES) * len(columns)),
        f"| shape | {' | '.join(heads)} |",
        f"| --- |{' :---: |' * len(heads)}",
        *(f"| [{shape.title}](#{shape.slug}) |{' ✓ |' * len(heads)}" for shape in SHAPES),
        f"\n{_TAIL}",
        *(f'<a id="{shape.slug}"></a>\n{_capital(shape.title)}:\n\n```python\n{shape.code}```\n' for shape in SHAPES),
        _NOTES,
    ]
    return "\n".join(lines)


def _capital(title):
    return title[0].upper() + title[1:]


if __name__ == "__main__":
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    print(page(), end="")  # noqa: T201 - printing it is what this file is for
