"""``@requires_entitlement``: a gate in front of a view, and what a gated view says of itself.

The wrapper takes the colour of the view when it decorates, keeps its name, attributes and signature, and lists its
requirement on ``view.entitlement_requirements``. Audits and checks read the marks that it leaves on whatever it gates:
the view, its class, a method of that, the function of an operation.

What a gate asks and answers is in ``guard``.
"""

from __future__ import annotations

import ast
import inspect
from functools import partial, wraps
from inspect import CO_VARARGS, isasyncgenfunction, isgeneratorfunction
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from asgiref.sync import iscoroutinefunction
from django.views import View

from entitlement_gate.guard import Guard
from entitlement_gate.ninja_operations import follow_operation
from entitlement_gate.resolvers import find_request
from entitlement_gate.url_rules import class_of, go_on_to_next_dispatch
from entitlement_gate.waiting import is_async_class

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from entitlement_gate.domain.requirements import Requirement

__all__ = [
    "Mark",
    "find_api_view_function",
    "find_operations",
    "find_ungated_methods",
    "is_dispatch_reached",
    "mark_view",
    "marks_of",
    "marks_of_permission",
    "marks_of_permissions",
    "requirements_of",
    "requires_entitlement",
    "targets_of",
]

# Of Django's views, and of Django REST framework's view sets.
_HANDLERS = frozenset(("dispatch", *View.http_method_names))
_HANDLERS |= {"list", "create", "retrieve", "update", "partial_update", "destroy"}
_OF_TASKS = ("apply_async", "delay", "enqueue")  # how queues name the way to hand a task over
# A mark's attribute begins so, and goes on with what it says: `method_decorator` merges the attributes of several gates
# into one dict, where `entitlement_requirements` of one overwrites that of the other.
_MARK = "_entitlement_gate "
_ITSELF = "_entitlement_gated_function"  # wrappers copy it, so it is compared with what carries it

ViewT = TypeVar("ViewT", bound="Callable[..., Any]")


def requires_entitlement(
    entitlement: str | Requirement,
    quantity: Any = None,
    *,
    consume: bool = False,
    key: Callable[..., Any] | None = None,
    customer: Callable[..., Any] | None = None,
    on_unavailable: str | None = None,
    on_denied: Callable[..., Any] | str | None = None,
) -> Callable[[ViewT], ViewT]:
    """Let only those in whose customer has the entitlement.

    Works on sync and async function views, on view classes, on ``as_view()``, and through ``method_decorator``.
    A gate enforces where it stands: a ``login_required`` above it goes first.

    Args:
        entitlement: a name, an alias, an entitlement id, or a ``Requirement``.
        quantity: how much is needed; a number, or ``(request) -> number``, sync or async.
        consume: use up the quantity, by default 1: held before the view, committed when the response is below 400 (a
            streaming one: when its body was sent), given back otherwise. What is no response counts where the view
            gives it back without raising, in Django Ninja by the response made of it. ``OPTIONS`` is checked and uses
            nothing up.
        key: ``(request) -> text``, sync or async: names what is used up, so that a retry of the same is counted once.
            From the application's data, never from a client's header.
        customer: ``(request) -> id`` in place of the resolver; sync or async.
        on_unavailable: ``"deny"`` or ``"allow"`` in place of ``ON_UNAVAILABLE``.
        on_denied: ``(request, decision) -> response``, sync or async; ``"raise"``; or a URL or URL name to redirect
            to: in place of ``DENIED_HANDLER``. Nobody is redirected for an outage or a mistake in the request.

    Raises:
        ValueError: an argument cannot work; at import, not at the first request.
        TypeError: an argument, or what is decorated, is of the wrong kind; as above.
    """
    options = {"consume": consume, "key": key, "customer": customer, "on_unavailable": on_unavailable}
    guard = Guard.of(entitlement, quantity, on_denied=on_denied, **options)

    def gate(view: ViewT) -> ViewT:
        gated: ViewT = (_gate_class if isinstance(view, type) else _gate_function)(guard, view)
        return gated

    return gate


def _gate_function(guard: Guard, view: Any) -> Any:
    why = _why_no_view(view)
    if why:
        raise TypeError(f"@requires_entitlement gates views, not {getattr(view, '__qualname__', repr(view))}: {why}")

    @wraps(view)
    def gated(*args: Any, **kwargs: Any) -> Any:
        request = find_request(args[0] if args else kwargs.get("request")) or _refuse_call(view)
        return guard.run(request, partial(view, *args, **kwargs))

    @wraps(view)
    async def gated_async(*args: Any, **kwargs: Any) -> Any:
        request = find_request(args[0] if args else kwargs.get("request")) or _refuse_call(view)
        return await guard.arun(request, partial(view, *args, **kwargs))

    function: Any = gated_async if _is_async(view) else gated
    setattr(function, _ITSELF, function)  # it takes a request first: it is no method
    return _mark(guard, view, follow_operation(function))


