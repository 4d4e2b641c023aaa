"""Letters and colors of pictures that are drawn: the sheet of people, and contact sheets."""

from __future__ import annotations

from PIL import ImageFont

Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Blue and orange of the same palette as the report's page: distinct for every kind of color vision, also in grey.
HIDDEN: Color = (0, 92, 171)
KEPT: Color = (194, 91, 0)
PAPER: Color = (250, 249, 246)
INK: Color = (28, 30, 34)
MUTED: Color = (98, 102, 110)
EMPTY: Color = (226, 225, 221)


def lettering(size: int) -> Font:
    """The font of all text that is drawn, at a size in pixels."""
    return ImageFont.load_default(size)


def fitted(text: str, font: Font, width: float) -> str:
    """The text, cut at its end to fit."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def wrapped(text: str, font: Font, width: float, count: int) -> list[str]:
    """The text in at most `count` lines."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < count - 1:
        line = words.pop(0)
        while words and font.getlength(f"{line} {words[0]}") <= width:
            line = f"{line} {words.pop(0)}"
        lines.append(fitted(line, font, width))
    return [*lines, fitted(" ".join(words), font, width)] if words else lines
