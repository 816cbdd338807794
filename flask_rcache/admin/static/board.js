// The figures on the page. Owns nothing but the elements: an overview and the statistics go in, the page shows them.

import { Chart } from "./chart.js";
import { $, el, follow, setAttribute, setLong, setText, svg } from "./dom.js";
import { NONE, ago, bytes, count, percent, plural, rate, seconds } from "./format.js";
import { health, notes } from "./health.js";
import { queues } from "./queues.js";
import { servers } from "./servers.js";
import { sparkline } from "./sparkline.js";
import { statements } from "./statements.js";
import { Warming } from "./warming.js";

const MINUTE = 60;
const TREND = 45;

export class Board {
  #chart = new Chart($("chart"), $("readout"));
  #invalidate;
  #warming;

  /** `invalidate(type, entries)` and `warm(names)` are called when the button of a type or a task is pressed. */
  constructor(invalidate, warm) {
    this.#invalidate = invalidate;
    this.#warming = new Warming(warm);
  }

  /** `now` is the server's time in seconds, as far as its answers tell. */
  show({ overview, stats }, history, now) {
    setText($("place"), overview.store.kind === "memory" ? "memory of one process" : overview.store.location);
    notes($("notes"), overview);
    health($("health"), overview, now);
    servers(overview, now);
    queues(overview);
    statements(overview);
    this.#warming.show(overview, now);
    tiles(overview, stats, history);
    $("chart-empty").hidden = stats.total_requests > 0;
    this.#chart.show(history.points);
    this.#types(overview, stats, history);
    costliest(overview.costliest);
    list("loads", overview.loads, (load) => load.key, (row, load) => setLong(row.firstChild, load.key));
    recent(overview.invalidations, now);
  }

  #types(overview, stats, history) {
    const names = new Set([...Object.keys(stats.by_type), ...Object.keys(overview.types)]);
    const rows = [...names].map((name) => ({
      name,
      entries: overview.types[name]?.entries ?? (unknown(overview) ? null : 0),
      bytes: overview.types[name]?.bytes ?? 0,
      figures: stats.by_type[name] ?? {},
      trend: history.requestsOf(name, TREND),
    }));
    rows.sort((a, b) => (b.figures.total_requests ?? 0) - (a.figures.total_requests ?? 0) || a.name.localeCompare(b.name));
    follow($("types"), rows, (row) => row.name, (row) => this.#typeRow(row.name), typeFigures);
  }

  #typeRow(name) {
    const cell = (label, ...children) => el("td", { role: "cell", "data-label": label, class: "number" }, ...children);
    const trend = svg("svg", { class: "spark", viewBox: "0 0 72 20", width: 72, height: 20, "aria-hidden": "true" });
    trend.append(svg("path"));
    const button = el("button", { type: "button", text: "Invalidate…", "aria-label": `Invalidate ${name}…` });
    const row = el("tr", { role: "row", "data-type": name },
      el("th", { role: "rowheader", scope: "row", text: name }),
      cell("Requests"),
      el("td", { role: "cell", class: "trend" }, trend),
      el("td", { role: "cell", "data-label": "Hit rate", class: "share" },
        el("span"), el("meter", { min: 0, max: 100, "aria-hidden": "true" })),
      cell("Stale"), cell("Load time"), cell("Entries"), cell("Size"), cell("Invalidated"),
      el("td", { role: "cell", class: "act" }, button));
    button.addEventListener("click", () => this.#invalidate(name, Number(row.dataset.entries)));
    return row;
  }
}

/** Whether the number of entries is not known: the indexes are in the store. */
const unknown = (overview) => !overview.store.is_available && !Object.keys(overview.types).length;

