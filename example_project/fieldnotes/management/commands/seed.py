from typing import Any

from django.core.management.base import BaseCommand

from fieldnotes.customers import CUSTOMERS, seed


class Command(BaseCommand):
    help = "Make a user for each customer of the demo."

    def handle(self, *args: Any, **options: Any) -> None:
        seed()
        self.stdout.write("Users: " + ", ".join(customer.name for customer in CUSTOMERS))
