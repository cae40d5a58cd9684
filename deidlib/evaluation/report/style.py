"""How the page looks: on the screen, light and dark, and on paper."""

from __future__ import annotations

from collections.abc import Sequence

# For lines: apart for most kinds of colour vision, and legible on white, on black.
LIGHT = ("#0b62c4", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#be185d", "#0f766e", "#52525b")
_DARK = ("#6db3ff", "#ff9d5c", "#5fd38a", "#c99bff", "#e5c04b", "#ff8ab8", "#4fd1c5", "#c4c4cc")


def _variables(colours: Sequence[str]) -> str:
    return " ".join(f"--c{k}: {colour};" for k, colour in enumerate(colours))


STYLE = f"""
:root {{ color-scheme: light dark; --ink: #1c1c20; --soft: #5a5a64; --page: #fff; --rule: #d4d4dc; --head: #f2f2f5;
  {_variables(LIGHT)} }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e8e8ee; --soft: #a6a6b2; --page: #16161a; --rule: #3a3a44; --head: #22222a; {_variables(_DARK)} }}
}}
body {{ font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid var(--rule); }}
h3 {{ font-size: 1rem; margin-bottom: 0; }}
.notice {{ border-left: 4px solid var(--c1); padding: .4rem .8rem; background: var(--head); }}
.wide {{ overflow-x: auto; margin: .6rem 0; }}
table {{ border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }}
th, td {{ border: 1px solid var(--rule); padding: .3rem .5rem; text-align: left; vertical-align: top; }}
thead th {{ background: var(--head); }}
code {{ overflow-wrap: anywhere; font-size: .85em; }}
.panels {{ display: grid; grid-template-columns: repeat(3, 1fr); gap: .6rem; }}
.panels figure {{ margin: 0; }}
.panels img {{ width: 100%; height: auto; display: block; }}
svg {{ color: var(--soft); }}
figcaption {{ font-size: .85rem; color: var(--soft); }}
.chart {{ margin: 1.2rem 0; max-width: 60rem; }}
.chart > svg {{ width: 100%; height: auto; display: block; }}
svg text {{ font: 12px system-ui, sans-serif; }}
{" ".join(f".c{k} {{ stroke: var(--c{k}); }} circle.c{k} {{ fill: var(--c{k}); }}" for k in range(len(LIGHT)))}
.legend {{ list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; margin: .2rem 0;
  font-size: .85rem; }}
.key {{ width: 28px; height: 8px; margin-right: .4rem; vertical-align: middle; }}
@media (max-width: 48rem) {{ .panels {{ grid-template-columns: 1fr; }} }}
@media print {{
  :root {{ --ink: #000; --soft: #333; --page: #fff; --rule: #999; --head: #eee; {_variables(LIGHT)} }}
  body {{ max-width: none; margin: 0; font-size: 10pt; }}
  .wide {{ overflow: visible; }}
  table {{ font-size: 7pt; }}
  th, td {{ padding: .15rem .25rem; }}
  tr, figure, section {{ break-inside: avoid; }}
  h2, h3 {{ break-after: avoid; }}
}}
"""
