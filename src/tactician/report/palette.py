"""Colours that stay with their name from page to page, and that colour-blind readers can tell apart."""

import colorsys
from collections.abc import Sequence

GREY = "#8a929c"
PALE_GREY = "#b9bfc7"
_NAMED = {"CASH": GREY, "FULL_CASH": GREY, "OTHERS": PALE_GREY, "HOLD": PALE_GREY}
# Okabe and Ito (2008), without black and with a darker yellow, then Paul Tol's "muted" where it adds a hue.
_BASE = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800"),
    *("#332288", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499"),
)
_SHIFTS = (0.0, -0.14, 0.14, -0.24, 0.24)
MOST = len(_BASE) * len(_SHIFTS)
"""Number of names that have a colour of their own."""


def colours(names: Sequence[str]) -> list[str]:
    """A colour for each name by its position; cash is grey; HOLD and what is left over are pale.

    The first 13 are told apart by colour-blind readers. Further ones repeat the hues darker and lighter: no set of 64
    colours is safe, so wherever a colour stands, the name is close.
    """
    made, used = [], 0
    for name in names:
        if (named := _NAMED.get(name.upper())) is not None:
            made.append(named)
        else:
            cycle, place = divmod(used % MOST, len(_BASE))
            made.append(_shifted(_BASE[place], _SHIFTS[cycle]))
            used += 1
    return made


def _shifted(colour: str, by: float) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    mixed = colorsys.hls_to_rgb(hue, min(max(light + by, 0.08), 0.92), saturation)
    return "#" + "".join(f"{round(255 * x):02x}" for x in mixed)
