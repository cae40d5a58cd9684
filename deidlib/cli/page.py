"""How ``--help`` is laid out: options in groups, readable at 80 columns, no word cut in half."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand, TyperGroup


class Page(TyperCommand):
    """A command whose options are listed by the panel that each names, in the order in which panels are first named.

    Rich's tables give the help of an option a fourth of 80 columns once another option has many choices; a list with
    the help below what is long does not.
    """

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Arguments without the braces that Typer puts around what is required: ``SOURCE... [TARGET]``."""
        pieces: list[str] = super().collect_usage_pieces(ctx)
        return [re.sub(r"^\{(.+)\}(?:\.\.\.)?$", r"\1", piece) for piece in pieces]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then options group by group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            panel = getattr(parameter, "rich_help_panel", None)
            option = parameter.param_type_name == "option"
            # That there may be several is said by the dots of an argument, and of an option by its help.
            names = record[0].replace(" <list[str]>", " <str>" if option else "")
            groups.setdefault(panel or ("Options" if option else "Arguments"), []).append((names, record[1]))
        # Those that name no panel (--help) come last.
        if (rest := groups.pop("Options", None)) is not None:
            groups["Other options" if len(groups) > 1 else "Options"] = rest
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records, col_max=26)


class Pages(TyperGroup):
    """A group of commands, each with a whole sentence about it."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands; what they do is not cut at the end of a line."""
        records = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                about = (command.help or "").strip().split("\n\n")[0]
                records.append((name, " ".join(about.split())))
        with formatter.section("Commands"):
            formatter.write_dl(records)
