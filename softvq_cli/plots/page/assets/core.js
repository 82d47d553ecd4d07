"use strict";
/* What everything else uses: the data of the page, elements, thumbnails. Text of a data set only ever
   goes through textContent, setAttribute("aria-label") and the like: it is never parsed. */

const page = JSON.parse(document.getElementById("document").textContent);
const NUMBERS = {uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, int32: Int32Array, float32: Float32Array};

/** An element with properties, listeners (`onclick`), attributes (all other names) and children. */
function el(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") made.className = value;
    else if (key === "text") made.textContent = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter(child => child !== null && child !== undefined));
  return made;
}

/** The bytes of base64 text. A plain loop: of megabytes, `Uint8Array.from` with a function takes a second. */
function bytesOf(base64) {
  const letters = atob(base64), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

/** A typed array from its base64 text; null stays null. */
function decoded(packed) {
  if (packed === null) return null;
  const bytes = bytesOf(packed.data);
  const values = new NUMBERS[packed.type](bytes.buffer);
  return packed.unit ? Float32Array.from(values, value => value * packed.unit) : values;
}

/** A number as text; of the kind "setting" as a command takes it, without separators. */
function written(value, kind = "number") {
  if (value === undefined || value === null) return "–";
  if (typeof value !== "number") return Array.isArray(value) ? value.map(one => written(one, kind)).join(", ") : String(value);
  if (kind === "share") return `${(100 * value).toFixed(2)} %`;
  if (kind === "setting") return String(value);
  return kind === "count" || Number.isInteger(value) ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(4)));
}

/** "1 image", "20,000 images". */
function counted(n, noun = "image") {
  return `${written(n)} ${noun}${n === 1 ? "" : "s"}`;
}

/** What a reader may not know, by the words that stand for it. */
const TERMS = {
  "nMSE": "Normalised mean squared error: the mean squared error of the pixels divided by the variance of the training pixels. 0 is perfect; 1 is as bad as the mean image.",
  "perplexity": "How many codewords are used, where rarely used ones count less: from 1 to K.",
  "codewords": "The vectors from which the bottleneck chooses. An image belongs to the most probable or the nearest one.",
  "codeword": "One of the vectors from which the bottleneck chooses. An image belongs to the most probable or the nearest one.",
  "NMI": "Normalised mutual information of clusters and classes: 0 is chance, 1 is perfect agreement.",
  "ARI": "Adjusted Rand index of clusters and classes: 0 is chance, 1 is perfect agreement.",
  "clustering accuracy": "Fraction of images whose cluster is assigned to their class, with the best one-to-one assignment of clusters to classes.",
  "probe accuracy": "Fraction of test images that a softmax layer classifies correctly. It is trained on the latents of the training images.",
  "silhouette": "How much nearer an image is to its own cluster than to the next one: -1 to 1.",
  "posterior entropy": "How uncertain the choice of a codeword is, in bits, averaged over the images: 0 is a certain choice.",
  "exact duplicates": "Groups of images with equal pixels.",
  "near duplicates": "Groups of images that look alike: the same image at another size, compression or brightness.",
  "leaks": "Groups of duplicates with images in both splits. The model is then tested on images that it was trained on.",
  "class conflicts": "Groups of duplicates with images in several classes.",
  "odd size": "Files whose area or aspect ratio is far from that of most files.",
  "outliers": "Images that are far from all others in z_e.",
  "doubted labels": "Labels that a cross-validated probe on z_e doubts, with the class that it suggests.",
  "chance": "The same measures for random vectors.",
  "raw data": "The same measures for the pixels or numbers themselves, without a model.",
  "RQ-KMeans": "The error of residual K-means of the inputs, without a network.",
  "PCA": "The same measures for principal components of the pixels, with as many components as the latents have dimensions.",
  "z_e": "The latent vector of an image: the output of the encoder.",
};
const TERM = new RegExp(`(?<![\\w-])(${Object.keys(TERMS).sort((a, b) => b.length - a.length).join("|")})(?![\\w-])`);

/** Text in which the first use of each term says what it means when it is pointed at. */
function explained(text, known = new Set()) {
  const found = TERM.exec(text);
  if (!found) return [text];
  const [term] = found, end = found.index + term.length;
  const shown = known.has(term) ? term : el("abbr", {title: TERMS[term], text: term});
  known.add(term);
  return [text.slice(0, found.index), shown, ...explained(text.slice(end), known)].filter(part => part !== "");
}

/** 0 … n - 1, sorted by `key`, the smallest first. */
function sortedBy(key, among) {
  return Array.from(among).sort((a, b) => key(a) - key(b) || a - b);
}

