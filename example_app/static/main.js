// Wires the page: the three things to try, then everything else.

import { call } from "./api.js";
import * as board from "./board.js";
import * as calls from "./calls.js";
import { byId, el } from "./dom.js";
import * as explore from "./explore.js";

const plane = byId("change-plane");
const seats = byId("change-seats");
const save = byId("change-save");
let busiest = [];

async function loadBoard() {
  const data = await board.load();
  if (data) offer(data.fleet.busiest);
  await showStore();
}

// Whether the cache answers. Not one of the calls that the page is about, so it is not listed among them.
async function showStore() {
  let word = "";
  try {
    const response = await fetch("/healthz", { cache: "no-store" });
    if (!(await response.json()).cache.available) word = ", not answering";
  } catch {
    word = ", state unknown";
  }
  byId("store").classList.toggle("away", word !== "");
  byId("store-state").textContent = word;
}

// The planes on the board are the ones to change: there the change is seen.
function offer(rows) {
  const chosen = plane.value;
  busiest = rows;
  plane.replaceChildren(...rows.map((row) => el("option", { value: row.tailnum }, `${row.tailnum}, ${row.seats} seats`)));
  if (rows.some((row) => row.tailnum === chosen)) plane.value = chosen;
  plane.disabled = seats.disabled = save.disabled = false;
  propose();
}

// A number that differs from the current one, so that pressing Save right away shows something.
function propose() {
  const row = busiest.find((one) => one.tailnum === plane.value);
  if (row) seats.value = row.seats === 180 ? 220 : 180;
}

async function change(event) {
  event.preventDefault();
  const tailnum = plane.value;
  const wanted = Number(seats.value);
  const result = byId("change-result");
  save.disabled = true;
  try {
    await call("PATCH", `/api/planes/${encodeURIComponent(tailnum)}`, { body: { seats: wanted } });
    result.textContent = `${tailnum} now has ${wanted} seats.`;
    await loadBoard();
  } catch (error) {
    result.textContent = `Not saved: ${error.message}`;
  } finally {
    save.disabled = false;
  }
}

async function invalidate({ target }) {
  const type = target.closest("button")?.dataset.type;
  if (!type) return;
  const result = byId("invalidate-result");
  try {
    const { data } = await call("POST", `/api/demo/invalidate/${type}`);
    result.textContent = `${type}: no entry is valid any more.`;
  } catch (error) {
    result.textContent = `Not invalidated: ${error.message}`;
  }
}

calls.start();
explore.start();
byId("load").addEventListener("click", loadBoard);
byId("change").addEventListener("submit", change);
plane.addEventListener("change", propose);
byId("invalidate").addEventListener("click", invalidate);
loadBoard();
