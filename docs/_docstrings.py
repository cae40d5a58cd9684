"""For the reference page: Sphinx roles and formulas of the docstrings, as Markdown shows them."""

from __future__ import annotations

import re
from typing import Any

import griffe
from latex2mathml.converter import convert

_ROLE = re.compile(r":(?:class|func|meth|mod):`~?([^`]+)`")
_INLINE = re.compile(r":math:`([^`]+)`")
# griffe knows the plural alone; the singular would be prose, in which brackets are links.
_EXAMPLE = re.compile(r"^([ ]*)Example:$", re.MULTILINE)
_FORMULA = re.compile(r"^([ ]*)\.\. math::\n\n?((?:\1[ ]+.*\n?)+)", re.MULTILINE)


class SphinxMarkup(griffe.Extension):
    """Rewrites every docstring once it is loaded."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            text = _FORMULA.sub(_as_block, obj.docstring.value)
            text = _INLINE.sub(lambda formula: convert(formula[1]), text)
            text = _EXAMPLE.sub(r"\1Examples:", text)
            obj.docstring.value = _ROLE.sub(lambda role: f"`{role[1]}`", text)


def _as_block(formula: re.Match[str]) -> str:
    # MathML, which browsers typeset by themselves: another way would need a script from the network.
    return f"{formula[1]}{convert(' '.join(formula[2].split()), display='block')}\n\n"
