"""May this customer do this now?"""

__version__ = "0.1.0"
