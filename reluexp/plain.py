"""Text as people read it: what a terminal shows and does not obey, and numbers of things."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["brief", "counted", "plain"]

_ENDLESS = re.compile(r"\S{401,}")


def plain(text: str) -> str:
    r"""The text with control and direction characters spelt out; ends of lines stay.

    Names, file names and messages may come from anywhere; an escape sequence in them could retitle a window, hide
    lines, or type for the user. Direction characters could show words in another order than they have.

    >>> print(plain("relu\x1b[2J"))
    relu\x1b[2J
    """
    return "".join(letter if _harmless(letter) else _spelt(letter) for letter in text)


def brief(text: str) -> str:
    """The text with what nobody reads left out of words of more than 400 letters.

    >>> brief(f"no study {'x' * 10_000} here") == f"no study {'x' * 200}…{'x' * 100} here"
    True
    """
    return _ENDLESS.sub(lambda found: f"{found[0][:200]}…{found[0][-100:]}", text)


def counted(number: int, thing: str) -> str:
    """A number of things, with the plural that adds an s.

    >>> counted(1, "net"), counted(2, "net")
    ('1 net', '2 nets')
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _harmless(letter: str) -> bool:
    return letter == "\n" or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _spelt(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
