// Two panels over one time axis: the hit rate as a line, requests per second as stacked areas. uPlot draws them; owned
// here is what is in them, how it looks, and which point is being read.

import { setText } from "./dom.js";
import { percent, rate } from "./format.js";

// A classic script, which the page runs before its modules.
const { uPlot } = window;

const WINDOW = 300;
const LEFT = 44;
const UPPER = 0.38;
const FIELDS = ["hits", "stale", "misses"];
const LOOKS = ["(prefers-color-scheme: dark)", "(forced-colors: active)"];

const sum = (point, fields) => fields.reduce((below, field) => below + point[field], 0);

/** The least of 1, 2, 5, 10, 20 … that is not below a value: the scale is calm while the traffic is not. */
const ceiling = (value, power = 10 ** Math.floor(Math.log10(Math.max(value, 1)))) =>
  [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);

/** The edges of the stacked areas, the highest first, since each covers the lower part of the one before it. */
function stacks(points) {
  const edge = (fields) => points.map((point) => (point.gap ? null : sum(point, fields)));
  return FIELDS.map((field, index) => edge(FIELDS.slice(0, FIELDS.length - index)));
}

/** A panel, empty and without a size. `levels` is what is particular about its scale, `foot` about its time axis. */
function panel(host, style, { top, range, levels, foot, series }) {
  const edge = { stroke: colour(style, "edge"), width: 1 };
  const text = { stroke: colour(style, "soft"), font: `11px ${style.fontFamily}`, gap: 6, ticks: { show: false } };
  const options = {
    width: 0,
    height: 0,
    padding: [top, 14, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { show: false } },
    scales: { x: { time: false, range: [-WINDOW, 0] }, y: { range } },
    axes: [
      { ...text, incrs: [60, 120], border: { ...edge, show: true }, grid: { show: false }, ...foot },
      { ...text, size: LEFT, grid: { ...edge, dash: [2, 3] }, ...levels },
    ],
    series: [{}, ...series.map((each) => ({ pxAlign: 0, points: { show: false }, ...each }))],
  };
  return new uPlot(options, [], host);
}

/** Asked for at each drawing, so that it follows the system's scheme. */
const colour = (style, name) => () => style.getPropertyValue(`--${name}`);

function hitRate(style) {
  const [accent, card] = [colour(style, "accent"), colour(style, "card")];
  const newest = (plot) => [plot.data[0].length - 1];
  return {
    top: 7,
    // Above 100 % there is room for the upper half of a line that runs along it.
    range: [0, 104],
    levels: { splits: [0, 50, 100], values: () => ["0", "50", "100 %"] },
    foot: { size: 10, values: () => [] },
    series: [{
      stroke: accent,
      width: 1.75,
      fill: colour(style, "under"),
      // A pixel more on either side, or the end of the slope across a gap shows at its edge.
      gaps: (plot, index, low, high, gaps) => gaps.map(([from, to]) => [from - devicePixelRatio, to + devicePixelRatio]),
      points: { show: false, filter: newest, size: 7.5, width: 1.5, stroke: card, fill: accent },
    }],
  };
}

function traffic(style) {
  return {
    top: 14,
    range: (plot, low, high) => [0, ceiling(high)],
    levels: {
      splits: (plot, axis, low, high) => [0, high / 2, high],
      values: (plot, [, half, high]) => ["0", rate(half), `${rate(high)}/s`],
    },
    foot: { size: 24, gap: 8, values: (plot, ats) => ats.map((at) => (at ? `−${-at / 60} min` : "now")) },
    series: FIELDS.toReversed().map((field) => ({ fill: colour(style, field), width: 0 })),
  };
}

export class Chart {
  #host;
  #readout;
  #panels;
  #points = [];
  #chosen = null;

  constructor(host, readout) {
    this.#host = host;
    this.#readout = readout;
    const style = getComputedStyle(host);
    this.#panels = [hitRate(style), traffic(style)].map((particulars) => panel(host, style, particulars));
    // The host's label and the readout say what a canvas cannot.
    for (const panel of this.#panels) panel.ctx.canvas.setAttribute("aria-hidden", "true");
    const redraw = () => this.#panels.forEach((panel) => panel.redraw(false));
    for (const look of LOOKS) matchMedia(look).addEventListener("change", redraw);
    new ResizeObserver(() => this.#fit()).observe(host);
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
    const times = this.#points.map((point) => -this.#ago(point));
    const shares = this.#points.map((point) => point.share ?? null);
    [[shares], stacks(this.#points)].forEach((values, index) => this.#panels[index].setData([times, ...values]));
    this.#choose(this.#points.includes(this.#chosen) ? this.#chosen : null);
  }

  #ago = (point) => (this.#points.at(-1)?.at ?? 0) - point.at;

  #nearest = (x) => this.#points[this.#panels[0].posToIdx(x - LEFT)] ?? null;

  #choose(point) {
    this.#chosen = point;
    this.#readout.setAttribute("aria-live", point && document.activeElement === this.#host ? "polite" : "off");
    for (const panel of this.#panels) {
      // Left of the panel the cursor is hidden.
      panel.setCursor({ left: point ? panel.valToPos(-this.#ago(point), "x") : -1, top: 0 });
    }
    this.#read(point ?? this.#points.at(-1));
  }

  #fit() {
    const { clientWidth: width, clientHeight: height } = this.#host;
    const upper = Math.round(UPPER * height);
    [upper, height - upper].forEach((part, index) => this.#panels[index].setSize({ width, height: part }));
  }

  #read(point) {
    const when = this.#chosen ? `${Math.round(this.#ago(point))} s ago` : "now";
    if (!point || point.gap) return setText(this.#readout, `${when}: no reading`);
    const parts = FIELDS.map((field) => `${rate(point[field])} ${field}`).join(", ");
    setText(this.#readout, `${when}: ${rate(sum(point, FIELDS))}/s (${parts}), hit rate ${percent(point.share)}`);
  }
}
