"""Text from the other side that is shown in one line: to people, on terminals and in logs. Pure."""

import re

# Controls, separators of lines, and marks that reorder or hide what stands beside them.
_UNSEEN = (
    r"\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
)
UNSEEN = re.compile(f"[{_UNSEEN}]")


def one_line(text: str) -> str:
    """The text with every character that could forge a line, drive a terminal or reorder words made U+FFFD."""
    return text if text.isascii() and text.isprintable() else UNSEEN.sub("\ufffd", text)
