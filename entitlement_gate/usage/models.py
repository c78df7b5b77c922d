"""What a database ledger keeps. Written by ``DatabaseLedger`` alone: admin and reports read.

Quantities are whole millionths, instants POSIX seconds by the database's clock.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models

__all__ = ["Account", "Charge", "Event", "Hold"]

# Named in each model: Django would take `entitlement_gate` where this app is not installed, and other tables.
_APP_LABEL = "entitlement_usage"


class Account(models.Model):
    """A customer who used something up; its row is the lock that the customer's verbs queue at."""

    customer_id = models.CharField(max_length=64, primary_key=True)
    version = models.BigIntegerField()

    class Meta:
        app_label = _APP_LABEL

    def __str__(self) -> str:
        return self.customer_id


class Charge(models.Model):
    """What was used of one row of billing: see ``ledger.balances.Tally``."""

    customer_id = models.CharField(max_length=64)
    entitlement_id = models.TextField()
    row_id = models.TextField()
    baseline = models.BigIntegerField()
    committed = models.BigIntegerField()
    held = models.BigIntegerField()
    seen = models.BigIntegerField()
    refunded = models.BigIntegerField()
    ticket = models.BigIntegerField()

    class Meta:
        app_label = _APP_LABEL
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["customer_id", "entitlement_id", "row_id"], name="entitlement_charge_once")
        ]

    def __str__(self) -> str:
        return f"{self.customer_id} {self.entitlement_id} {self.row_id}"


class Hold(models.Model):
    """What a key stands for: see ``ledger.book.Record``."""

    customer_id = models.CharField(max_length=64)
    key = models.CharField(max_length=200)
    state = models.CharField(max_length=9)
    wants = models.TextField()
    shares = models.TextField()
    expires_at = models.FloatField()
    until = models.FloatField()
    is_overage = models.BooleanField()
    is_late = models.BooleanField()
    owner = models.CharField(max_length=64, blank=True)
    purpose = models.CharField(max_length=64, blank=True)
    is_lone = models.BooleanField()

    class Meta:
        app_label = _APP_LABEL
        constraints: ClassVar = [models.UniqueConstraint(fields=["customer_id", "key"], name="entitlement_hold_once")]
        indexes: ClassVar = [
            models.Index(
                fields=["customer_id", "until"], condition=models.Q(state="held"), name="entitlement_hold_runs_out"
            ),
            models.Index(fields=["until"], condition=~models.Q(state="held"), name="entitlement_hold_forgotten"),
        ]

    def __str__(self) -> str:
        return f"{self.customer_id} {self.key} {self.state}"


class Event(models.Model):
    """A usage event that waits to be delivered, or that was set aside (``why`` says why)."""

    customer_id = models.CharField(max_length=64)
    key = models.TextField()
    slug = models.TextField()
    field = models.TextField()
    quantity = models.BigIntegerField()
    at = models.FloatField()
    due = models.FloatField()
    attempts = models.IntegerField()
    why = models.TextField(blank=True)

    class Meta:
        app_label = _APP_LABEL
        constraints: ClassVar = [models.UniqueConstraint(fields=["customer_id", "key"], name="entitlement_event_once")]
        indexes: ClassVar = [models.Index(fields=["why", "due"], name="entitlement_event_due")]

    def __str__(self) -> str:
        return f"{self.customer_id} {self.key}"