/** [smallest, largest] of many numbers. */
function extremes(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

/** Lets the browser draw and answer in between. */
const pause = () => new Promise(resolve => (window.requestIdleCallback ?? setTimeout)(resolve, {timeout: 200}));

const range = n => Array.from({length: n}, (_, i) => i);

/** One tile of a picture of images as an element with alternative text. */
function tile(key, index, size, alt) {
  loadSprite(key);
  const sprite = page.sprites[key];
  const scale = size / Math.max(sprite.width, sprite.height);
  const [width, height] = [Math.round(sprite.width * scale), Math.round(sprite.height * scale)];
  const made = el("span", {class: `tile ${key}`, role: "img", "aria-label": alt});
  made.style.width = `${width}px`;
  made.style.height = `${height}px`;
  made.style.backgroundSize = `${width * sprite.columns}px ${height * sprite.rows}px`;
  const column = index % sprite.columns, row = Math.floor(index / sprite.columns);
  made.style.backgroundPosition = `${-width * column}px ${-height * row}px`;
  return made;
}

/** A style rule for a picture when its first tile is made, so that the browser decodes it once. */
function loadSprite(key) {
  const sprite = page.sprites[key];
  if (sprite.src === null) return;
  const [kind, data] = sprite.src.split(",");
  sprite.src = null;  // it is large, and from now on in the blob
  const url = URL.createObjectURL(new Blob([bytesOf(data)], {type: kind.slice(5).split(";")[0]}));
  document.head.append(el("style", {text: `.${key} { background-image: url("${url}"); }`}));
}

/** One run with its arrays decoded, and what can be said of each of its images. */
class Run {
  constructor(stored, number) {
    Object.assign(this, stored, {number, waiting: []});
    for (const [name, packed] of Object.entries(stored.arrays)) this[name] = decoded(packed);
    this.arrays = null;
  }
  name(i) { return this.files ? this.files[i] : `${this.images === null ? "row" : "image"} ${this.rows[i]}`; }
  /** The image, or of vectors the name. */
  picture(i, size, alt, what = "images") {
    if (this[what] !== null) return tile(this[what], i, size, alt);
    return el("span", {class: "named", role: "img", "aria-label": alt, text: this.name(i), dir: "auto"});
  }
  className(c) { return this.classes[c] ?? String(c); }
  label(i) { return this.labels ? this.className(this.labels[i]) : null; }
  neighboursOf(i) { return range(this.k).map(j => [this.neighbours[i * this.k + j], this.distances[i * this.k + j]]); }
  /** Those whose name or class has the text, in any case. */
  search(text) {
    const wanted = text.toLowerCase();
    return range(this.n).filter(i => this.files?.[i].toLowerCase().includes(wanted) || this.label(i)?.toLowerCase().includes(wanted));
  }
  /** The images as a table: a line of names, then one per image. */
  csv(images) {
    const cell = value => /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
    const columns = [["file", i => this.name(i)], ["row", i => String(this.rows[i])], ["class", this.labels && (i => this.label(i))],
      ["predicted", this.predicted && (i => this.className(this.predicted[i]))], ["cluster", i => String(this.clusters[i])],
      ["codeword", this.codewords && (i => String(this.codewords[i]))], ["nmse", i => String(this.errors[i])]].filter(([, of]) => of);
    return [columns.map(([name]) => name), ...images.map(i => columns.map(([, of]) => of(i)))]
      .map(line => line.map(cell).join(",") + "\r\n").join("");
  }
  /** Name and value of everything that is known of an image. */
  facts_of(i) {
    return [
      ["class", this.label(i)],
      ["the probe says", this.predicted ? this.className(this.predicted[i]) : null],
      ["cluster", written(this.clusters[i])],
      ["codeword", this.codewords ? written(this.codewords[i]) : null],
      ["error (nMSE)", written(this.errors[i])],
    ].filter(([, value]) => value !== null);
  }
  alt(i) {
    return [this.name(i), ...this.facts_of(i).map(([name, value]) => `${name} ${value}`)].join(", ");
  }
}

/** Thumbnails that open an image when they are pressed; more than `most` are told, not shown. */
function gallery(run, images, {size = 48, most = 200, caption = () => null, what = "images"} = {}) {
  const shown = Array.from(images).slice(0, most);
  const list = el("ul", {class: "gallery"}, shown.map(i => el("li", {}, button(run, i, size, caption(i), what))));
  if (images.length > most) list.append(el("li", {class: "more", text: `and ${written(images.length - most)} more`}));
  return list;
}

function button(run, i, size, caption, what = "images") {
  const text = caption === null ? null : el("span", {class: "caption", text: caption});
  return el("button", {class: "thumb", type: "button", title: run.name(i), onclick: () => showDetail(run, i)},
    run.picture(i, size, (what === "images" ? "" : "reconstruction of ") + run.alt(i), what), text);
}

/** The panel of one image: itself, its reconstruction, what is known, its nearest neighbours. It has the focus while
    it is open, so that Tab goes on to the neighbours, and gives it back. */
function showDetail(run, i) {
  const panel = document.getElementById("detail");
  const large = run.code_maps === null ? 112 : 84;  // three must fit
  if (!panel.contains(document.activeElement)) panel.opener = document.activeElement;
  const close = () => {
    panel.hidden = true;
    run.ring?.(null);
    panel.opener?.focus({preventScroll: true});
  };
  panel.hidden = false;
  panel.replaceChildren(
    el("button", {class: "close", type: "button", "aria-label": "Close", onclick: close}, "×"),
    el("h3", {text: run.name(i), dir: "auto"}),
    run.images === null ? null : el("div", {class: "pair"},
      el("figure", {}, tile(run.images, i, large, `image ${run.alt(i)}`), el("figcaption", {text: "image"})),
      el("figure", {}, tile(run.reconstructions, i, large, `reconstruction of ${run.name(i)}`),
        el("figcaption", {text: "reconstruction"})),
      run.code_maps === null ? null : el("figure", {},
        tile(run.code_maps, i, large, `codes of ${run.name(i)}`), el("figcaption", {text: "codes"}))),
    el("dl", {}, run.facts_of(i).map(([name, value]) => [el("dt", {}, explained(name)), el("dd", {text: value, dir: "auto"})]).flat()),
    el("h4", {}, explained("Nearest in z_e")),
    el("ul", {class: "gallery"}, run.neighboursOf(i).map(([j, distance]) =>
      el("li", {}, button(run, j, 56, `${run.label(j) ?? ""} ${written(distance)}`.trim())))));
  panel.focus({preventScroll: true});
  run.ring?.(i);
}

/** Offer text as a file. */
function save(name, text, type = "text/plain") {
  const url = URL.createObjectURL(new Blob([text], {type: `${type};charset=utf-8`}));
  el("a", {href: url, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** Put text on the clipboard, also where a page from the disk may not ask for it. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}
