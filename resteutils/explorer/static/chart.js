// One chart as SVG: axes, marks, a cursor that charts share, zoom, and what can be saved of it.
const SVG = "http://www.w3.org/2000/svg";
const MARGIN = {left: 62, right: 14, top: 30, bottom: 42};
export const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7d7d7d"];
export const DASHES = ["", "7 4", "2 3", "9 3 2 3"];

export function html(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function svg(tag, attributes = {}, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "-";
  if (value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) return value.toExponential(2);
  return String(+value.toPrecision(4));
}

function ticks([low, high], log) {
  if (log) {
    const [first, last] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
    const every = Math.ceil((last - first + 1) / 6), found = [];
    for (let power = first; power <= last; power += every) found.push(10 ** power);
    if (last - first < 2) for (let power = first - 1; power <= last; power++)
      for (const k of [2, 5]) if (k * 10 ** power > low && k * 10 ** power < high) found.push(k * 10 ** power);
    return found.sort((a, b) => a - b);
  }
  const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find(k => k * power >= raw * 0.999) * power, found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) found.push(+value.toPrecision(10));
  return found;
}

// Where a label stands beside its dot, the best place first; wide and high as the style sheet's font.
const PLACES = [[1, 0], [-1, 0], [0, -1], [0, 1], [0.8, -0.8], [-0.8, -0.8], [0.8, 0.8], [-0.8, 0.8]];
const LETTER = 7.1, HIGH = 15;
const shared = (a, b) => Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
const away = ([left, top, right, bottom], x, y) => Math.hypot(Math.max(left - x, 0, x - right), Math.max(top - y, 0, y - bottom));
let charts = 0;

export class Chart {
  constructor({title, x, y, xlim, ylim, logX = false, logY = false, onhover = () => {}, width = 470, height = 300, name}) {
    Object.assign(this, {title, x, y, logX, logY, onhover, width, height, name, marks: [], zoomed: null, at: null});
    this.id = `rx-clip-${++charts}`;
    this.home = {xlim, ylim};
    this.svg = svg("svg", {viewBox: `0 0 ${width} ${height}`, class: "rx-chart", role: "img", tabindex: 0});
    this.figure = html("figure", {class: "rx-figure"}, this.svg, this.saving());
    this.svg.addEventListener("pointermove", event => this.move(event));
    this.svg.addEventListener("pointerleave", () => { if (!this.drag) onhover(null); });
    this.svg.addEventListener("pointerdown", event => { this.drag = event.pointerType === "mouse" ? this.value(event) : null; });
    this.svg.addEventListener("pointerup", event => this.release(event));
    this.svg.addEventListener("dblclick", () => this.zoom(null));
    this.svg.addEventListener("keydown", event => this.key(event));
  }

  get xlim() { return this.zoomed ?? this.home.xlim; }

  px(x) { return MARGIN.left + this.share(x, this.xlim, this.logX) * (this.width - MARGIN.left - MARGIN.right); }

  py(y) { return this.height - MARGIN.bottom - this.share(y, this.ylim, this.logY) * (this.height - MARGIN.top - MARGIN.bottom); }

  share(value, [low, high], log) {
    return log ? Math.log(Math.max(value, 1e-300) / low) / Math.log(high / low) : (value - low) / (high - low);
  }

  value(event) {
    const box = this.svg.getBoundingClientRect();
    const share = ((event.clientX - box.left) / box.width * this.width - MARGIN.left) / (this.width - MARGIN.left - MARGIN.right);
    return this.along(Math.min(Math.max(share, 0), 1));
  }

  along(share) {
    const [low, high] = this.xlim;
    return this.logX ? low * (high / low) ** share : low + share * (high - low);
  }

  move(event) { this.onhover(this.value(event), this); }

  release(event) {
    const from = this.drag, to = this.value(event);
    this.drag = null;
    if (from === null || from === undefined) return;
    const far = Math.abs(this.px(from) - this.px(to)) > 12;
    if (far) this.zoom([Math.min(from, to), Math.max(from, to)]);
  }

