"""One file for each extra: a framework beside Django, a source. Each imports what it is for, nothing imports these."""
