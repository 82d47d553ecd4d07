"use strict";
/* The page: its head, the table of numbers, a tab a run. A run is drawn when its tab is first opened. */

const SECTIONS = [mapSection, clustersSection, codebookSection, reconstructionsSection, confusionSection, issuesSection,
  curvesSection, aboutSection];

/** A column for each run, followed by those of its baselines that do not stand there yet. */
function numbersTable(runs) {
  const columns = [];
  for (const run of runs) {
    columns.push(run);
    for (const baseline of run.baselines)
      if (!columns.some(other => JSON.stringify(other) === JSON.stringify(baseline))) columns.push(baseline);
  }
  const names = [...new Set(runs.flatMap(run => run.numbers.map(number => number.name)))];
  const cell = (column, name) => {
    const number = column.numbers.find(each => each.name === name);
    return el("td", {class: column instanceof Run ? "" : "baseline", text: number ? written(number.value, number.kind) : "–"});
  };
  return el("table", {class: "numbers"}, el("thead", {}, el("tr", {}, el("td"),
    columns.map(column => el("th", {scope: "col", dir: "auto"}, column instanceof Run ? column.title : explained(column.title))))),
    el("tbody", {}, names.map(name => el("tr", {}, el("th", {scope: "row"}, explained(name)), columns.map(column => cell(column, name))))));
}

/** The table of a study, as its Markdown has it. */
function studyTable({title, columns, rows, notes}) {
  const [, ...names] = columns;
  return el("figure", {class: "study"}, el("figcaption", {}, el("b", {text: title, dir: "auto"})),
    el("div", {class: "scroll"}, el("table", {class: "numbers"}, el("thead", {}, el("tr", {}, el("td"),
      names.map(name => el("th", {scope: "col"}, explained(name))))),
    el("tbody", {}, rows.map(([label, ...cells]) => el("tr", {}, el("th", {scope: "row", text: label, dir: "auto"}),
      cells.map(cell => el("td", {text: cell}))))))), notes.map(text => el("p", {class: "explanation", text, dir: "auto"})));
}

function tabs(runs) {
  const list = el("div", {role: "tablist", "aria-label": "Runs", hidden: runs.length === 1});
  const panels = runs.map(run => el("div", {role: "tabpanel", id: `run${run.number}`, "aria-labelledby": `tab${run.number}`, hidden: true}));
  const buttons = runs.map(run => el("button", {type: "button", role: "tab", id: `tab${run.number}`, "aria-controls": `run${run.number}`,
    text: run.title, dir: "auto", onclick: () => open(run.number)}));
  const open = async number => {
    runs.forEach((run, other) => {
      buttons[other].setAttribute("aria-selected", String(other === number));
      buttons[other].tabIndex = other === number ? 0 : -1;
      panels[other].hidden = other !== number;
    });
    document.getElementById("detail").hidden = true;
    if (!panels[number].childElementCount) await fill(runs[number], panels[number]);
  };
  list.addEventListener("keydown", event => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!step) return;
    const next = (buttons.findIndex(one => one.tabIndex === 0) + step + runs.length) % runs.length;
    buttons[next].focus();
    open(next);
  });
  list.append(...buttons);
  document.getElementById("runs").append(list, ...panels);
  return open(0);
}

/** All headings at once and the first section, which is the map; the other sections follow while it is looked at. */
async function fill(run, panel) {
  const sections = SECTIONS.map(make => make(run)).filter(Boolean);
  const links = sections.map(made => el("a", {href: `#${made.id}`, text: made.querySelector("h2").textContent}));
  const notes = run.notes.map(text => el("p", {class: "note", text, dir: "auto"}));
  panel.append(el("nav", {"aria-label": "Sections"}, links), ...notes, ...sections);
  await run.waiting.shift()();
  fillRest(run, panel);
}

async function fillRest(run, panel) {
  for (const complete of run.waiting) {
    await pause();
    await complete();
  }
  panel.dataset.whole = "true";
}

async function start() {
  const runs = page.runs.map((stored, number) => new Run(stored, number));
  document.querySelector("h1").textContent = page.title;
  document.querySelector(".made").textContent = `softvq ${page.softvq}`;
  document.querySelector("#numbers .scroll").append(...page.tables.map(studyTable), runs.length ? numbersTable(runs) : "");
  if (runs.length) await tabs(runs);
  document.body.dataset.ready = "true";
  performance.mark("ready");
}

document.addEventListener("keydown", event => {
  if (event.key === "Escape") document.querySelector("#detail:not([hidden]) .close")?.click();
});
start();