function typeFigures(row, { bytes: size, entries, figures, trend }) {
  const { total_requests: requests = 0, hit_rate: hits = 0, stale = 0, invalidations = 0 } = figures;
  const { loads = 0, load_seconds: spent = 0 } = figures;
  const [, asked, line, share, staled, time, kept, weight, dropped] = row.children;
  setAttribute(row, "data-entries", String(entries ?? 0));
  row.classList.toggle("still", !requests && !entries);
  setText(asked, count(requests));
  setAttribute(line.firstChild.firstChild, "d", trend.some(Boolean) ? sparkline(trend) : "M0,19L72,19");
  setText(share.firstChild, requests ? percent(hits) : NONE);
  share.lastChild.value = hits;
  setText(staled, count(stale));
  setText(time, loads ? seconds(spent / loads) : NONE);
  setText(kept, entries === null ? NONE : count(entries));
  setText(weight, entries ? `≈ ${bytes(size)}` : NONE);
  setText(dropped, count(invalidations));
}

function tiles(overview, stats, history) {
  const of = (field) => history.over(MINUTE, field);
  const requests = of("hits") + of("stale") + of("misses");
  const ever = stats.total_requests;
  if (requests) tile("rate", percent((100 * of("hits")) / requests), `last minute · ${percent(stats.hit_rate)} in all`);
  else tile("rate", ever ? percent(stats.hit_rate) : NONE, ever ? "in all" : "no requests yet");
  const point = history.points.at(-1);
  const known = point && !point.gap;
  tile("requests", known ? `${rate(point.hits + point.stale + point.misses)}/s` : NONE, `${count(ever)} in all`);
  const recently = of("loads") > 0;
  const time = recently ? of("load_seconds") / of("loads") : stats.loads ? stats.load_seconds / stats.loads : null;
  const mean = recently ? "mean of the last minute" : "mean";
  tile("load", time === null ? NONE : seconds(time), `${mean} · ${plural(stats.loads, "load")}`);
  const kept = Object.values(overview.types);
  const sum = (field) => kept.reduce((total, type) => total + type[field], 0);
  if (unknown(overview)) tile("entries", NONE, "not known while the store is unavailable");
  else tile("entries", count(sum("entries")), `≈ ${bytes(sum("bytes"))}`);
  tile("errors", count(stats.errors), `${plural(stats.refused, "fill")} refused · ${count(stats.garbage + stats.sealed_failures)} unreadable`);
  $("tile-errors").classList.toggle("bad", stats.errors > 0);
}

function tile(name, value, sub) {
  setText($(`tile-${name}`), value);
  setText($(`tile-${name}-sub`), sub);
}

function list(id, items, keyOf, update) {
  follow($(id), items, keyOf, () => el("li", {}, el("span", { class: "key" }), el("span", { class: "figure" })), update);
  $(`${id}-empty`).hidden = items.length > 0;
}

function costliest(keys) {
  const most = keys[0]?.seconds || 1;
  list("costliest", keys, (item) => item.key, (row, item) => {
    setLong(row.firstChild, item.path ? `${item.path} ${item.key}` : item.key);
    setText(row.lastChild, seconds(item.seconds));
    row.style.setProperty("--part", String(item.seconds / most));
  });
}

const SCOPES = { type: "type", tags: "tags", key: "key", url: "URL", call: "view", user: "user", pattern: "pattern", all: "everything" };

function recent(invalidations, now) {
  // Two may look the same: those are told apart by their order.
  const seen = new Map();
  const items = invalidations.map((item) => {
    const name = `${item.at} ${item.scope} ${item.names.join(" ")}`;
    seen.set(name, (seen.get(name) ?? 0) + 1);
    return { ...item, id: `${name} ${seen.get(name)}` };
  });
  list("recent", items, (item) => item.id, (row, item) => {
    const scope = SCOPES[item.scope] ?? item.scope;
    setLong(row.firstChild, item.names.length ? `${scope} ${item.names.join(", ")}` : scope);
    const outcome = item.journalled ? "journalled" : `${count(item.removed)} removed`;
    setText(row.lastChild, `${outcome} · ${ago(item.at, now)}`);
  });
}
