"""What other libraries say, fit for a message of one line."""

from __future__ import annotations

_LONGEST = 200


def one_line(error: BaseException) -> str:
    """The text of an error without line breaks and of bounded length; its kind if it has none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
