"""The 15 shapes of a gated view, as text that is run for the tests and printed on the page of the docs."""

from dataclasses import dataclass
from textwrap import dedent

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import cache_control
from django.views.decorators.csrf import csrf_exempt

from entitlement_gate import requires_entitlement
from entitlement_gate.mixins import EntitlementRequiredMixin

COLOURS = ("sync", "async")
HANDLERS = ("WSGI", "ASGI")
MIDDLEWARES = ("with", "without")


@dataclass(frozen=True)
class Shape:
    """A way to gate a view; the code defines ``view``."""

    slug: str
    title: str
    code: str

    def view(self, colour):
        """Run the code and return the view it defines, every ``def`` of a handler in the colour asked for."""
        code = self.code.replace("def ", "async def ") if colour == "async" else self.code
        names = {**_NAMES, "__name__": __name__}
        exec(compile(code, f"<{self.slug}, {colour}>", "exec"), names)
        return names["view"]


_NAMES = {
    named.__name__: named
    for named in (
        EntitlementRequiredMixin,
        HttpResponse,
        View,
        cache_control,
        csrf_exempt,
        login_required,
        method_decorator,
        requires_entitlement,
    )
}

_FUNCTION = """
def view(request):
    return HttpResponse("in")
"""
_METHOD = """
    def get(self, request):
        return HttpResponse("in")
"""


def _function(slug, title, *decorators):
    return Shape(slug, title, "\n".join(decorators) + _FUNCTION)


def _class(slug, title, head, tail="view = Reports.as_view()"):
    return Shape(slug, title, f"{dedent(head).strip()}{_METHOD}\n{dedent(tail).strip()}\n")


_GATE = '@requires_entitlement("reports")'

SHAPES = (
    _function("function", "a function", _GATE),
    _function("stacked", "stacked gates", _GATE, '@requires_entitlement("seats", 2)'),
    _class(
        "as-view",
        "`as_view()`",
        "class Reports(View):",
        'view = requires_entitlement("reports")(Reports.as_view())',
    ),
    _class("class", "a class", f"{_GATE}\nclass Reports(View):"),
    _class(
        "subclass",
        "a subclass of a gated class",
        f"""
        {_GATE}
        class Gated(View):
            pass


        class Reports(Gated):""",
    ),
    _class(
        "dispatch",
        "`method_decorator` on `dispatch`",
        '@method_decorator(requires_entitlement("reports"), name="dispatch")\nclass Reports(View):',
    ),
    _class(
        "dispatch-list",
        "`method_decorator` on `dispatch`, among others",
        """
        @method_decorator([login_required, requires_entitlement("reports"), csrf_exempt], name="dispatch")
        class Reports(View):""",
    ),
    Shape(
        "method",
        "`method_decorator` on a method",
        "class Reports(View):\n"
        '    @method_decorator(requires_entitlement("reports"))'
        f"{_METHOD}\nview = Reports.as_view()\n",
    ),
    Shape(
        "mixin",
        "the mixin",
        "class Reports(EntitlementRequiredMixin, View):\n"
        '    entitlement_required = "reports"\n'
        f"{_METHOD}\nview = Reports.as_view()\n",
    ),
    _function("under-csrf-exempt", "under `csrf_exempt`", "@csrf_exempt", _GATE),
    _function("over-csrf-exempt", "over `csrf_exempt`", _GATE, "@csrf_exempt"),
    _function("under-login-required", "under `login_required`", "@login_required", _GATE),
    _function("over-login-required", "over `login_required`", _GATE, "@login_required"),
    _function("under-cache-control", "under `cache_control`", "@cache_control(private=True)", _GATE),
    _function("over-cache-control", "over `cache_control`", _GATE, "@cache_control(private=True)"),
)
