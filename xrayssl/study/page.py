"""The sheet a report is printed on: one HTML file with its style inside, light and dark, screen and paper."""

import base64
import hashlib

from xrayssl.study.markup import Markup, element, join

# The page may fetch nothing at all; the browser enforces what the report promises.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b242c; --quiet: #5a6772; --rule: #dfe4e8;
  --wash: #f4f6f7; --accent: #0d6070; --second: #b3541e; --plate: #0b0e10;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, Charter, Georgia, "Liberation Serif", serif;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial,
  sans-serif;
  --mono: ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; }
@media (prefers-color-scheme: dark) { :root { --paper: #12171b; --ink: #e3e8eb; --quiet: #9aa6af;
  --rule: #2b343b;
  --wash: #1a2126; --accent: #6cbfcc; --second: #e3956a; --plate: #000; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 var(--sans);
  font-variant-numeric: tabular-nums lining-nums; }
main { max-width: 1080px; margin: 0 auto; padding: 56px 32px 72px; }
h1, h2 { font-family: var(--serif); font-weight: 600; line-height: 1.2; letter-spacing: -.005em;
  text-wrap: balance; }
h1 { font-size: 36px; margin: 4px 0 20px; }
h2 { font-size: 27px; margin: 2px 0 20px; overflow-wrap: anywhere; }
h3 { font-size: 15px; font-weight: 600; margin: 44px 0 14px; }
h4 { font-size: 13px; font-weight: 600; color: var(--quiet); margin: 22px 0 10px; }
p { margin: 0 0 12px; max-width: 44em; }
a { color: var(--accent); text-decoration-thickness: 1px; text-underline-offset: 3px; }
.eyebrow { margin: 0; font-size: 13px; color: var(--quiet); }
.summary { font: 19px/1.6 var(--serif); }
.note { font-size: 13.5px; color: var(--quiet); max-width: 56em; }
.phantoms { margin: 24px 0; padding: 12px 18px; border-left: 3px solid var(--second); background: var(--wash);
  max-width: none; }
section.run { margin-top: 72px; padding-top: 28px; border-top: 1px solid var(--ink); }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; }
th { text-align: left; font-weight: 500; font-size: 13px; color: var(--quiet); padding: 0 16px 8px 0;
  vertical-align: bottom; }
.runs td { overflow-wrap: break-word; }
td { padding: 9px 16px 9px 0; border-top: 1px solid var(--rule); vertical-align: top; overflow-wrap:
  anywhere; }
th:last-child, td:last-child { padding-right: 0; }
.runs { margin-top: 36px; }
.runs small { display: block; color: var(--quiet); font-size: 13px; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(225px, 1fr)); gap: 18px 32px;
  margin: 0; }
.facts div { min-width: 0; }
.facts .wide { grid-column: 1 / -1; }
dt { font-size: 13px; color: var(--quiet); }
dd { margin: 2px 0 0; font-size: 15px; overflow-wrap: anywhere; }
code { font: 13px/1.6 var(--mono); overflow-wrap: anywhere; } code span { display: inline-block; }
.tiles { display: flex; flex-wrap: wrap; gap: 20px 48px; margin-bottom: 8px; }
.tile .value { font: 600 38px/1.15 var(--serif); color: var(--accent); }
.tile span { display: block; font-size: 13.5px; color: var(--quiet); }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); gap: 24px 28px; }
.panels figcaption { font-size: 14px; font-weight: 600; margin-bottom: 8px; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
svg { display: block; }
svg text { font: 11.5px var(--sans); fill: var(--quiet); font-variant-numeric: tabular-nums; }
.curves { width: 100%; height: auto; max-width: 460px; overflow: visible; }
.curves circle.before { fill: var(--paper); stroke: var(--accent); stroke-width: 1.5; }
.rule { stroke: var(--rule); stroke-width: 1; }
polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
polyline.train { stroke: var(--quiet); } circle.train { fill: var(--quiet); }
polyline.val, polyline.probe, polyline.health { stroke: var(--accent); }
circle.val, circle.probe, circle.health { fill: var(--accent); }
svg text.val, svg text.probe, svg text.health { fill: var(--accent); font-weight: 600; }
.warning { margin: 0 0 20px; padding: 12px 18px; border-left: 3px solid var(--second); background: var(--wash); }
.forest { overflow: visible; }
.forest circle, .forest path { fill: var(--accent); }
.range { stroke: var(--accent); stroke-width: 1.8; }
.few circle { fill: var(--paper); stroke: var(--accent); stroke-width: 1.5; }
.few .range { stroke-dasharray: 4 3; }
.chance { stroke: var(--quiet); stroke-width: 1; stroke-dasharray: 2 3; }
.trees td { padding-top: 4px; padding-bottom: 4px; vertical-align: middle; border-top: 0; line-height: 24px; }
.trees .plot { width: 44%; padding-left: 10px; padding-right: 30px; }
.trees .figure { white-space: nowrap; } .trees .number { text-align: right; white-space: nowrap; }
.trees .mean td { border-bottom: 1px solid var(--rule); font-weight: 600; padding-bottom: 6px; }
.trees .mean + tr td { padding-top: 8px; }
.trees .interval { color: var(--quiet); font-weight: 400; }
.wide-table { overflow-x: auto; }
.decisions { font-size: 13.5px; } .decisions th { font-size: 12px; line-height: 1.3; padding-right: 12px; }
.decisions td { padding: 6px 12px 6px 0; overflow-wrap: normal; }
.decisions small { display: block; color: var(--quiet); font-size: 11.5px; white-space: nowrap; }
.reliability { width: 100%; max-width: 320px; height: auto; }
.reliability .dots circle { fill: var(--accent); fill-opacity: .75; }
.plate { background: var(--plate); padding: 10px; width: fit-content; max-width: 100%; }
.plate img, .strip img { display: block; max-width: 100%; height: auto; }
.plate img { max-height: 900px; object-fit: contain; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); gap: 12px;
  margin-top: 12px; }
