"""The notes, which are the same for everybody, and what they say in German."""

import re

NOTES = {
    "North meadow: gate repaired": "Nordwiese: Tor repariert",
    "Barn 3: roof to be checked": "Scheune 3: Dach zu prüfen",
    "Well: level 2.4 m": "Brunnen: Stand 2,4 m",
    "Orchard: first blossoms": "Obstgarten: erste Blüten",
}

_TELLING = 4  # letters of a word that is worth looking for


def find_notes(question: str) -> list[str]:
    """Return the notes that share a longer word with the question."""
    words = [word for word in re.findall(r"\w+", question.lower()) if len(word) >= _TELLING]
    return [note for note in NOTES if any(word in note.lower() for word in words)]
