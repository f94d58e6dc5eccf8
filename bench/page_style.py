"""How a report's page looks, on a light screen, on a dark one, and on paper."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1c1e; --muted: #63666b; --faint: #d9dadd; --bad: #b3261e;
  --band: #f5f5f6; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #17181a; --ink: #e7e8ea; --muted: #9da0a6; --faint: #3a3c40; --bad: #ff8a80;
  --band: #1f2123; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 1.5rem 1.2rem 4rem; }
h1 { font-size: 1.7rem; margin: 0; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .3rem; }
p { max-width: 48rem; margin: .4rem 0 .8rem; }
a { color: inherit; text-decoration-color: var(--faint); }
small { color: var(--muted); font-size: .8em; }
.muted { color: var(--muted); margin-top: 0; max-width: none; }
.note { border-left: 3px solid var(--bad); padding-left: .7rem; }
.bad { color: var(--bad); }
.good { color: #2e8b57; }
figure { margin: 1rem 0; }
figure svg { width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; margin: .6rem 0 1rem; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 600; color: var(--muted); white-space: nowrap; }
td { text-align: right; vertical-align: top; white-space: nowrap; }
th, td { padding: .28rem .7rem .28rem 0; border-bottom: 1px solid var(--faint); }
th:first-child, td:first-child { text-align: left; }
.words th, .words td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.words td:first-child { white-space: nowrap; }
tbody tr:hover { background: var(--band); }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%;
  margin-right: .5em; }
.bar { width: 180px; height: .8em; margin-top: .35em; }
.bar div { height: 100%; }
@media print { main { max-width: none; } section { break-inside: avoid; } }
"""
