"""``{% ifentitled %}``, ``{% entitlement %}``, ``{% entitlements_json %}``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import template
from django.utils.html import json_script

from entitlement_gate.context_processors import decide, list_entitlements
from entitlement_gate.resolvers import find_request

if TYPE_CHECKING:
    from django.template.base import FilterExpression, NodeList, Parser, Token
    from django.template.context import Context
    from django.utils.safestring import SafeString

    from entitlement_gate.domain.decisions import Decision

__all__ = ["IfEntitledNode", "entitlement", "entitlements_json", "register"]

register = template.Library()
_MOST_PARTS = 3


@register.simple_tag(takes_context=True)
def entitlement(context: Context, name: str, quantity: object = None) -> Decision:
    """Put the decision into the context: ``{% entitlement "seats" as seats %}``, then ``seats.remaining``."""
    return decide(_get_request(context), name, quantity)


@register.simple_tag(takes_context=True)
def entitlements_json(context: Context, element_id: str = "entitlements") -> SafeString:
    """Put what the customer may into the page, for scripts: as ``json_script`` does, whatever a name may hold."""
    return json_script(list_entitlements(_get_request(context)), element_id)


class IfEntitledNode(template.Node):
    """One branch where the customer may, the other where not."""

    child_nodelists = ("allowed", "refused")

    def __init__(self, arguments: list[FilterExpression], allowed: NodeList, refused: NodeList) -> None:
        self.arguments = arguments
        self.allowed = allowed
        self.refused = refused

    def render(self, context: Context) -> str:
        """Render the branch that the customer's entitlements choose."""
        arguments = [argument.resolve(context) for argument in self.arguments]
        return (self.allowed if decide(_get_request(context), *arguments) else self.refused).render(context)


@register.tag
def ifentitled(parser: Parser, token: Token) -> IfEntitledNode:
    """Read ``{% ifentitled name [quantity] %}…{% else %}…{% endifentitled %}``."""
    parts = token.split_contents()[1:]
    if not 1 <= len(parts) < _MOST_PARTS:
        raise template.TemplateSyntaxError("{% ifentitled %} takes a name and perhaps a quantity")
    allowed = parser.parse(("else", "endifentitled"))
    refused = template.NodeList()
    if parser.next_token().contents == "else":
        refused = parser.parse(("endifentitled",))
        parser.delete_first_token()
    return IfEntitledNode([parser.compile_filter(part) for part in parts], allowed, refused)


def _get_request(context: Context) -> object:
    return find_request(getattr(context, "request", None)) or context.get("request")
