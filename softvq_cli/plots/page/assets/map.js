"use strict";
/* The map of one run: Bokeh draws the points and finds what is under the pointer; the rest is here. */

/** Colours of numbers from small to large: nine of matplotlib's viridis. */
const VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];
const LARGEST_LEGEND = 300;
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function mixed(a, b, share) {
  const part = (text, at) => parseInt(text.slice(at, at + 2), 16);
  return "#" + [1, 3, 5].map(at => Math.round(part(a, at) * (1 - share) + part(b, at) * share).toString(16).padStart(2, "0")).join("");
}

/** A colour for category `c` of `n`: the figures' own while they last, lighter on a dark page. */
function categoryColour(c, n) {
  if (n > page.colours.length) return `hsl(${(c * 137.508) % 360} 65% ${dark.matches ? 65 : 45}%)`;
  return dark.matches ? mixed(page.colours[c], "#ffffff", 0.35) : page.colours[c];
}

/** Name → how points are coloured: categories with a legend, or a scale. */
function colourings(run) {
  const known = {};
  if (run.labels) known["class"] = {of: run.labels, n: run.classes.length, name: c => run.className(c)};
  known["cluster"] = {of: run.clusters, n: extremes(run.clusters)[1] + 1, name: c => `cluster ${c}`};
  known["error"] = {of: run.errors};
  if (run.codewords) known["codeword"] = {of: run.codewords, n: run.codebook.size, name: c => `codeword ${c}`};
  if (run.predicted) known["the probe's class"] = {of: run.predicted, n: run.classes.length, name: c => run.className(c)};
  return known;
}

class MapView {
  constructor(run, host, onSelect) {
    Object.assign(this, {run, host, onSelect, colourings: colourings(run), hidden: new Set()});
    this.x = run.coordinates.filter((_, i) => i % 2 === 0);
    this.y = run.coordinates.filter((_, i) => i % 2 === 1);
    this.plot = el("div", {class: "plot", tabindex: 0, role: "application",
      "aria-label": `Map of ${counted(run.n)}. Arrow keys move, plus and minus zoom, 0 resets, Enter opens the image nearest to the middle, S selects the images in view.`,
      onkeydown: event => this.key(event)});
    this.tip = el("div", {class: "tip", hidden: true});
    this.legend = el("div", {class: "legend", role: "group", "aria-label": "Legend: click to hide or show"});
    this.host.append(this.controls(), el("div", {class: "plot-frame"}, this.plot, this.tip), this.legend);
  }

  controls() {
    const choice = el("select", {onchange: event => this.colourBy(event.target.value)},
      Object.keys(this.colourings).map(name => el("option", {value: name, text: name})));
    const modes = [["pan", "move"], ["box", "select in a box"], ["lasso", "select with a lasso"]];
    const drag = el("select", {onchange: event => this.drag(event.target.value)},
      modes.map(([value, text]) => el("option", {value, text})));
    const search = el("input", {type: "search", placeholder: "file or class", "aria-label": "Search file names and classes",
      oninput: event => {
        clearTimeout(this.searching);
        this.searching = setTimeout(() => this.search(event.target.value), 200);
      }});
    const press = (text, label, action) => el("button", {type: "button", "aria-label": label, title: label, onclick: action}, text);
    return el("div", {class: "controls"},
      el("label", {}, "colour by ", choice), el("label", {}, "drag to ", drag),
      press("+", "Zoom in", () => this.zoom(0.7)), press("−", "Zoom out", () => this.zoom(1 / 0.7)),
      press("reset", "Show the whole map", () => this.reset()),
      press("select view", "Select all images in view", () => this.selectView()), el("label", {}, "search ", search));
  }

