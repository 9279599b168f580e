"""Text from a server or a store, made safe to print."""

import json


def printable(text: str) -> str:
    """Return the text with every character that is not printable escaped as in JSON.

    Such characters, for example escape sequences, line breaks and bidirectional controls, change what a
    terminal shows. Letters of all scripts are kept. JSON without line breaks remains the same JSON.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
