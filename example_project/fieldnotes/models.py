from django.conf import settings
from django.db import models


class Profile(models.Model):
    """What Fieldnotes knows of a user; ``CUSTOMER_ATTRIBUTE`` in the settings leads to whom billing knows."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="profile")
    # Not unique: everybody in a company is billed as one customer. Empty: has not bought anything yet.
    zenskar_customer_id = models.UUIDField(null=True, blank=True)

    def __str__(self) -> str:
        return f"profile of {self.user}"


class Export(models.Model):
    """An export that a background job writes."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DONE = "done"
        REFUSED = "refused"
        POSTPONED = "postponed"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="exports")
    state = models.CharField(max_length=20, choices=State, default=State.WAITING)
    outcome = models.CharField(max_length=100, blank=True)

    def __str__(self) -> str:
        return f"export {self.pk}"
