"""Text that a terminal shows and does not obey."""

from __future__ import annotations

import unicodedata

__all__ = ["plain"]


def plain(text: str) -> str:
    r"""The text with control and direction characters spelt out; ends of lines stay.

    Names, file names and messages may come from anywhere; an escape sequence in them could retitle a window, hide
    lines, or type for the user. Direction characters could show words in another order than they have.

    >>> print(plain("relu\x1b[2J"))
    relu\x1b[2J
    """
    return "".join(letter if _harmless(letter) else _spelt(letter) for letter in text)


def _harmless(letter: str) -> bool:
    return letter == "\n" or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _spelt(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
