"""The API of Fieldnotes, with Django REST framework: open ``/api/search/`` in a browser, or send a token."""

from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from entitlement_gate.contrib.rest_framework import HasEntitlement
from fieldnotes.notes import NOTES, find_notes
from fieldnotes.prices import SEARCH


class Search(APIView):
    """All notes; or those that a question finds, as in {"question": "barn"}. A question uses up one call."""

    permission_classes = [
        IsAuthenticated,  # 401 for nobody, before anything is asked of billing
        HasEntitlement.of(SEARCH),
        HasEntitlement.of(SEARCH, consume=True, methods=["POST"]),
    ]

    def get(self, request: Request) -> Response:
        return Response({"notes": list(NOTES)})

    def post(self, request: Request) -> Response:
        return Response({"notes": find_notes(str(request.data.get("question", "")))})