  key(event) {
    const {key} = event;
    if (key === "+" || key === "=") this.closer(0.5);
    else if (key === "-") this.closer(2);
    else if (key === "0" || key === "Escape") this.zoom(null);
    else if (key === "ArrowLeft" || key === "ArrowRight") {
      const now = this.at === null ? 0.5 : this.share(this.at, this.xlim, this.logX);
      this.onhover(this.along(Math.min(Math.max(now + (key === "ArrowLeft" ? -0.01 : 0.01), 0), 1)), this);
    } else return;
    event.preventDefault();
  }

  closer(factor) {
    const middle = this.at === null ? 0.5 : this.share(this.at, this.xlim, this.logX);
    const limits = [this.along(middle - factor / 2), this.along(middle + factor / 2)];
    const [low, high] = this.home.xlim;
    this.zoom(limits[0] <= low && limits[1] >= high ? null : [Math.max(limits[0], low), Math.min(limits[1], high)]);
  }

  zoom(limits) {
    this.zoomed = limits;
    this.draw(this.marks, this.home);
  }

  // marks: {kind: "line", x, y, label, colour, dash, width, quiet} | {kind: "dots", x, y, labels, fills, radius, label}
  //      | {kind: "rule", x, label}. Limits that are given replace the chart's own.
  draw(marks, {xlim = this.home.xlim, ylim = this.home.ylim} = {}) {
    this.marks = marks;
    this.home = {xlim, ylim};
    this.ylim = ylim;
    const names = marks.map(mark => mark.label).filter(Boolean).join(", ");
    this.svg.setAttribute("aria-label", `${this.title}. ${names}`);
    this.svg.replaceChildren(this.clip(), svg("text", {x: 8, y: 18, class: "rx-title"}, this.title), ...this.axes());
    const inside = svg("g", {"clip-path": `url(#${this.id})`});
    for (const mark of marks) inside.append(...this[mark.kind](mark));
    inside.append(...this.labels(marks));
    this.rule_ = svg("line", {class: "rx-cursor", y1: MARGIN.top, y2: this.height - MARGIN.bottom, visibility: "hidden"});
    this.svg.append(inside, this.rule_);
    this.cursor(this.at);
  }

  clip() {
    const path = svg("clipPath", {id: this.id});
    path.append(svg("rect", {x: MARGIN.left, y: MARGIN.top - 4, width: this.width - MARGIN.left - MARGIN.right,
      height: this.height - MARGIN.top - MARGIN.bottom + 8}));
    return path;
  }

  axes() {
    const made = [], foot = this.height - MARGIN.bottom;
    for (const x of ticks(this.xlim, this.logX)) {
      made.push(svg("line", {class: "rx-grid", x1: this.px(x), x2: this.px(x), y1: MARGIN.top, y2: foot}),
        svg("text", {x: this.px(x), y: foot + 16, "text-anchor": "middle"}, short(x)));
    }
    for (const y of ticks(this.ylim, this.logY)) {
      made.push(svg("line", {class: "rx-grid", x1: MARGIN.left, x2: this.width - MARGIN.right, y1: this.py(y), y2: this.py(y)}),
        svg("text", {x: MARGIN.left - 6, y: this.py(y) + 4, "text-anchor": "end"}, this.logY && Math.abs(Math.log10(y) % 1) < 1e-9 ? `1e${Math.round(Math.log10(y))}` : this.logY ? y.toExponential(0) : short(y)));
    }
    const middle = (MARGIN.top + foot) / 2;
    made.push(svg("text", {x: (MARGIN.left + this.width - MARGIN.right) / 2, y: this.height - 8, "text-anchor": "middle"}, this.x),
      svg("text", {x: 13, y: middle, "text-anchor": "middle", transform: `rotate(-90 13 ${middle})`}, this.y));
    return made;
  }

  line({x, y, colour, dash = "", width = 2, quiet = false, key = ""}) {
    const pieces = [];
    let piece = [];
    x.forEach((value, i) => {
      const seen = y[i] !== null && Number.isFinite(y[i]) && !(this.logY && y[i] <= 0);
      if (seen) piece.push(`${this.px(value).toFixed(1)},${Math.min(Math.max(this.py(y[i]), -1e4), 1e4).toFixed(1)}`);
      if ((!seen || i === x.length - 1) && piece.length) { pieces.push(piece); piece = []; }
    });
    const paint = {stroke: quiet ? "currentColor" : colour, "stroke-dasharray": dash, "stroke-width": width, fill: "none",
      "stroke-opacity": quiet ? 0.55 : 1, "data-key": key};
    return pieces.map(each => each.length > 1 ? svg("polyline", {...paint, points: each.join(" ")})
      : svg("circle", {cx: each[0].split(",")[0], cy: each[0].split(",")[1], r: 4, fill: colour, "data-key": key}));
  }

