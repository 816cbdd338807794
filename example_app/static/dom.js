// Small pieces of page, built as nodes: text stays text, so nothing that comes from the API can become markup.

export const byId = (id) => document.getElementById(id);

export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const format = {
  count: (n) => whole.format(n),
  compact: (n) => short.format(n),
  percent: (share) => (share === null ? "–" : `${(share * 100).toFixed(1)} %`),
  minutes: (n) => (n === null ? "–" : `${n > 0 ? "+" : ""}${n.toFixed(1)} min`),
  ms: (n) => (n >= 100 ? `${whole.format(Math.round(n))} ms` : `${n.toFixed(1)} ms`),
  clock: (hhmm) => (hhmm === null ? "–" : String(hhmm).padStart(4, "0").replace(/(..)$/, ":$1")),
};

// A bar and its figure in one cell. `share` is 0 to 1 of the widest; the text carries the meaning.
export function barCell(text, share, tone = "") {
  const fill = el("span", { className: `fill ${tone}` });
  fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  const track = el("span", { className: "track" }, fill);
  track.setAttribute("aria-hidden", "true");
  return el("td", { className: "bar" }, track, el("span", { className: "figure" }, text));
}

// columns: [{ title, cell: (row) => td or text, number: true }]
export function table(caption, columns, rows) {
  const head = columns.map((column) =>
    el("th", { scope: "col", className: column.number ? "number-cell" : "" }, column.title),
  );
  const lines = rows.map((row) =>
    el("tr", {}, ...columns.map((column) => {
      const content = column.cell(row);
      if (content instanceof HTMLTableCellElement) return content;
      return el("td", { className: column.number ? "number-cell" : "" }, content);
    })),
  );
  return el("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: caption },
    el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...lines)));
}

export function failure(error, again) {
  const button = el("button", { type: "button", onclick: again }, "Try again");
  return el("div", { className: "failure", role: "alert" },
    el("p", {}, el("strong", {}, error.message)),
    el("p", { className: "quiet" }, error.hint), button);
}

export function skeleton(lines) {
  return el("div", { className: "skeleton", ariaHidden: "true" },
    ...Array.from({ length: lines }, () => el("span")));
}
