"""``templates``: the HTML templates of a package."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates(package: str) -> Environment:
    """The templates that lie in a package.

    Names of files and of readers are other people's: whatever is put in is escaped, wherever it stands.

    Args:
        package: its name.

    Example:
        >>> templates("deidlib.protect").from_string("{{ name }}").render(name="<b>.mkv")
        '&lt;b&gt;.mkv'
    """
    return Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