  dots({x, y, fills = [], colour = COLOURS[0], radius = 5, ring = false, key = ""}) {
    return x.map((value, i) => svg("circle", {cx: this.px(value), cy: this.py(y[i]), r: radius, fill: ring ? "none" : fills[i] ?? colour,
      stroke: ring ? colour : "currentColor", "stroke-width": ring ? 3 : 1, "data-key": key}));
  }

  // A name beside each dot where it covers no other name and no dot, and no other dot is nearer to it; a dot without such
  // a place keeps its tooltip.
  labels(marks) {
    const dots = marks.filter(mark => mark.kind === "dots" && !mark.ring), lines = marks.filter(mark => mark.kind === "line");
    if (!dots.some(mark => mark.labels?.some(Boolean))) return [];
    const taken = dots.flatMap(({x, y, radius = 5}) => x.map((value, i) => {
      const [cx, cy] = [this.px(value), this.py(y[i])];
      return [cx - radius, cy - radius, cx + radius, cy + radius];
    }));
    const crossed = lines.flatMap(({x, y}) => x.slice(1).flatMap((value, i) => Array.from({length: 24}, (_, k) => {
      const [px, py] = [[x[i], value].map(each => this.px(each)), [y[i], y[i + 1]].map(each => this.py(each))];
      return [px[0] + k / 24 * (px[1] - px[0]), py[0] + k / 24 * (py[1] - py[0])];
    })));
    const asked = dots.flatMap(({x, y, labels = [], above = false, radius = 5}) => x.map((value, i) => ({text: labels[i], above, radius, cx: this.px(value), cy: this.py(y[i])})));
    return asked.filter(each => each.text).flatMap(({text, above, radius, cx, cy}) => {
      const wide = LETTER * text.length;
      const found = (above ? [[0, -1], ...PLACES] : PLACES).map(([dx, dy], order) => {
        const x = cx + dx * (radius + 5), middle = cy + dy * (radius + 9), left = dx > 0 ? x : dx < 0 ? x - wide : x - wide / 2;
        const box = [left, middle - HIGH / 2, left + wide, middle + HIGH / 2];
        const out = box[0] < MARGIN.left || box[2] > this.width - MARGIN.right || box[1] < MARGIN.top - 4 || box[3] > this.height - MARGIN.bottom;
        const covered = taken.reduce((sum, other) => sum + shared(box, other), out ? 1e6 : 0);
        const nearest = taken.slice(0, asked.length).some(([x0, y0, x1, y1]) => Math.hypot(cx - (x0 + x1) / 2, cy - (y0 + y1) / 2) > 1
          && away(box, (x0 + x1) / 2, (y0 + y1) / 2) < away(box, cx, cy) + 3);
        const over = crossed.filter(([px, py]) => px > box[0] && px < box[2] && py > box[1] && py < box[3]).length;
        return {box, x, middle, covered: covered + 1e3 * nearest, cost: covered + 1e3 * nearest + 3 * over + 0.01 * order, anchor: dx > 0 ? "start" : dx < 0 ? "end" : "middle"};
      }).reduce((best, each) => each.cost < best.cost ? each : best);
      if (found.covered > 0) return [];
      taken.push(found.box);
      return [svg("text", {x: found.x, y: found.middle + 4, "text-anchor": found.anchor, class: "rx-label"}, text)];
    });
  }

  rule({x, label = ""}) {
    return [svg("line", {class: "rx-rule", x1: this.px(x), x2: this.px(x), y1: MARGIN.top, y2: this.height - MARGIN.bottom}),
      svg("text", {x: this.px(x) + 3, y: MARGIN.top + 10, class: "rx-label"}, label)];
  }

