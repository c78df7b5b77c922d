"""JSON whose numbers survive: read into ``int`` and ``Decimal``, written back with the same value.

Never here: a float, and any idea of what the JSON means.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NoReturn

__all__ = ["dumps", "loads"]


def loads(text: str | bytes) -> Any:
    """Read JSON with exact numbers.

    Raises:
        ValueError: The text is no JSON, is nested too deep to read, or holds NaN or an infinity.
    """
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def dumps(value: Any) -> str:
    """Write JSON with exact numbers.

    >>> dumps({"quantity": Decimal("9007199254740993.5")})
    '{"quantity":9007199254740993.5}'
    """
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(key)}:{dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(dumps, value)) + "]"
    return json.dumps(value)
