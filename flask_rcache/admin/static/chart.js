// Two panels over one time axis: the hit rate as a line, requests per second as stacked areas. Plain SVG, no library.

import { setText, svg } from "./dom.js";
import { percent, rate } from "./format.js";

const WINDOW = 300;
const LEFT = 40;
const RIGHT = 8;
const FIELDS = ["hits", "stale", "misses"];

const total = (point) => point.hits + point.stale + point.misses;

/** The least of 1, 2, 5, 10, 20 … that is not below a value. */
const ceiling = (value, power = 10 ** Math.floor(Math.log10(Math.max(value, 1)))) =>
  [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);

/** Runs of neighbouring points of which something is true: nothing is drawn over a gap. */
function runs(points, holds) {
  const found = [[]];
  for (const point of points) holds(point) ? found.at(-1).push(point) : found.push([]);
  return found.filter((run) => run.length > 0);
}

export class Chart {
  #host;
  #readout;
  #points = [];
  #chosen = null;

  constructor(host, readout) {
    this.#host = host;
    this.#readout = readout;
    new ResizeObserver(() => this.#draw()).observe(host);
    host.addEventListener("pointermove", (event) => this.#choose(this.#nearest(event.offsetX)));
    for (const end of ["pointerleave", "blur"]) host.addEventListener(end, () => this.#choose(null));
    host.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step === undefined || !this.#points.length) return;
      event.preventDefault();
      const from = this.#chosen ? this.#points.indexOf(this.#chosen) : this.#points.length;
      this.#choose(this.#points[Math.max(0, from + step)] ?? this.#points.at(-1));
    });
  }

  show(points) {
    this.#points = points.filter((point) => points.at(-1).at - point.at <= WINDOW);
    this.#choose(this.#points.includes(this.#chosen) ? this.#chosen : null);
  }

  #choose(point) {
    this.#chosen = point;
    this.#readout.setAttribute("aria-live", point && document.activeElement === this.#host ? "polite" : "off");
    this.#draw();
  }

  #ago = (point) => (this.#points.at(-1)?.at ?? 0) - point.at;

  #x = (point) => LEFT + (1 - this.#ago(point) / WINDOW) * (this.#host.clientWidth - LEFT - RIGHT);

  #nearest(x) {
    const far = (point) => (point ? Math.abs(this.#x(point) - x) : Infinity);
    return this.#points.reduce((best, point) => (far(best) <= far(point) ? best : point), null);
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#host;
    const top = ceiling(Math.max(0, ...this.#points.filter((point) => !point.gap).map(total)));
    const line = { top: 10, height: 0.38 * height - 20 };
    const areas = { top: 0.38 * height + 14, height: 0.62 * height - 38 };
    const root = svg("svg", { width, height, "aria-hidden": "true" });
    const add = (name, attributes, text) => root.append(svg(name, attributes, text));
    for (const [panel, labels] of [[line, ["100 %", "50", "0"]], [areas, [`${rate(top)}/s`, rate(top / 2), "0"]]]) {
      labels.forEach((label, index) => {
        const y = panel.top + (index / 2) * panel.height;
        add("line", { class: index === 2 ? "axis" : "grid", x1: LEFT, x2: width - RIGHT, y1: y, y2: y });
        add("text", { class: "tick", x: LEFT - 6, y: y + 3.5, "text-anchor": "end" }, label);
      });
    }
    for (const minutes of [5, 4, 3, 2, 1, 0]) {
      const anchor = { 5: "start", 0: "end" }[minutes] ?? "middle";
      const x = LEFT + (1 - (60 * minutes) / WINDOW) * (width - LEFT - RIGHT);
      const place = { class: "tick", x, y: height - 4, "text-anchor": anchor };
      if (width > 420 || minutes % 2) add("text", place, minutes ? `−${minutes} min` : "now");
    }
    const level = (value) => areas.top + areas.height * (1 - value / top);
    for (const run of runs(this.#points, (point) => !point.gap)) this.#areas(add, run, level);
    for (const run of runs(this.#points, (point) => !point.gap && point.share !== null)) this.#line(add, run, line);
    const x = this.#chosen ? this.#x(this.#chosen) : 0;
    if (x) add("line", { class: "cursor", x1: x, x2: x, y1: line.top, y2: areas.top + areas.height });
    this.#host.replaceChildren(root);
    this.#read(this.#chosen ?? this.#points.at(-1));
  }

  #areas(add, run, y) {
    let floor = run.map(() => 0);
    for (const field of FIELDS) {
      const roof = run.map((point, index) => floor[index] + point[field]);
      const edge = (values) => values.map((value, index) => `${this.#x(run[index])},${y(value)}`);
      add("path", { class: `area ${field}`, d: `M${[...edge(roof), ...edge(floor).reverse()].join("L")}Z` });
      floor = roof;
    }
  }

  #line(add, run, { top, height }) {
    const [first, last] = [run[0], run.at(-1)];
    const y = (point) => top + height * (1 - point.share / 100);
    const there = run.map((point) => `${this.#x(point)},${y(point)}`).join("L");
    add("path", { class: "under", d: `M${this.#x(first)},${top + height}L${there}L${this.#x(last)},${top + height}Z` });
    add("path", { class: "line", d: `M${there}` });
    if (last === this.#points.at(-1)) add("circle", { class: "end", cx: this.#x(last), cy: y(last), r: 3 });
  }

  #read(point) {
    const when = this.#chosen ? `${Math.round(this.#ago(point))} s ago` : "now";
    if (!point || point.gap) return setText(this.#readout, `${when}: no reading`);
    const parts = FIELDS.map((field) => `${rate(point[field])} ${field}`).join(", ");
    setText(this.#readout, `${when}: ${rate(total(point))}/s (${parts}), hit rate ${percent(point.share)}`);
  }
}
