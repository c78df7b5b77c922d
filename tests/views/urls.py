"""Every shape in both colours: ``/<slug>/<colour>/``, and where a refused request may be sent."""

from django.http import HttpResponse
from django.urls import path

from tests.views.shapes import COLOURS, SHAPES


def pricing(request):
    return HttpResponse("plans")


urlpatterns = [
    path("pricing/", pricing, name="pricing"),
    *(path(f"{shape.slug}/{colour}/", shape.view(colour)) for shape in SHAPES for colour in COLOURS),
]
