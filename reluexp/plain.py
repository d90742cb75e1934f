"""Text as people read it: what a terminal shows and does not obey, and numbers of things."""

from __future__ import annotations

import math
import re
import unicodedata

__all__ = ["brief", "counted", "known_to", "p_told", "percentage", "plain"]

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


def known_to(value: float, half: float, sign: str = "") -> str:
    """A number to the decimals of half its interval, which has two digits; to three digits where there is none.

    >>> known_to(0.42, 0.0094), known_to(1234.5, 31.0), known_to(-0.000758, 0.00036, "+"), known_to(0.5, 0.0)
    ('0.4200', '1234', '-0.00076', '0.5')
    """
    if not 0 < half < math.inf:
        return f"{value:{sign}.3g}"
    decimals = 1 - math.floor(math.log10(half))
    return f"{value:{sign}.3g}" if decimals > 6 else f"{value:{sign}.{max(0, decimals)}f}"


def counted(number: int, thing: str) -> str:
    """A number of things, with the plural that adds an s.

    >>> counted(1, "net"), counted(2, "net")
    ('1 net', '2 nets')
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"


def percentage(value: float, unit: str = " %") -> str:
    """A share as sentences tell it; a small one is not rounded to none.

    >>> percentage(0.124), percentage(0.0003), percentage(0.0)
    ('12.4 %', '0.030 %', '0.0 %')
    """
    digits = 1 if value >= 0.00095 or value == 0 else 3
    return f"{100 * value:.{digits}f}{unit}"


def p_told(p: float) -> str:
    """A p-value.

    >>> p_told(0.03125), p_told(2e-5)
    ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _harmless(letter: str) -> bool:
    return letter == "\n" or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _spelt(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
