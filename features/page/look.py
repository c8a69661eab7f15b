"""How the catalogue looks, and what its search box does; nothing is loaded from anywhere."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b2330; --soft: #5c6878; --line: #e1e6ed; --page: #f4f6f9; --card: #fff;
  --tint: #eaf1fb; --accent: #2a66b0; --bar: #6fa3dd; --warn: #c77d0a; --rail: #e6ebf2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ebf1; --soft: #98a5b6; --line: #2c3542; --page: #12161c;
  --card: #1a2029; --tint: #20334d; --accent: #82b5f2; --bar: #4f8bd0; --warn: #e0a344; --rail: #2a3340; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 16px; }
body { margin: 0; background: var(--page); color: var(--ink); font: 14.5px/1.5 system-ui, sans-serif; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
p { margin: 0; }
code { font: 0.93em ui-monospace, "DejaVu Sans Mono", monospace; }
.shell { display: grid; grid-template-columns: 216px minmax(0, 1fr); gap: 28px; max-width: 1320px; margin: 0 auto;
  padding: 28px 24px 80px; }
header { grid-column: 1 / -1; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -0.01em; }
.lead { color: var(--soft); max-width: 88ch; }
.facts { display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0 0; padding: 0; }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: 9px; padding: 8px 14px; }
dt { color: var(--soft); font-size: 12px; }
dd { margin: 0; font-variant-numeric: tabular-nums; }
.facts dd { font-weight: 600; overflow-wrap: anywhere; }
nav { position: sticky; top: 16px; align-self: start; max-height: calc(100vh - 32px); overflow-y: auto; }
nav label { display: block; }
nav .hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
input { width: 100%; font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line);
  border-radius: 9px; padding: 8px 12px; }
input:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
#found { color: var(--soft); font-size: 12.5px; padding: 6px 2px 8px; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav li a { display: flex; justify-content: space-between; gap: 8px; padding: 4px 10px; border-radius: 7px;
  color: var(--ink); }
nav li a:hover { background: var(--tint); text-decoration: none; }
nav li a span { color: var(--soft); font-variant-numeric: tabular-nums; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; margin: 0 0 24px;
  overflow: hidden; }
.about { padding: 16px 20px 14px; }
h2 { font-size: 18px; margin: 0 0 2px; overflow-wrap: anywhere; }
.chips { display: flex; flex-wrap: wrap; gap: 6px; margin: 8px 0 6px; }
.chips span { font-size: 12px; background: var(--tint); border-radius: 99px; padding: 2px 10px; }
.chips .off { background: none; box-shadow: inset 0 0 0 1px var(--line); color: var(--soft); }
article { display: grid; grid-template-columns: minmax(0, 1fr) 150px 104px 236px; gap: 6px 24px; padding: 13px 20px;
  border-top: 1px solid var(--line); }
article:target { background: var(--tint); }
h3 { font: 600 14px/1.4 ui-monospace, "DejaVu Sans Mono", monospace; margin: 0; overflow-wrap: anywhere; }
h3 a { color: inherit; }
.meaning { color: var(--soft); max-width: 62ch; }
.plain { margin: 0; font-size: 13px; }
.plain div { display: grid; grid-template-columns: 48px minmax(0, 1fr); gap: 6px; align-items: baseline; }
.plain dd { overflow-wrap: anywhere; }
.missing { color: var(--soft); font-size: 12px; line-height: 1.6; font-variant-numeric: tabular-nums; }
.missing b { float: right; color: var(--ink); font-weight: 400; font-size: 13px; }
.read { color: var(--soft); font-size: 12px; margin-top: 3px; }
.rail { display: block; height: 5px; border-radius: 3px; background: var(--rail); overflow: hidden; }
.rail i { display: block; height: 100%; background: var(--bar); }
.missing .rail { margin: 1px 0 5px; clear: both; }
.missing .rail i { background: var(--warn); }
svg { display: block; width: 100%; height: 50px; }
.bars { fill: var(--bar); }
.floor { stroke: var(--line); fill: none; vector-effect: non-scaling-stroke; }
.box { stroke: var(--soft); stroke-width: 2.5; opacity: 0.55; fill: none; vector-effect: non-scaling-stroke; }
.tick { stroke: var(--ink); stroke-width: 2; fill: none; vector-effect: non-scaling-stroke; }
.ends { display: flex; justify-content: space-between; color: var(--soft); font-size: 12px;
  font-variant-numeric: tabular-nums; }
.ends b { color: var(--ink); font-weight: 600; }
.note, .none { color: var(--soft); font-size: 12.5px; }
.note b { color: var(--ink); }
.words { list-style: none; margin: 0; padding: 0; font-size: 12.5px; }
.words li { display: grid; grid-template-columns: minmax(0, 1fr) 64px 48px; gap: 8px; align-items: center; }
.words li > span:last-child { text-align: right; font-variant-numeric: tabular-nums; color: var(--soft); }
.word { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
[hidden] { display: none !important; }
@media (max-width: 1020px) {
  article { grid-template-columns: minmax(0, 1fr) 236px; }
}
@media (max-width: 760px) {
  html { scroll-padding-top: 104px; }
  .shell { display: block; padding: 18px 0 60px; }
  header { padding: 0 16px; }
  nav { top: 0; z-index: 1; background: var(--page); padding: 12px 16px 8px; border-bottom: 1px solid var(--line);
    margin-bottom: 16px; }
  nav ul { display: flex; overflow-x: auto; gap: 4px; scrollbar-width: none; }
  nav li a { white-space: nowrap; background: var(--card); border: 1px solid var(--line); padding: 2px 10px; }
  #found { display: none; }
  input { margin-bottom: 8px; font-size: 16px; }
  .facts div { flex: 1 1 40%; padding: 6px 12px; }
  section { border-radius: 0; border-width: 1px 0; margin-bottom: 18px; }
  .about, article { padding-left: 16px; padding-right: 16px; }
  article { grid-template-columns: minmax(0, 1fr); gap: 8px; }
  .missing { display: flex; flex-wrap: wrap; gap: 4px 14px; }
  .missing .rail { display: none; }
  .missing b { float: none; }
  .plain { display: flex; flex-wrap: wrap; gap: 2px 14px; }
  .plain div { display: flex; }
  svg { height: 60px; }
}
@media print { nav { display: none; } .shell { display: block; } section, article { break-inside: avoid-page; } }
"""
# Hides what does not fit every word of the search, or of `?q=` in the address; "/" goes to the box, Escape empties it.
SCRIPT = """
const box = document.getElementById("search"), found = document.getElementById("found");
const empty = document.getElementById("empty");
const sections = [...document.querySelectorAll("section")].map(one => ({ one,
  link: document.querySelector(`nav a[href="#${one.id}"]`).parentElement,
  rows: [...one.querySelectorAll("article")].map(row => ({ row, text: row.dataset.text.toLowerCase() })) }));
const all = sections.reduce((sum, each) => sum + each.rows.length, 0);
function filter() {
  const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let left = 0;
  for (const { one, link, rows } of sections) {
    let mine = 0;
    for (const { row, text } of rows) {
      row.hidden = !words.every(word => text.includes(word));
      mine += !row.hidden;
    }
    one.hidden = link.hidden = mine === 0;
    link.querySelector("span").textContent = mine;
    left += mine;
  }
  empty.hidden = left > 0;
  found.textContent = words.length ? `${left} of ${all} features` : `${all} features`;
}
box.addEventListener("input", filter);
document.addEventListener("keydown", event => {
  if (event.key === "/" && document.activeElement !== box) { event.preventDefault(); box.focus(); }
  if (event.key === "Escape" && document.activeElement === box) { box.value = ""; filter(); }
});
box.value = new URLSearchParams(location.search).get("q") ?? "";
filter();
"""
