"""A project that real servers serve: settings, URLs and views in one place, billing from the environment."""
