"""The style sheet of the report's page: light and dark, from 390 pixels to a desktop, and print."""

STYLE = """
:root { color-scheme: light dark; --bg: #fcfcfb; --ink: #1d2126; --soft: #5d646e; --line: #e3e5e8;
  --faint: #f3f4f5;
  --accent: #2a69ab; --bar: #d9e6f3; --warn: #7d5200; --warn-bg: #fdf3dc; --bad: #b3261e;
    --bad-bg: #fdeceb; }
@media (prefers-color-scheme: dark) { :root { --bg: #15171a; --ink: #e5e8eb; --soft: #9ba3ad;
  --line: #2c3137;
  --faint: #1d2024; --accent: #74b0ea; --bar: #243b53; --warn: #f0c674; --warn-bg: #2f2715;
    --bad: #ff8d84;
  --bad-bg: #38201e; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 70rem; background: var(--bg);
  color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans",
    sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
h1, h2, h3, h4, p, figure, dl, dd, ul, ol, pre { margin: 0; }
h1 { font-size: 1.05rem; font-weight: 600; overflow-wrap: anywhere; }
h1 + p { margin-top: .15rem; }
h2 { font-size: 1.55rem; font-weight: 650; letter-spacing: -.015em; line-height: 1.25;
  margin-bottom: 1rem; }
h3 { font-size: 1.05rem; font-weight: 600; letter-spacing: -.005em; margin-bottom: .7rem; }
h4 { font-size: .87rem; font-weight: 600; margin: 1.4rem 0 .35rem; }
h3 + h4 { margin-top: 0; }
section { margin-top: 4rem; padding-top: 1.8rem; border-top: 2px solid var(--ink);
  scroll-margin-top: 1rem; }
header + section { margin-top: 1.4rem; }
.part { margin-top: 2.6rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.3rem; margin-top: .9rem; font-size: .93rem; }
a { color: var(--accent); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; text-underline-offset: 3px; }
p + p, .scroll + p, p + .scroll, .notice + .scroll, details + .scroll,
details + p { margin-top: .75rem; }
.tiles + p { margin-top: 1.1rem; }
.tiles + .scroll { margin-top: 1.2rem; }
.next { border-left: 3px solid var(--accent); background: var(--faint); padding: .6rem .9rem;
  margin-top: 1.5rem;
  border-radius: 0 6px 6px 0; font-size: .93rem; overflow-wrap: anywhere; }
.next a { font-weight: 600; display: block; }
.steps { padding: 0; list-style: none; counter-reset: step; display: grid; gap: 1.5rem; }
.steps li { counter-increment: step; position: relative; padding-left: 2.6rem; max-width: 46rem;
  overflow-wrap: anywhere; }
.steps li::before { content: counter(step); position: absolute; left: 0; top: 0; width: 1.7rem;
  height: 1.7rem;
  border-radius: 50%; background: var(--bar); color: var(--ink); font-weight: 600;
    font-size: .87rem;
  display: grid; place-items: center; }
.steps p + p { margin-top: .3rem; }
.steps b { font-weight: 600; }
.steps code, pre { background: var(--faint); border: 1px solid var(--line); border-radius: 5px;
  padding: .15rem .5rem; }
pre { padding: .7rem .9rem; white-space: pre-wrap; overflow-wrap: anywhere; }
pre + p { margin-top: .6rem; }
code { font: .87em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
  overflow-wrap: anywhere; }
.soft, figcaption, th { color: var(--soft); }
.soft, figcaption { font-size: .87rem; }
.prose { max-width: 44rem; }
.hero { display: grid; grid-template-columns: minmax(16rem, 5fr) 7fr; gap: 1.5rem 3rem;
  align-items: start; }
.big { font-size: clamp(3.4rem, 9vw, 5rem); font-weight: 650; line-height: 1;
  letter-spacing: -.035em;
  margin: .3rem 0 .7rem; white-space: nowrap; }
.big small { font-size: .5em; font-weight: 500; letter-spacing: 0; color: var(--soft);
  margin-left: .2em; }
.label { font-size: .87rem; color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr));
  gap: 1.2rem 1.5rem; }
.tiles dt { font-size: .8rem; color: var(--soft); }
.tiles dd { font-size: 1.15rem; font-weight: 550; line-height: 1.35; overflow-wrap: anywhere; }
.tiles dd small { display: block; font-size: .8rem; font-weight: 400; color: var(--soft); }
.bad { color: var(--bad) !important; }
.notice { border-left: 3px solid var(--warn); background: var(--warn-bg); color: var(--warn);
  padding: .55rem .85rem;
  border-radius: 0 6px 6px 0; margin-top: .75rem; font-size: .93rem; overflow-wrap: anywhere; }
.notice.bad { border-color: var(--bad); background: var(--bad-bg); }
h2 + .notice { margin-top: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; width: 100%; }
th { text-align: left; font-weight: 500; font-size: .8rem; white-space: nowrap; }
th, td { padding: .38rem 1rem .38rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
tbody tr:last-child td { border-bottom: 0; }
.num { text-align: right; white-space: nowrap; }
td:not(.num) { overflow-wrap: anywhere; min-width: 4.5rem; }
.splits td { min-width: 0 !important; }
.files td:first-child { white-space: nowrap; }
.fit { width: auto; min-width: min(100%, 40rem); }
.narrow { min-width: min(100%, 24rem); }
.meter { display: inline-block; min-width: 9rem; padding: 0 .4rem; border-radius: 3px;
  background: linear-gradient(to left, var(--bar) var(--share), transparent 0); }
.range { position: relative; display: block; width: 12rem; height: 1.3em; border-radius: 3px;
  background: var(--faint); }
.range i, .range b { position: absolute; top: 0; bottom: 0; border-radius: 3px; }
.range i { background: var(--bar); }
.range b { width: 3px; margin-left: -1.5px; background: var(--accent); }
.range u { position: absolute; top: 0; bottom: 0; width: 1px; background: var(--soft); }
.first tbody tr:first-child { font-weight: 600; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr));
  gap: 1.5rem 2rem; }
.panels img { display: block; width: 100%; max-width: 30rem; height: auto; }
.panels + p, .panels + .scroll, .beside + .soft { margin-top: .9rem; }
.beside { display: flex; flex-wrap: wrap; gap: 1.5rem 3rem; align-items: flex-start; }
.beside > * { min-width: 0; max-width: 100%; }
.beside > .grow { flex: 1 1 20rem; max-width: 36rem; }
.beside h4 { margin-top: 0; }
.matrix img, .plot img { display: block; height: auto; }
.plot { flex: 0 1 410px; }
.plot img { width: 100%; max-width: 410px; }
.figure > .grow { flex: 1 1 22rem; max-width: 40rem; }
.figure .tiles { grid-template-columns: repeat(auto-fill, minmax(8.4rem, 1fr)); }
div.shots { display: flex; gap: 4px; min-height: 1px; }
div.shots img { width: 40px; height: 40px; object-fit: contain; border-radius: 3px;
  background: var(--faint); }
div.shots .gone { width: 40px; height: 40px; overflow: hidden; font-size: .5rem; line-height: 1.1;
  color: var(--soft); }
.pairs td { vertical-align: middle; }
.pairs td:not(.num) { min-width: 3.9rem; }
.pairs td.shots { min-width: 128px; }
.views td:not(.num) { min-width: 5.2rem; }
.wrong { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.4rem, 1fr));
  gap: 1.6rem 1.2rem;
  margin-top: 1.2rem; }
.wrong figure { min-width: 0; }
.wrong .frame { height: 104px; border-radius: 6px; background: var(--faint); display: flex;
  align-items: center;
  justify-content: center; margin-bottom: .5rem; overflow: hidden; }
.wrong img { max-width: 100%; width: 96px; height: 96px; object-fit: contain; }
.heated { grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); }
.heated .frame { gap: 4px; padding: 4px; }
.heated .frame img { flex: 1 1 0; min-width: 0; max-width: 96px; }
.wrong .heat { border-radius: 3px; }
.tiny { image-rendering: pixelated; }
.wrong .gone { font-size: .8rem; color: var(--soft); padding: .5rem; text-align: center;
  overflow-wrap: anywhere;
  max-height: 100%; }
.wrong figcaption { color: var(--ink); line-height: 1.4; overflow-wrap: anywhere; }
.wrong figcaption code { display: block; color: var(--soft); font-size: .74rem; margin-top: .2rem; }
details { margin-top: .75rem; }
summary { cursor: pointer; color: var(--accent); font-size: .93rem; width: fit-content; }
details > * + * { margin-top: .6rem; }
ul { padding-left: 1.15rem; }
abbr { text-decoration: underline dotted var(--soft); text-underline-offset: 3px; cursor: help; }
.recipe td.value { white-space: nowrap; font-weight: 550; }
.recipe .why { width: 65%; color: var(--soft); }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.5rem;
  font-size: .87rem; }
.facts dt { color: var(--soft); }
.facts dd { overflow-wrap: anywhere; min-width: 0; }
@media (max-width: 44rem) {
  body { padding: 1.5rem 1rem 3rem; }
  section { margin-top: 2.8rem; padding-top: 1.3rem; }
  .part { margin-top: 2rem; }
  h2 { font-size: 1.35rem; }
  .hero { grid-template-columns: 1fr; }
  .tiles, .figure .tiles { grid-template-columns: 1fr 1fr; }
  .wrong, .heated { grid-template-columns: 1fr 1fr; gap: 1.2rem .9rem; }
  .heated .frame { height: 90px; }
  .wide { display: none; }
  table { font-size: .82rem; }
  th, td { padding-right: .6rem; }
  th { font-size: .76rem; white-space: normal; vertical-align: bottom; line-height: 1.3; }
  th.num { white-space: normal; }
  div.shots img, div.shots .gone { width: 36px; height: 36px; }
  .pairs td.shots { min-width: 116px; }
  .meter { min-width: 3.8rem; }
  .recipe thead { display: none; }
  .recipe tr { display: grid; grid-template-columns: 1fr auto; padding: .5rem 0;
    border-bottom: 1px solid var(--line); }
  .recipe td { border: 0; padding: 0; width: auto; }
  .recipe td.value { text-align: right; }
  .recipe .why { grid-column: 1 / -1; width: auto; }
}
@media print { body { max-width: none; padding: 0; } section { break-inside: avoid-page; } }
"""
