"use strict";
/* The sections of one run, each a function from the run to an element, or null where the run has no such thing. */

const SOME = 24;  // images in a strip
const MANY = 40;  // groups or images of a kind of issue

/** A section with its heading. `content` gives the rest, and `draw` what needs its place in the page: both wait in
    `run.waiting`, as the map should not wait for them. */
function section(run, name, title, explanation, content, draw = () => {}) {
  const id = `run${run.number}-${name}`;
  const made = el("section", {id, "aria-labelledby": `${id}-title`}, el("h2", {id: `${id}-title`, text: title}),
    explanation ? el("p", {class: "explanation"}, explained(explanation)) : null);
  run.waiting.push(async () => {
    made.append(...content().flat().filter(Boolean));
    await draw();
  });
  return made;
}

/** Image numbers by the value that `of` has for them. */
function grouped(of) {
  const groups = new Map();
  of.forEach((value, i) => groups.has(value) ? groups.get(value).push(i) : groups.set(value, [i]));
  return groups;
}

function aboutSection(run) {
  const table = ([title, facts]) => el("details", {open: title === "data"}, el("summary", {text: title}),
    el("dl", {class: "facts"}, Object.entries(facts).filter(([, value]) => value !== null).map(([name, value]) =>
      [el("dt", {}, explained(name.replaceAll("_", " "))),
        el("dd", {text: written(value, title.endsWith("settings") ? "setting" : "number"), dir: "auto"})]).flat()));
  const again = () => el("div", {class: "again"}, el("h3", {text: "Repeat this run"}), el("code", {text: run.again}),
    el("button", {type: "button", text: "copy", onclick: () => copy(run.again)}));
  return section(run, "about", "About this run", null, () =>
    [run.again ? again() : null, el("div", {class: "columns"}, Object.entries(run.facts).map(table))]);
}

function mapSection(run) {
  if (!run.coordinates) return null;
  const host = el("div", {class: "map"}), selection = el("div", {class: "selection", "aria-live": "polite"});
  const content = () => {
    run.map = new MapView(run, host, (images, empty) => showSelection(run, selection, images, empty));
    return [host, selection];
  };
  return section(run, "map", "Map", `t-SNE of z_e of ${run.n === 1 ? "the image" : `the ${counted(run.n)}`}: near points have similar latents. Point at one ` +
    "to see its image. Click it to see its reconstruction and its nearest neighbours in z_e. Select several with a box or a lasso. " +
    "Keys: arrows move, + and − zoom, 0 shows everything, Enter opens the image in the middle, S selects all images in view.", content, () => run.map.draw());
}

function showSelection(run, host, images, empty = "") {
  const names = () => images.map(i => run.name(i)).join("\n") + "\n";
  host.replaceChildren();
  if (empty) host.append(el("p", {text: empty, dir: "auto"}));
  if (!images.length) return;
  host.append(el("div", {class: "controls"}, el("b", {text: `${written(images.length)} selected`}),
    el("button", {type: "button", text: "copy names", onclick: () => copy(names())}),
    el("button", {type: "button", text: "save names", onclick: () => save("names.txt", names())}),
    el("button", {type: "button", text: "save CSV", onclick: () => save("selection.csv", run.csv(images), "text/csv")}),
    el("button", {type: "button", text: "clear", onclick: () => run.map.select([])})), gallery(run, images));
}

function clustersSection(run) {
  const card = (c, images) => {
    const inner = sortedBy(i => run.centre_distances[i], images);
    return el("article", {class: "card"}, el("h3", {text: `cluster ${c}: ${counted(inner.length)}`}), classShares(run, inner),
      el("h4", {text: "nearest to its centre"}), gallery(run, inner.slice(0, SOME / 2), {size: 40}),
      el("h4", {text: "least typical"}), gallery(run, inner.slice(-SOME / 2).reverse(), {size: 40}));
  };
  return section(run, "clusters", "Clusters", "K-means on z_e. An image is typical if it is near the mean of its cluster in z_e.", () => {
    const groups = grouped(run.clusters);
    return [el("div", {class: "cards"}, sortedBy(c => c, groups.keys()).map(c => card(c, groups.get(c))))];
  });
}

