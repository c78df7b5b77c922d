"""django-waffle: a flag with the customers' users on it, in Django's local-memory cache after the first look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.models import User
from django.http import HttpRequest
from waffle import flag_is_active
from waffle.models import Flag

from benchmarks.contestants import Contestant
from benchmarks.world import ASKED, World

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["make"]


def make(world: World) -> Contestant:
    """Return ``flag_is_active`` for a request whose user is at hand (reading it from a session is not timed)."""
    for one in (User.objects.all(), Flag.objects.all()):
        one.delete()
    people = User.objects.bulk_create(User(username=customer) for customer in world.customers)
    users = {user.username: user for user in people}
    flag = Flag.objects.create(name=ASKED, superusers=False)
    flag.users.add(*people)  # type: ignore[attr-defined]  # their manager is typed for the class above

    def subject(customer: str) -> HttpRequest:
        request = HttpRequest()
        request.user = users.get(customer) or User.objects.get_or_create(username=customer)[0]
        return request

    def batch(requests: Sequence[HttpRequest]) -> HttpRequest | None:
        for request in requests:
            if not flag_is_active(request, ASKED):
                return request
        return None

    return Contestant(
        "django-waffle",
        batch,
        lambda request, name: bool(flag_is_active(request, name)),
        subject=subject,
        does="membership in a cached list of users",
    )