def _why_no_view(view: Any) -> str:
    """Return why a gate in front of this would let everybody in, or break it; an empty text for a view."""
    if not callable(view):
        return "it cannot be called"
    if any(test(part) for test in (isgeneratorfunction, isasyncgenfunction) for part in (view, type(view).__call__)):
        return "a generator is no answer that a gate could give or count; return a StreamingHttpResponse"
    if any(callable(getattr(view, name, None)) for name in _OF_TASKS):
        return "it is a task, which no request reaches; ask has_entitlement() in it"
    if hasattr(view, "_ninja_operation"):
        return "Django Ninja has it already and would go on calling it past the gate; put the gate below the operation"
    return "it is a method; use @method_decorator(requires_entitlement(…))" if _is_method(view) else ""


def _is_method(view: Any) -> bool:
    """Whether this is a function that waits for ``self``, perhaps under other decorators.

    What ``method_decorator`` hands over is bound to a view, in a ``partial``, and none; nor is what ``as_view()`` made,
    which carries what decorators wrote on ``dispatch``.
    """
    if class_of(view) is not None:
        return False
    while isinstance(view, FunctionType) and hasattr(view, "__wrapped__"):
        view = view.__wrapped__
    if not isinstance(view, FunctionType):
        return False
    code = view.__code__
    first, second, *_ = (*code.co_varnames[: code.co_argcount], "", "")
    takes_two = bool(second or code.co_flags & CO_VARARGS)  # itself, and the request
    return first == "self" or second == "request" or (takes_two and first != "request" and _is_handler(view))


def _is_handler(function: FunctionType) -> bool:
    """Whether this stands in the body of a class, under a name by which views answer requests."""
    *_, place, name = ("", *function.__qualname__.split("."))
    return place not in ("", "<locals>") and name in _HANDLERS


def _gate_class(guard: Guard, view: Any) -> Any:
    """Gate ``dispatch`` of this class, neither its parents' nor past its siblings in multiple inheritance."""
    if not issubclass(view, View):
        raise TypeError(f"@requires_entitlement gates views; {view.__name__} is a class that is none")
    dispatch = vars(view).get("dispatch") or go_on_to_next_dispatch(view)
    gated = _gate_dispatch(guard, dispatch, is_async=bool(view.view_is_async))
    view.dispatch = _mark(guard, view.dispatch, gated)
    return _mark(guard, view, view)