/** A bar of the classes of some images, and the largest shares in words. */
function classShares(run, images) {
  if (!run.labels) return null;
  const counts = Array.from(grouped(images.map(i => run.labels[i])), ([c, rows]) => [c, rows.length]).sort((a, b) => b[1] - a[1]);
  const share = count => `${(100 * count / images.length).toFixed(0)} %`;
  const bar = el("div", {class: "bar", "aria-hidden": "true"}, counts.map(([c, count]) => {
    const part = el("span");
    part.style.width = `${100 * count / images.length}%`;
    part.style.background = categoryColour(c, run.classes.length);
    return part;
  }));
  const rest = counts.length > 4 ? `, ${counts.length - 4} more` : "";
  const words = counts.slice(0, 4).map(([c, count]) => `${run.className(c)}: ${share(count)}`).join(", ") + rest;
  return el("div", {}, bar, el("p", {class: "shares", text: words, dir: "auto"}));
}

function codebookSection(run) {
  const book = run.codebook;
  if (!book) return null;
  const host = el("div", {class: "selection", "aria-live": "polite"});
  const order = sortedBy(k => -book.usage[k], range(book.numbers.length));
  const dead = book.counts.filter(count => count === 0).length;
  const words = k => [`codeword ${book.numbers[k]}`, `use ${written(book.usage[k], "share")}`, counted(book.counts[k]),
    book.sigma ? `σ ${written(book.sigma[k])}` : null, book.counts[k] ? null : "dead"].filter(Boolean);
  const code = k => el("button", {type: "button", class: book.counts[k] ? "thumb" : "thumb dead", onclick: () => open(k)},
    book.images === null ? el("span", {class: "named", text: `codeword ${book.numbers[k]}`}) : tile(book.images, k, 48, words(k).join(", ")),
    el("span", {class: "caption", text: book.counts[k] ? written(book.usage[k], "share") : "dead"}));
  const open = k => {
    const images = sortedBy(i => run.codeword_distances[i], range(run.n).filter(i => run.codewords[i] === book.numbers[k]));
    host.replaceChildren(el("h3", {text: words(k).join(" · ")}),
      images.length ? gallery(run, images.slice(0, 3 * SOME)) : el("p", {text: "No image on this page uses it."}));
  };
  const shown = book.numbers.length < book.size ? ` The ${written(book.numbers.length)} most used are shown.` : "";
  return section(run, "codebook", "Codebook", `${counted(book.size, "codeword")}, decoded, the most used first.${shown} ${dead} of these are dead: ` +
    "they are not the most probable codeword of any image. Click one to see its images: those for which it is the most probable codeword, " +
    "the nearest in z_e first.", () => [el("ul", {class: "gallery atlas"}, order.map(k => el("li", {}, code(k)))), host]);
}

function reconstructionsSection(run) {
  const strip = (title, images) => [el("h3", {text: title}), el("ul", {class: "gallery"}, images.map(i => el("li", {class: "couple"},
    run.images === null ? null : button(run, i, 48, null), button(run, i, 48, written(run.errors[i]), "reconstructions"))))];
  return section(run, "reconstructions", "Reconstructions", "The error is nMSE: the mean squared error of an image's pixels divided by the " +
    "variance of the training pixels.", () => {
    const order = sortedBy(i => run.errors[i], range(run.n));
    return [...strip("worst", order.slice(-SOME).reverse()), ...strip("best", order.slice(0, SOME))];
  });
}

function curvesSection(run) {
  if (!run.curves.length) return null;
  run.plots = run.curves.map(curve => ({host: el("div", {class: "curve", role: "img",
    "aria-label": `${curve.title} against the iteration: ${curve.series.map(one => one.name).join(", ")}`}), curve}));
  const key = one => {
    const dot = el("span", {class: "dot"});
    dot.style.background = one.colour;
    return el("span", {class: "key"}, dot, el("span", {text: one.name}));
  };
  return section(run, "curves", "Curves of training", null, () => [el("div", {class: "curves"}, run.plots.map(({host, curve}) =>
    el("figure", {}, el("figcaption", {}, el("b", {text: curve.title}), " ", curve.series.map(key)), host)))], () => drawCurves(run));
}

