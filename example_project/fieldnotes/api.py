"""The API of Fieldnotes, with Django REST framework: send a token, or open ``/api/search/`` in a browser."""

import json
from http import HTTPStatus
from typing import Any

from django.template.loader import render_to_string
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from entitlement_gate.contrib.rest_framework import HasEntitlement
from fieldnotes.notes import NOTES, find_notes
from fieldnotes.prices import SEARCH


class AnswerPage(BaseRenderer):
    """For people: what a program gets, on a page of the example. The framework's own page weighs 200 kB more."""

    media_type = "text/html"
    format = "html"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: dict[str, Any] | None = None
    ) -> str:
        """Return the page, with the status and the way to the plans where the request was refused."""
        context = renderer_context or {}
        page = {
            "title": context["view"].get_view_name(),
            "status": HTTPStatus(context["response"].status_code),
            "answer": json.dumps(data, indent=2),
            "upgrade_url": data.get("upgrade_url"),
        }
        return render_to_string(context["view"].template_name, page, context["request"])


class Search(APIView):
    """All notes; or those that a question finds, as in {"question": "barn"}. A question uses up one call."""

    name = "Search API"
    renderer_classes = [JSONRenderer, AnswerPage]  # the first is for who does not say what they accept
    template_name = "fieldnotes/search.html"
    permission_classes = [
        IsAuthenticated,  # 401 for nobody, before anything is asked of billing
        HasEntitlement.of(SEARCH),
        HasEntitlement.of(SEARCH, consume=True, methods=["POST"]),
    ]

    def get(self, request: Request) -> Response:
        return Response({"notes": list(NOTES)})

    def post(self, request: Request) -> Response:
        return Response({"notes": find_notes(str(request.data.get("question", "")))})