def _gate_dispatch(guard: Guard, dispatch: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    """Gate ``View.dispatch``, which looks sync on an async class but returns a coroutine.

    The gated one looks what it is, so that a ``login_required`` put above it by ``method_decorator`` works. A class
    without handlers leaves the colour to its subclasses.
    """

    @wraps(dispatch)
    def gated(self: View, *args: Any, **kwargs: Any) -> Any:
        request = find_request(args[0] if args else kwargs.get("request")) or _refuse_call(dispatch)
        run = guard.arun if is_async_class(type(self)) else guard.run
        return run(request, partial(dispatch, self, *args, **kwargs))

    @wraps(dispatch)
    async def gated_async(self: View, *args: Any, **kwargs: Any) -> Any:
        request = find_request(args[0] if args else kwargs.get("request")) or _refuse_call(dispatch)
        return await guard.arun(request, partial(dispatch, self, *args, **kwargs))

    return gated_async if is_async else gated


def _is_async(view: Callable[..., Any]) -> bool:
    """Whether calling the view gives a coroutine.

    ``method_decorator(…, name="dispatch")`` hands over ``dispatch`` bound to a view in a ``partial``, perhaps under
    other decorators: on an async class it looks sync and is not.
    """
    if iscoroutinefunction(view):
        return True
    inner: Any = view
    while inner is not None:
        bound_to = getattr(getattr(inner, "func", None), "__self__", None)
        if isinstance(bound_to, View):
            return is_async_class(type(bound_to)) and inner.func.__name__ == "dispatch"
        inner = getattr(inner, "__wrapped__", None)
    return False


def _refuse_call(view: Callable[..., Any]) -> NoReturn:
    raise TypeError(
        f"@requires_entitlement on {getattr(view, '__qualname__', view)!r}: the first argument is no request; "
        "on a method use method_decorator(requires_entitlement(…))"
    )


class Mark(NamedTuple):
    """What a gate says of itself: what it requires, None where only a request tells, and what it does with that."""

    requirement: Requirement | None
    consume: bool = False
    on_denied: str | None = None  # "raise", or where it leads whom it refuses

    @property
    def leads_to(self) -> str | None:
        """Where it leads whom it refuses."""
        return None if self.on_denied == "raise" else self.on_denied


def mark_view(view: Any, mark: Mark) -> None:
    """Write on a view, a class or a method that there is such a gate on it."""
    setattr(view, f"{_MARK}{mark!r}", mark)


def _mark(guard: Guard, view: Any, gated: Any) -> Any:
    """Write on a gated view what it requires beside what the view in it does, in the order that is enforced."""
    gated.entitlement_requirements = (guard.requirement, *getattr(view, "entitlement_requirements", ()))
    on_denied = guard.on_denied if isinstance(guard.on_denied, str) else None
    mark_view(gated, Mark(guard.requirement, guard.consume, on_denied))
    return gated


def marks_of(view: Any, methods: Sequence[str] = View.http_method_names, operation: Any = None) -> tuple[Mark, ...]:
    """Return the marks of all gates on a view, in answer to these methods: those of its class and its methods too.

    Of one of the operations behind the view: those of its own gates, and of those around the view.
    """
    parts = _parts(view, methods) if operation is None else (_unwrap_partials(view), *_gated_in(operation))
    attributes = (item for part in parts for item in getattr(part, "__dict__", {}).items())
    return tuple(dict.fromkeys(value for key, value in attributes if key.startswith(_MARK)))


def requirements_of(
    view: Any, methods: Sequence[str] = View.http_method_names, operation: Any = None
) -> tuple[Requirement, ...]:
    """Return what all gates on a view require, in answer to these methods, or of one of the operations behind it.

    ``view.entitlement_requirements`` is what the outermost decorated object requires; where several
    ``method_decorator`` gate one method, or a subclass overrides ``dispatch``, only this returns all.
    """
    listed = getattr(view if operation is None else _unwrap_partials(view), "entitlement_requirements", ())
    marked = (mark.requirement for mark in marks_of(view, methods, operation) if mark.requirement is not None)
    return tuple(dict.fromkeys((*listed, *marked)))


def marks_of_permissions(view: Any, methods: Sequence[str] = View.http_method_names) -> tuple[Mark, ...]:
    """Return what the permissions of a view of Django REST framework ask for, in answer to these methods.

    Those of ``as_view()`` and of an action go before those of the class.
    """
    initkwargs = getattr(view, "initkwargs", None) or getattr(view, "view_initkwargs", None) or {}
    permissions = initkwargs.get("permission_classes", getattr(class_of(view), "permission_classes", None)) or ()
    actions = getattr(view, "actions", None)
    if isinstance(actions, dict):
        handlers = [(method, actions[method]) for method in methods if method in actions]
    else:
        handlers = [(method, None) for method in methods]
    marks = (
        mark for permission in permissions for handler in handlers for mark in marks_of_permission(permission, *handler)
    )
    return tuple(dict.fromkeys(marks))


def marks_of_permission(permission: Any, method: str = "", action: str | None = None) -> Iterator[Mark]:
    """Yield what a permission asks for, perhaps at an HTTP method or an action of a view set alone.

    It lists that as ``entitlement_requirements``. Classes and instances alike, through ``&``, ``|`` and ``~``.
    """
    methods, actions = (getattr(permission, f"entitlement_{about}", ()) for about in ("methods", "actions"))
    is_about_method = not (method and methods) or method.upper() in methods
    if is_about_method and (not (action and actions) or action in actions):
        for requirement in getattr(permission, "entitlement_requirements", ()):
            yield Mark(requirement, getattr(permission, "entitlement_consume", False))
    for operand in ("op1", "op2", "op1_class", "op2_class"):
        if hasattr(permission, operand):
            yield from marks_of_permission(getattr(permission, operand), method, action)


def targets_of(view: Any, methods: Sequence[str] = View.http_method_names) -> tuple[str, ...]:
    """Return where the gates of a view lead whom they refuse (``on_denied``), in answer to these methods."""
    return tuple(dict.fromkeys(mark.leads_to for mark in marks_of(view, methods) if mark.leads_to is not None))


def find_ungated_methods(view: Any) -> tuple[str, ...]:
    """Return the methods of a view's class that a gate takes for functions: it would look for a request in ``self``."""
    view_class = class_of(view)
    if not isinstance(view_class, type) or find_api_view_function(view_class) is not None:
        return ()
    methods = {name: method for base in reversed(view_class.__mro__) for name, method in vars(base).items()}
    return tuple(name for name in dict.fromkeys(_names(view)) if _is_gated_function(methods.get(name)))


def _is_gated_function(method: Any) -> bool:
    while isinstance(method, FunctionType):
        if getattr(method, _ITSELF, None) is method:
            return True
        method = getattr(method, "__wrapped__", None)
    return False


def find_operations(callback: Any) -> tuple[Any, ...]:
    """Return the operations of Django Ninja behind a view: one URL may have one for each method.

    Each has ``methods``, ``view_func`` and ``auth_callbacks``. Ninja's view is a function that closes over them; other
    decorators may stand around it, with ``functools.wraps`` or without.
    """
    for function in _walk_functions(callback):
        for value in _values(function):
            operations = getattr(value, "operations", None)
            if isinstance(operations, list) and all(hasattr(each, "view_func") for each in operations):
                return tuple(operations)
    return ()


def _walk_functions(view: Any) -> Iterator[Any]:
    """Yield the functions that a view is made of, from its outermost wrapper on."""
    seen: set[int] = set()
    queue = [view]
    while queue:
        function = queue.pop(0)
        while isinstance(function, partial):
            function = function.func
        if isinstance(function, FunctionType) and id(function) not in seen:
            seen.add(id(function))
            yield function
            queue += _values(function)


def _values(function: FunctionType) -> list[Any]:
    """Return what a function closes over; a cell that is still empty holds nothing."""
    cells = function.__closure__ or ()
    return [cell.cell_contents for cell in cells if cell != CellType()]


def find_api_view_function(view_class: Any) -> Any:
    """Return the function that ``@api_view`` made this class of, Django REST framework's or adrf's; or None.

    Its handler, the same for every method, closes over the function and keeps none of its attributes.
    """
    for name in View.http_method_names:
        handler: Any = vars(view_class).get(name) if isinstance(view_class, type) else None
        if getattr(handler, "__qualname__", "").startswith("api_view."):
            return next(cell.cell_contents for cell in handler.__closure__)
    return None


def _parts(view: Any, methods: Sequence[str] = View.http_method_names) -> Iterator[Any]:
    """Yield the view, its class and whatever of the class answers requests; of a partial, what it calls."""
    yield view
    if isinstance(view, partial):
        yield from _parts(view.func, methods)
    view_class = view if isinstance(view, type) else class_of(view)
    if find_api_view_function(view_class) is not None:
        yield find_api_view_function(view_class)
    for operation in find_operations(view):
        if not {method.lower() for method in operation.methods}.isdisjoint(methods):
            yield from _gated_in(operation)
    for name in _names(view, methods):
        yield from _reached(view_class, name)


def _reached(view_class: Any, name: str) -> Iterator[Any]:
    """Yield a method of a class, and what it overrides as far as that is called: a gate on the rest stops nobody."""
    bases = _bases_with(view_class, name)
    for position, base in enumerate(bases, 1):
        yield vars(base)[name]
        if not (any(_is_marked(vars(other)[name]) for other in bases[position:]) and _goes_on(bases, position, name)):
            return


def is_dispatch_reached(view_class: type, base: type) -> bool:
    """Return whether a request comes by ``dispatch`` of this base, or is answered by one that overrides it."""
    bases = _bases_with(view_class, "dispatch")
    return all(_goes_on(bases, position, "dispatch") for position in range(1, bases.index(base) + 1))


def _bases_with(view_class: Any, name: str) -> list[type]:
    return [base for base in getattr(view_class, "__mro__", ()) if name in vars(base)]


def _is_marked(method: Any) -> bool:
    return any(key.startswith(_MARK) for key in getattr(method, "__dict__", ()))


def _goes_on(bases: list[type], position: int, name: str) -> bool:
    """Return whether the method before the position calls what it overrides: ``super().get``, or ``Parent.get``.

    One whose source cannot be read does not: an audit rather names a view too many.
    """
    parents = {base.__name__ for base in bases[position:]}
    return any(_calls(function, name, parents) for function in _walk_functions(vars(bases[position - 1])[name]))


def _calls(function: FunctionType, name: str, parents: set[str]) -> bool:
    try:
        source = inspect.getsource(function.__code__)  # and not of what it wraps
        tree = ast.parse(f"if True:\n{source}" if source[0].isspace() else source)
    except (OSError, SyntaxError):
        return False
    owners = [node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == name]
    called = {ast.unparse(owner.func) for owner in owners if isinstance(owner, ast.Call)}
    return "super" in called or any(ast.unparse(owner).rpartition(".")[2] in parents for owner in owners)


def _names(view: Any, methods: Sequence[str] = View.http_method_names) -> tuple[str, ...]:
    """Return the names of what in the class of a view answers requests with these methods."""
    # Django REST framework's view sets answer by methods of other names, and say which.
    actions = getattr(view, "actions", None)
    actions = actions if isinstance(actions, dict) else {}
    return ("dispatch", *methods, *(actions[method] for method in methods if method in actions))


def _gated_in(operation: Any) -> tuple[Any, Any]:
    """Return the function of an operation, and what ``decorate_view`` puts around that."""
    return operation.view_func, operation.run


def _unwrap_partials(view: Any) -> Any:
    """Return what a partial calls in the end; anything else as it is."""
    while isinstance(view, partial):
        view = view.func
    return view