async function drawCurves(run) {
  for (const {host, curve} of run.plots) {
    const views = await Bokeh.embed.embed_item(curve.figure, host), plot = views.roots[0].model;
    views.roots[0].el.tabIndex = -1;
    const ink = () => {
      const colour = getComputedStyle(document.body).color, line = getComputedStyle(document.body).getPropertyValue("--line");
      for (const axis of [...plot.below, ...plot.left])
        axis.setv({axis_label_text_color: colour, major_label_text_color: colour, axis_line_color: colour,
          major_tick_line_color: colour, minor_tick_line_color: colour});
      for (const grid of plot.center) grid.setv({grid_line_color: line.trim()});
    };
    ink();
    dark.addEventListener("change", ink);
    await pause();
  }
}

function confusionSection(run) {
  if (!run.labels) return null;
  const matrices = [run.predicted ? ["probe", "softmax probe: class against predicted class", run.predicted, c => run.className(c), true] : null,
    ["clusters", "clusters: class against cluster", run.clusters, c => `cluster ${c}`, false]].filter(Boolean);
  return section(run, "confusion", "Confusion", "How many images of each class (rows) the probe assigns to each class, and how many are in each cluster. Click a number to see the images.",
    () => matrices.map(([name, title, of, columnName, square]) => confusion(run, name, title, of, columnName, square)));
}

function confusion(run, name, title, of, columnName, square) {
  const cells = grouped(range(run.n).map(i => `${run.labels[i]} ${of[i]}`));
  const classes = sortedBy(c => c, new Set(square ? [...run.labels, ...of] : run.labels));
  const columns = square ? classes : sortedBy(c => c, new Set(of));
  const totals = grouped(run.labels), host = el("div", {class: "selection", "aria-live": "polite"});
  const cell = (r, c) => {
    const images = cells.get(`${r} ${c}`) ?? [], share = images.length / (totals.get(r)?.length ?? 1);
    const made = el("td", {class: square && r === c ? "right" : ""}, images.length ? el("button", {type: "button", text: written(images.length),
      "aria-label": `${counted(images.length)}, class ${run.className(r)}, ${columnName(c)}`, onclick: () => {
        host.replaceChildren(el("h4", {text: `${run.className(r)} → ${columnName(c)}: ${written(images.length)}`, dir: "auto"}), gallery(run, images));
      }}) : null);
    made.style.setProperty("--share", share.toFixed(3));
    return made;
  };
  return el("div", {class: "confusion"}, el("h3", {text: title}), el("div", {class: "scroll"}, el("table", {class: `matrix ${name}`},
    el("tr", {}, el("td"), columns.map(c => el("th", {scope: "col", dir: "auto", text: columnName(c)}))),
    classes.map(r => el("tr", {}, el("th", {scope: "row", dir: "auto", text: run.className(r)}), columns.map(c => cell(r, c)))))), host);
}

/** What `softvq issues` finds among the images that are shown, kind by kind. */
function issuesSection(run) {
  const kinds = {...run.groups, ...run.suspects}, name = kind => kind.replaceAll("_", " ");
  const heading = (kind, noun) => el("h3", {}, explained(name(kind)), `: ${counted(kinds[kind].length, noun)}`);
  const group = images => el("li", {class: run.labels && new Set(images.map(i => run.labels[i])).size > 1 ? "couple differ" : "couple"},
    images.slice(0, 6).map(i => button(run, i, 48, run.label(i))), images.length > 6 ? el("span", {class: "caption", text: `and ${written(images.length - 6)} more`}) : null);
  const groups = kind => [heading(kind, "group"), el("ul", {class: "gallery"}, kinds[kind].slice(0, MANY).map(group))];
  const suspects = kind => {
    const words = new Map(kinds[kind]);
    const caption = i => kind === "doubted_labels" ? `${run.label(i)}, perhaps ${words.get(i)}` : words.get(i);
    return [heading(kind, "image"), gallery(run, Array.from(words.keys()), {most: MANY, caption})];
  };
  const none = Object.keys(kinds).filter(kind => !kinds[kind].length).map(name).join(", ");
  const found = of => Object.keys(of).filter(kind => of[kind].length);
  return section(run, "issues", "Issues", "Images on this page to check when you clean the data. The number below an image is its score: 0 is the worst. " +
    "The command softvq issues searches the training and the test images and writes the file names to a table.", () =>
    [...found(run.groups).map(groups), ...found(run.suspects).map(suspects), none ? el("p", {text: `None found: ${none}.`}) : null]);
}
