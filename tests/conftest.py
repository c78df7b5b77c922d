"""What every test of the suite starts from."""

from hypothesis import settings

# The same cases each time, and none kept from an earlier run: what fails once fails always. To look for new ones:
# `pytest --hypothesis-profile=explore`, which prints how to see a failure again.
settings.register_profile("suite", derandomize=True, database=None, deadline=None, print_blob=True)
settings.register_profile("explore", max_examples=1_000, database=None, deadline=None, print_blob=True)
settings.load_profile("suite")
