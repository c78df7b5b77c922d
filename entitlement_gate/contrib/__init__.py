"""One file for each framework beside Django; each imports its framework, nothing imports these."""