  async draw() {
    const views = await Bokeh.embed.embed_item(structuredClone(page.map), this.plot);
    this.figure = views.roots[0];
    this.figure.el.tabIndex = -1;  // the keys are this view's, and one stop of Tab is enough
    const find = name => this.figure.model.document.get_model_by_name(name);
    this.points = find("points");
    this.picked = find("picked");
    this.ranges = [this.figure.model.x_range, this.figure.model.y_range];
    this.gestures = Object.fromEntries(["pan", "box", "lasso"].map(name => [name, find(name)]));
    const size = Math.min(Math.max(400 / Math.sqrt(this.run.n), 4), 10), dots = find("dots");
    for (const glyph of [dots.glyph, dots.nonselection_glyph]) glyph.setv({size});
    dots.selection_glyph.setv({size: 1.4 * size + 2});
    const {width} = this.plot.getBoundingClientRect();
    this.figure.model.setv({height: Math.min(Math.max(Math.round(width), 320), 560)});
    this.plot.style.minHeight = `${this.figure.model.height + 2}px`;
    this.reset();
    this.colourBy(Object.keys(this.colourings)[0]);
    this.drag("pan");
    this.points.inspect.connect(([, {geometry}]) => this.hover(geometry));
    this.plot.addEventListener("pointerdown", event => { this.press = [event.clientX, event.clientY]; }, true);
    this.plot.addEventListener("pointermove", event => this.place(event));
    this.plot.addEventListener("pointerup", event => this.release(event), true);
    this.plot.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    this.points.selected.change.connect(() => this.selected());
    dark.addEventListener("change", () => this.paint());
    this.run.ring = i => this.ring(i);
  }

  colourBy(name) {
    this.colouring = this.colourings[name];
    this.hidden.clear();
    this.paint();
    this.drawLegend();
  }

  /** Colours into the source; what the legend hides has no place on the map. */
  paint() {
    const {of, n} = this.colouring;
    const shown = this.shown();
    const colour = n === undefined ? this.scale(of) : Array.from(of, c => categoryColour(c, n));
    this.points.data = {
      x: this.x.map((value, i) => shown(i) ? value : NaN), y: this.y.map((value, i) => shown(i) ? value : NaN), colour};
  }

  shown() {
    const {of, n} = this.colouring;
    return i => n === undefined || !this.hidden.has(of[i]);
  }

  /** Numbers between the smallest and the 99th percentile, so that one extreme does not take all the colours. */
  scale(values) {
    const sorted = Float32Array.from(values).sort();
    const low = sorted[0], high = sorted[Math.floor(0.99 * (sorted.length - 1))] || 1;
    this.limits = [low, high];
    return Array.from(values, value => {
      const at = Math.min(Math.max((value - low) / (high - low || 1), 0), 1) * (VIRIDIS.length - 1);
      return mixed(VIRIDIS[Math.floor(at)], VIRIDIS[Math.ceil(at)], at % 1);
    });
  }

  drawLegend() {
    const {of, n, name} = this.colouring;
    this.legend.replaceChildren();
    if (n === undefined) {
      const bar = el("span", {class: "ramp"});
      bar.style.background = `linear-gradient(to right, ${VIRIDIS.join(", ")})`;
      this.legend.append(el("span", {text: written(this.limits[0])}), bar, el("span", {text: `${written(this.limits[1])} and more`}));
      return;
    }
    const counts = new Map();
    for (const c of of) counts.set(c, (counts.get(c) ?? 0) + 1);
    const present = range(n).filter(c => counts.has(c));
    if (present.length > LARGEST_LEGEND) {
      this.legend.append(el("span", {text: `${present.length} colours: point at an image to read its value`}));
      return;
    }
    const keys = new Map(present.map(c => [c, this.legendKey(c, n, `${name(c)} (${written(counts.get(c))})`)]));
    const all = hide => {
      this.hidden = new Set(hide ? present : []);
      for (const [c, key] of keys) key.setAttribute("aria-pressed", String(!this.hidden.has(c)));
      this.paint();
    };
    this.legend.append(...keys.values(), el("button", {type: "button", text: "all", onclick: () => all(false)}),
      el("button", {type: "button", text: "none", onclick: () => all(true)}));
  }

  legendKey(c, n, text) {
    const dot = el("span", {class: "dot"});
    dot.style.background = categoryColour(c, n);
    const key = el("button", {type: "button", class: "key", "aria-pressed": "true", onclick: () => {
      if (!this.hidden.delete(c)) this.hidden.add(c);
      key.setAttribute("aria-pressed", String(!this.hidden.has(c)));
      this.paint();
    }}, dot, el("span", {text, dir: "auto"}));
    return key;
  }

  drag(name) {
    for (const [other, tool] of Object.entries(this.gestures)) tool.active = other === name;
  }

  /** Of images that lie over each other, the one whose middle is nearest to a place in the plot. */
  nearest(indices, sx, sy) {
    const {x_scale, y_scale} = this.figure.frame;
    const distance = i => (x_scale.compute(this.x[i]) - sx) ** 2 + (y_scale.compute(this.y[i]) - sy) ** 2;
    return Array.from(indices).reduce((best, i) => best === undefined || distance(i) < distance(best) ? i : best, undefined);
  }

