"""The style of a comparison beside that of every page."""

STYLE = """
[hidden] { display: none !important; }
.filters { display: none; flex-wrap: wrap; gap: 14px 28px; align-items: end; margin: 32px 0 0; padding: 14px 18px;
  background: var(--wash); font-size: 14px; }
.live .filters { display: flex; }
.filters label > span { display: block; font-size: 13px; color: var(--quiet); margin-bottom: 3px; }
.filters select { font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--rule);
  padding: 5px 8px; border-radius: 4px; max-width: 100%; }
.filters fieldset { border: 0; padding: 0; margin: 0; min-width: 0; flex: 1 1 100%; display: flex; flex-wrap: wrap;
  gap: 6px 18px; }
.filters legend { font-size: 13px; color: var(--quiet); margin-bottom: 3px; padding: 0; float: left; width: 100%; }
.filters fieldset label { overflow-wrap: anywhere; }
.filters i, .legend i { display: inline-block; width: 18px; height: 4px; margin: 0 6px 3px 4px;
  vertical-align: middle; }
.legend { font-size: 14px; max-width: none; } .legend span { display: inline-block; margin-right: 18px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 470px), 1fr)); gap: 12px 36px; }
.pair > * { min-width: 0; }
.squares { align-items: end; display: grid;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 236px), 1fr)); gap: 20px 22px; }
.squares figcaption, .pair figcaption { color: var(--ink); font-weight: 600; margin: 0 0 6px; overflow-wrap: anywhere; }
.panel { width: 100%; height: auto; } .squares .panel { max-width: 320px; } .pair .panel { max-width: 620px; }
.panel polyline.chance { fill: none; stroke-width: 1; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; text-align: left; cursor: auto; }
.live th button { cursor: pointer; text-decoration: underline dotted; text-underline-offset: 3px; }
th[aria-sort] button { color: var(--ink); font-weight: 600; }
th[aria-sort=ascending] button::after { content: " ↑"; } th[aria-sort=descending] button::after { content: " ↓"; }
.recipes { font-size: 14px; } .recipes td { padding-right: 12px; overflow-wrap: normal; }
.recipes td:first-child { overflow-wrap: anywhere; min-width: 132px; }
.recipes small { display: block; color: var(--quiet); font-size: 12.5px; }
.recipes td:not(:first-child) { white-space: nowrap; }
.reference td:first-child span { font-style: italic; }
.trees.seeds .plot { width: 52%; padding-right: 18px; }
.trees.seeds td { line-height: 1.3; }
.trees.seeds td:first-child { min-width: 132px; }
.trees.seeds path { fill: inherit; } .trees.seeds .plot + td { text-align: right; }
.full { font-size: 12.5px; width: max-content; min-width: 100%; } .full th { font-size: 12px; line-height: 1.3; }
.full td { padding: 5px 14px 5px 0; white-space: nowrap; } .full th { padding-right: 14px; max-width: 110px; }
@media screen and (max-width: 860px) {
  .recipes thead tr { display: flex; flex-wrap: wrap; gap: 0 16px; } .recipes th { padding-right: 0; }
  .recipes tbody tr { display: grid; grid-template-columns: 3fr 3fr 2fr 1fr; gap: 4px 10px; padding: 9px 0;
    border-top: 1px solid var(--rule); }
  .recipes td { border: 0; padding: 0; } .recipes td:first-child { grid-column: 1 / -1; }
  .recipes td:first-child small { display: inline; margin-left: 8px; } .recipes small { font-size: 12px; }
  .trees.seeds .plot { padding: 0 16px; width: 100%; }
  .trees.seeds td:first-child { min-width: 0; }
}
@media print {
  .live .filters, .filters { display: none; }
  .wide-table { overflow: visible; } .full { font-size: 6.6pt; width: 100%; } .full th { font-size: 6.4pt; }
  .full td, .full th { white-space: normal; padding-right: 5px; }
  .recipes { font-size: 9pt; } .recipes small { font-size: 8pt; }
  .pair { grid-template-columns: repeat(auto-fit, minmax(80mm, 1fr)); } figure { break-inside: avoid; }
  .squares { grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 10px; } .trees.seeds { break-inside: avoid; }
}
"""
