"""Texts of clients on an operator's terminal."""


def printable(text: str) -> str:
    """Nothing of it reaches the terminal as a command."""
    return "".join(character if character.isprintable() else "?" for character in text)
