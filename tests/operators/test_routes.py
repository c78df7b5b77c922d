from __future__ import annotations

import pytest
from django.urls import path, re_path

from entitlement_gate.operators.gates import sample_of, shown_route


@pytest.mark.parametrize(
    ("pattern", "shown", "sample"),
    [
        (path("", len), "/", "/"),
        (path("a/<int:pk>/<slug>/<uuid:u>/", len), "/a/<int:pk>/<slug>/<uuid:u>/",
         "/a/1/x/00000000-0000-4000-8000-000000000000/"),
        (re_path(r"^a/(?P<y>[0-9]{4})/$", len), r"/a/(?P<y>[0-9]{4})/$", "/a/1/"),
        (re_path(r"^a\.b/(\d+)/[ab]+/\Z", len), r"/a\.b/(\d+)/[ab]+/\Z", "/a.b/1/1/"),
    ],
)  # fmt: skip
def test_a_route_is_shown_as_written_and_tried_as_a_path(pattern, shown, sample):
    assert (shown_route([pattern.pattern]), sample_of([pattern.pattern])) == (shown, sample)
