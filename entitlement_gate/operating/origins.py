"""Whose a view is: the project's own, or a package's, such as the admin's. Never here: what gates it."""

from __future__ import annotations

import sys
from functools import cached_property, partial
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.views import View

from entitlement_gate.conf import urlconfs_in_settings
from entitlement_gate.rules import class_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Origins"]

_INSTALLED = frozenset({"site-packages", "dist-packages"})
# Views that show what the project gives them: whoever wrote the code, the content is the project's.
_GENERIC = ("django.views.generic.", "django.views.static", "django.contrib.flatpages.", "rest_framework.generics")
_SIGNING_IN = "django.contrib.auth.views"


class Origins:
    """Tells whose views are. A project that is installed itself is known by its URLs and its settings."""

    def is_own(self, view: Any, app_names: list[str]) -> bool:
        """Return whether a view is the project's: its code, a wrapper around it, or what it was given to show."""
        if "admin" in app_names:
            return False
        modules = list(_modules(view))
        if any(not self._is_packaged(module) or module.startswith(_GENERIC) for module in modules):
            return True
        is_given = bool(getattr(view, "view_initkwargs", None)) and not hasattr(view, "cls")
        return is_given and _SIGNING_IN not in modules

    def _is_packaged(self, module: str) -> bool:
        package = module.partition(".")[0]
        if package in ("django", "entitlement_gate"):  # also from a checkout; this library's views are few, and exempt
            return package == "django"
        file = getattr(sys.modules.get(module), "__file__", None)
        return file is not None and not _INSTALLED.isdisjoint(Path(file).parts) and package not in self._own_packages

    @cached_property
    def _own_packages(self) -> frozenset[str]:
        """The packages of the project, and what is installed together with them."""
        roots = {name for name in (*urlconfs_in_settings(), settings.SETTINGS_MODULE) if isinstance(name, str)}
        named = {root.partition(".")[0] for root in roots}
        holders = packages_distributions()
        own = {distribution for package in named for distribution in holders.get(package, ())}
        return frozenset(named | {package for package, by in holders.items() if not own.isdisjoint(by)})


def _modules(view: Any) -> Iterator[str]:
    """Yield the modules that a view's code stands in, from its outermost wrapper on; of a class, that of the class."""
    view_class = class_of(view)
    if view_class is not None:
        yield view_class.__module__
    while view is not None:
        while isinstance(view, partial):
            view = view.func
        code = getattr(view, "__func__", view)
        module = getattr(code, "__globals__", {}).get("__name__") or type(code).__module__
        if view_class is None or module != View.__module__:  # where `as_view()` makes functions for every class
            yield module
        view = getattr(view, "__wrapped__", None)
