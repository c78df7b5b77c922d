"""The commands, one module each, as Django looks them up."""