  cursor(x) {
    this.at = x;
    const seen = x !== null && x >= this.xlim[0] && x <= this.xlim[1];
    this.rule_.setAttribute("visibility", seen ? "visible" : "hidden");
    if (seen) for (const end of ["x1", "x2"]) this.rule_.setAttribute(end, this.px(x));
  }

  // What the lines say at x, for the read-out.
  read(x) {
    return this.marks.filter(mark => mark.kind === "line" && mark.label && !mark.quiet && mark.x.length).map(mark => {
      let i = 0;
      for (let k = 0; k < mark.x.length; k++) if (Math.abs(mark.x[k] - x) < Math.abs(mark.x[i] - x)) i = k;
      return `${mark.label}: ${short(mark.y[i])}`;
    });
  }

  csv() {
    const lines = [`series,${this.x.replaceAll(",", ";")},${this.y.replaceAll(",", ";")}`];
    for (const mark of this.marks) (mark.x.map ? mark.x : []).forEach((x, i) => {
      const name = mark.labels?.[i] || mark.label || "";
      lines.push(`"${String(name).replaceAll('"', '""')}",${x},${mark.y[i]}`);
    });
    return lines.join("\n") + "\n";
  }

  picture() {
    const copy = this.svg.cloneNode(true), ink = getComputedStyle(this.svg).color;
    for (const [name, value] of [["xmlns", SVG], ["width", this.width * 2], ["height", this.height * 2]]) copy.setAttribute(name, value);
    copy.style.color = ink;
    copy.style.background = getComputedStyle(this.svg.closest(".rx")).getPropertyValue("--rx-paper") || "white";
    const style = svg("style", {}, "text{fill:currentColor;font:12px system-ui,sans-serif}.rx-title{font-weight:600;font-size:14px}"
      + ".rx-grid{stroke:#8885}.rx-rule,.rx-cursor{stroke:#888;stroke-dasharray:3 3}");
    copy.prepend(style);
    return new XMLSerializer().serializeToString(copy);
  }

  png() {
    return new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => {
        const canvas = html("canvas", {width: this.width * 2, height: this.height * 2});
        canvas.getContext("2d").drawImage(image, 0, 0);
        canvas.toBlob(resolve, "image/png");
      };
      image.onerror = () => reject(new Error("the browser cannot draw this chart"));
      image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(this.picture());
    });
  }

  saving() {
    const button = (text, act) => html("button", {type: "button", onclick: act, "aria-label": `${text}: ${this.title}`}, text);
    return html("details", {class: "rx-save"}, html("summary", {"aria-label": `Zoom or save: ${this.title}`}, "Zoom, save"),
      html("div", {class: "rx-row"},
        button("Zoom in", () => this.closer(0.5)), button("Zoom out", () => this.closer(2)), button("Reset", () => this.zoom(null)),
        button("SVG", () => save(`${this.name}.svg`, new Blob([this.picture()], {type: "image/svg+xml"}))),
        button("PNG", async () => save(`${this.name}.png`, await this.png())),
        button("CSV", () => save(`${this.name}.csv`, new Blob([this.csv()], {type: "text/csv"}))),
        button("Copy CSV", () => copyText(this.csv()))));
  }
}

export function save(name, blob) {
  const address = URL.createObjectURL(blob), link = html("a", {href: address, download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // no permission, or a page that is not served over https
    const box = html("textarea", {"aria-label": "text to copy"});
    box.value = text;
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
  }
}

export function legend(marks) {
  const seen = new Set();
  return marks.filter(mark => mark.label && !seen.has(mark.label) && seen.add(mark.label)).map(mark => {
    const sample = svg("svg", {width: 30, height: 12, "aria-hidden": "true"});
    if (mark.kind === "line") sample.append(svg("line", {x1: 1, x2: 29, y1: 6, y2: 6, stroke: mark.quiet ? "currentColor" : mark.colour,
      "stroke-width": 3, "stroke-dasharray": mark.dash ?? ""}));
    else sample.append(svg("circle", {cx: 15, cy: 6, r: 5, fill: mark.ring ? "none" : mark.colour ?? COLOURS[0], stroke: mark.ring ? mark.colour : "none", "stroke-width": 3}));
    return html("span", {class: "rx-entry"}, sample, mark.label);
  });
}