.strip .plate { padding: 4px; }
figcaption { font-size: 13px; color: var(--quiet); margin-top: 6px; }
.panels figcaption { color: var(--ink); margin-top: 0; }
.films { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 24px 22px; }
.film img, .gone { display: block; width: 100%; height: auto; aspect-ratio: 1; object-fit: contain;
  background: var(--plate); }
.gone { display: grid; place-items: center; color: #8b969e; font-size: 13px; }
.film .true { font-size: 14px; line-height: 1.35; margin: 10px 0 6px; color: var(--ink); overflow-wrap:
  anywhere; }
.film .true span { color: var(--quiet); }
.bar { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 0 8px; font-size: 13px;
  line-height: 1.35;
  margin-top: 6px; }
.bar .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.level { grid-column: 1 / -1; height: 4px; margin-top: 3px; background: var(--rule); }
.level i { display: block; height: 100%; background: var(--quiet); }
.is-true .level i { background: var(--accent); } .is-true { color: var(--ink); } .is-true .name {
  font-weight: 600; }
footer { margin-top: 72px; padding-top: 16px; border-top: 1px solid var(--rule); }
@media screen and (max-width: 860px) {
  main { padding: 28px 20px 48px; }
  h1 { font-size: 28px; } h2 { font-size: 23px; } .summary { font-size: 17.5px; }
  .facts { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 14px 18px; }
  .tiles { gap: 18px 36px; } .tile .value { font-size: 32px; }
  .films { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 22px 14px; }
  .runs thead { position: absolute; clip-path: inset(50%); height: 1px; overflow: hidden; }
  .runs tr { display: grid; grid-template-columns: 108px minmax(0, 1fr); padding: 12px 0;
    border-top: 1px solid var(--rule); }
  .runs td { display: contents; } .runs td::before { content: attr(data-label); color: var(--quiet);
  font-size: 13px;
    padding-top: 2px; }
  .runs td > * { display: block; margin-bottom: 4px; min-width: 0; }
  .trees thead { display: none; }
  .trees tr { display: grid; grid-template-columns: minmax(0, 1fr) auto; padding: 4px 0; }
  .trees td { padding: 0; line-height: 1.5; }
  .trees .plot { grid-column: 1 / -1; grid-row: 2; width: 100%; padding: 0 12px; }
  .trees .number { display: none; } .trees .mean td { border: 0; }
  .decisions thead { position: absolute; clip-path: inset(50%); height: 1px; overflow: hidden; }
  .decisions tr { display: grid; grid-template-columns: 1fr 1fr; gap: 4px 16px; padding: 12px 0;
    border-top: 1px solid var(--rule); }
  .decisions td { border: 0; padding: 0; } .decisions td:first-child { grid-column: 1 / -1; font-weight: 600; }
  .decisions td:empty { display: none; }
  .decisions td[data-label]::before { content: attr(data-label); display: block; color: var(--quiet); font-size: 12px; }
}
@media print {
  :root { --paper: #fff; --ink: #111; --quiet: #555; --rule: #ccc; --wash: #f4f4f4; --accent: #0d6070;
    --second: #b3541e; color-scheme: light; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  @page { margin: 16mm 14mm; }
  .facts { grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 10px 20px; } .facts .wide {
    grid-column: 1 / -1; }
  dd { font-size: 13px; } .runs { font-size: 12px; } .runs td { overflow-wrap: break-word; } .runs small
    { font-size: 11px; }
  .decisions { font-size: 9px; } .decisions th { font-size: 8px; } .decisions small { font-size: 7.5px; }
  .strip { grid-template-columns: repeat(6, minmax(0, 1fr)); } .trees { break-inside: avoid; } h3 {
    margin-top: 28px; }
  body { font-size: 10.5pt; } main { padding: 0; max-width: none; }
  section.run { break-before: page; margin-top: 0; border-top: 0; }
  h2, h3, h4 { break-after: avoid; } tr, .tile { break-inside: avoid; }
  .films { grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 14px; } .plate img { max-height: 120mm; }
}
"""


def page(title: str, *body: object, style: str = "", script: str = "") -> str:
    """A whole HTML document that fetches nothing.

    Args:
        title: Of the window.
        *body: Of the document.
        style: Besides the one that all pages share.
        script: That may run; the policy names its hash, so that no other does.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY + _allowed(script)),
        element("title", title),
        element("style", Markup(STYLE + style)),
    )
    content = element("body", element("main", join(body, "\n")), element("script", Markup(script)) if script else None)
    return join([Markup("<!doctype html>"), element("html", head, content, lang="en")], "\n") + "\n"


def _allowed(script: str) -> str:
    """What the policy says of a script."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"; script-src 'sha256-{digest}'" if script else ""
