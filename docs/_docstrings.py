"""For the reference page: Sphinx roles and formulas of the docstrings, as Markdown shows them."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|math):`~?([^`]+)`")
# griffe knows the plural alone; the singular would be prose, in which brackets are links.
_EXAMPLE = re.compile(r"^([ ]*)Example:$", re.MULTILINE)
_FORMULA = re.compile(r"^([ ]*)\.\. math::\n\n?((?:\1[ ]+.*\n?)+)", re.MULTILINE)


class SphinxMarkup(griffe.Extension):
    """Rewrites every docstring once it is loaded."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            text = _FORMULA.sub(_as_code, obj.docstring.value)
            text = _EXAMPLE.sub(r"\1Examples:", text)
            obj.docstring.value = _ROLE.sub(lambda role: f"`{role[1]}`", text)


def _as_code(formula: re.Match[str]) -> str:
    # Typesetting would need a script from the network.
    indent = formula[1]
    lines = textwrap.indent(textwrap.dedent(formula[2]).strip("\n"), indent)
    return f"{indent}```latex\n{lines}\n{indent}```\n"