  hover(geometry) {
    const i = this.nearest(this.points.inspected.indices, geometry.sx, geometry.sy);
    this.tip.hidden = i === undefined;
    if (i === undefined || i === this.tipOf) return;
    this.tipOf = i;
    this.tip.replaceChildren(this.run.picture(i, 84, ""),
      el("div", {}, el("b", {text: this.run.name(i), dir: "auto"}),
        this.run.facts_of(i).map(([name, value]) => el("div", {text: `${name}: ${value}`}))));
  }

  /** The tooltip beside the pointer, on the side where there is room. */
  place(event) {
    const frame = this.plot.getBoundingClientRect();
    const x = event.clientX - frame.left, y = event.clientY - frame.top;
    const right = x > frame.width / 2, below = y > frame.height / 2;
    Object.assign(this.tip.style, {left: right ? "auto" : `${x + 14}px`, right: right ? `${frame.width - x + 14}px` : "auto",
      top: below ? "auto" : `${y + 14}px`, bottom: below ? `${frame.height - y + 14}px` : "auto"});
  }

  /** A click, unlike a drag, is meant for one image. */
  release(event) {
    const [x, y] = this.press ?? [Infinity, Infinity];
    const frame = this.plot.getBoundingClientRect();
    this.click = Math.hypot(event.clientX - x, event.clientY - y) < 4 ? [x - frame.left, y - frame.top] : null;
  }

  /** A click opens one image, and fades no other; a box or a lasso collects them. */
  selected() {
    const indices = Array.from(this.points.selected.indices);
    if (indices.length && this.click) {
      const i = this.nearest(indices, ...this.click);
      this.select([]);
      showDetail(this.run, i);
    } else this.onSelect(indices);
  }

  select(indices) {
    this.click = null;
    this.points.selected.indices = indices;
  }

  search(text) {
    const found = text ? this.run.search(text) : [];
    this.select(found);
    if (text && !found.length) this.onSelect(found, `No file name and no class contains “${text}”.`);
  }

  selectView() {
    const [x, y] = this.ranges, shown = this.shown();
    const inside = (range, value) => value >= Math.min(range.start, range.end) && value <= Math.max(range.start, range.end);
    this.select(range(this.run.n).filter(i => shown(i) && inside(x, this.x[i]) && inside(y, this.y[i])));
  }

  /** A ring around the image whose details are shown. */
  ring(i) {
    this.picked.data = i === null ? {x: [], y: []} : {x: [this.x[i]], y: [this.y[i]]};
  }

  /** The whole map, a unit as long to the side as upwards. */
  reset() {
    const {width} = this.plot.getBoundingClientRect(), height = this.figure.model.height;
    const [[left, right], [bottom, top]] = [extremes(this.x), extremes(this.y)];
    const unit = 1.06 * Math.max((right - left) / width, (top - bottom) / height) || 1;
    [[left + right, width], [bottom + top, height]].forEach(([sum, pixels], axis) =>
      this.ranges[axis].setv({start: (sum - unit * pixels) / 2, end: (sum + unit * pixels) / 2}));
  }

  zoom(factor) {
    for (const range of this.ranges) {
      const middle = (range.start + range.end) / 2, half = (range.end - range.start) / 2 * factor;
      range.setv({start: middle - half, end: middle + half});
    }
  }

  move(axis, share) {
    const range = this.ranges[axis], step = (range.end - range.start) * share;
    range.setv({start: range.start + step, end: range.end + step});
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = {
      ArrowLeft: () => this.move(0, -0.1), ArrowRight: () => this.move(0, 0.1),
      ArrowDown: () => this.move(1, -0.1), ArrowUp: () => this.move(1, 0.1),
      "+": () => this.zoom(0.7), "=": () => this.zoom(0.7), "-": () => this.zoom(1 / 0.7), 0: () => this.reset(),
      Enter: () => this.pickMiddle(), s: () => this.selectView(), S: () => this.selectView(),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  }

  pickMiddle() {
    const [x, y] = this.ranges.map(range => (range.start + range.end) / 2), shown = this.shown();
    const distance = i => (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
    let nearest = null;
    for (let i = 0; i < this.run.n; i++) if (shown(i) && (nearest === null || distance(i) < distance(nearest))) nearest = i;
    if (nearest !== null) showDetail(this.run, nearest);
  }
}
