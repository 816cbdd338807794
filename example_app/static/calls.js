// The list of calls: what each one was, how the cache answered, how long it took, under which key.

import { calls } from "./api.js";
import { byId, el, format } from "./dom.js";

const KEPT = 30;
const list = byId("calls");
let records = [];

export function badge(record) {
  if (record.status === 0) return el("b", { className: "badge failed" }, "NO ANSWER");
  if (record.status >= 400) return el("b", { className: "badge failed" }, String(record.status));
  const word = record.cache ?? (record.method === "GET" ? "CALL" : "WRITE");
  return el("b", { className: `badge ${word.toLowerCase()}` }, word);
}

function line(record, slowest) {
  const fill = el("span", { className: `fill ${(record.cache ?? "").toLowerCase()}` });
  fill.style.width = `${(record.ms / slowest) * 100}%`;
  const key = record.key ? el("code", { className: "key", title: record.key }, record.key) : null;
  return el("li", {},
    el("div", { className: "call-head" }, badge(record),
      el("span", { className: "path", title: record.path }, `${record.method} ${record.path}`),
      el("span", { className: "ms" }, format.ms(record.ms))),
    el("span", { className: "track", ariaHidden: "true" }, fill), key);
}

function draw() {
  const slowest = Math.max(...records.map((record) => record.ms), 1);
  list.replaceChildren(...records.map((record) => line(record, slowest)));
  byId("calls-empty").hidden = records.length > 0;
}

export function start() {
  calls.addEventListener("call", ({ detail }) => {
    records = [detail, ...records].slice(0, KEPT);
    draw();
  });
  byId("calls-clear").addEventListener("click", () => {
    records = [];
    draw();
  });
  draw();
}
