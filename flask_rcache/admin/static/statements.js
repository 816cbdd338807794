// The cached statements of databases: query time against cache time, and what has invalidated each last.

import { $, el, follow, setLong, setText } from "./dom.js";
import { NONE, count, percent, seconds } from "./format.js";

const SHOWN = 20;

/** Show the card, in an app whose statements are cached. */
export function statements({ statements: all = [] }) {
  $("statements-card").hidden = !all.length;
  follow($("statements"), all.slice(0, SHOWN), (each) => `${each.database} ${each.statement}`, newRow, showRow);
  setText($("statements-more"), all.length > SHOWN ? `and ${count(all.length - SHOWN)} more` : "");
}

function newRow() {
  const cell = (label, kind) => el("td", { role: "cell", "data-label": label, class: kind });
  const number = (label) => cell(label, "number");
  return el("tr", { role: "row" },
    el("th", { role: "rowheader", scope: "row", class: "statement" }),
    number("Hits"), number("Misses"), number("Hit rate"), number("Query"), number("Query, 95 %"), number("Cache"),
    cell("Invalidated by", "by"));
}

function showRow(element, each) {
  const [statement, hits, misses, rate, query, slow, cache, by] = element.children;
  setLong(statement, each.statement);
  setText(hits, count(each.hits));
  setText(misses, count(each.misses));
  setText(rate, each.hits + each.misses ? percent(each.hit_rate) : NONE);
  setText(query, time(each.query_avg));
  setText(slow, time(each.query_p95));
  setText(cache, time(each.cache_avg));
  setLong(by, each.not_stored ? `not stored: ${each.not_stored}` : each.invalidated_by ?? NONE);
}

function time(value) {
  return value === null ? NONE : seconds(value);
}
