// The dashboard: loads it, shows how the cache answered, draws the figures and marks what has changed since.

import { call } from "./api.js";
import { badge } from "./calls.js";
import { barCell, byId, el, failure, format, skeleton, table } from "./dom.js";

const body = byId("board-body");
const panel = byId("board");
const readout = byId("readout");
const button = byId("load");

let shown = null; // the figures on the page
let lastMiss = null; // how long the last computed answer took, in ms

export async function load() {
  if (button.disabled) return null;
  const stop = busy();
  try {
    const answer = await call("GET", "/api/dashboard");
    stop();
    showTiming(answer);
    draw(answer.data);
    return answer.data;
  } catch (error) {
    stop();
    readout.replaceChildren(el("b", { className: "badge failed" }, "FAILED"));
    shown = null;
    byId("board-computed").textContent = "";
    body.replaceChildren(failure(error, load));
    return null;
  }
}

// The clock runs from the first moment, but is shown only when there is something to wait for: a hit does not flicker.
function busy() {
  const started = performance.now();
  button.disabled = true;
  panel.setAttribute("aria-busy", "true");
  if (shown === null) body.replaceChildren(skeleton(14));
  const timer = setInterval(() => {
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    panel.classList.add("waiting");
    readout.replaceChildren(el("span", { className: "spinner", ariaHidden: "true" }), `computing … ${seconds} s`);
  }, 100);
  return () => {
    clearInterval(timer);
    button.disabled = false;
    button.textContent = "Load it again";
    panel.classList.remove("waiting");
    panel.setAttribute("aria-busy", "false");
  };
}

function showTiming(answer) {
  if (answer.cache === "MISS") lastMiss = answer.ms;
  const parts = [badge(answer), el("strong", {}, format.ms(answer.ms))];
  if (answer.cache === "HIT" || answer.cache === "STALE") {
    const computing = lastMiss ?? answer.data.computed.ms;
    parts.push(el("span", {}, `${format.count(Math.max(1, Math.round(computing / answer.ms)))}× faster`));
  }
  readout.replaceChildren(...parts);
}

function draw(data) {
  const before = shown;
  shown = data;
  byId("board-computed").textContent =
    `computed at ${new Date(data.computed.at).toLocaleTimeString("en-GB")}, ${format.count(data.computed.ms)} ms of database work`;
  body.replaceChildren(
    tiles(data, before),
    hours(data.by_hour),
    el("div", { className: "pair" }, carriers(data.by_carrier), el("div", {}, weather(data.by_weather), ages(data.fleet.by_age))),
    routes(data.worst_routes),
    busiest(data.fleet.busiest, before?.fleet.busiest),
    manufacturers(data.fleet.by_manufacturer),
  );
}

function tiles(data, before) {
  const { totals, fleet } = data;
  const old = before?.fleet.seats_offered;
  const moved = old !== undefined && old !== fleet.seats_offered;
  const tile = (label, value, note, changed = false) =>
    el("div", { className: changed ? "tile changed" : "tile" },
      el("dt", {}, label), el("dd", {}, value), el("dd", { className: "quiet" }, note));
  return el("dl", { className: "tiles" },
    tile("Departures planned", format.count(totals.flights), `${format.compact(totals.miles)} miles`),
    tile("On time", format.percent(totals.on_time), "less than 15 min late"),
    tile("Mean arrival", format.minutes(totals.arr_delay), "against the schedule"),
    tile("Cancelled", format.percent(totals.cancelled), "never departed"),
    tile("Seats offered", format.count(fleet.seats_offered),
      moved ? `was ${format.count(old)}` : `on ${format.count(fleet.planes)} known planes`, moved),
    tile("Mean age in the air", `${fleet.age.toFixed(1)} years`, "each flight counts"),
  );
}

function hours(rows) {
  const known = rows.filter((row) => row.on_time !== null);
  const best = known.reduce((a, b) => (a.on_time >= b.on_time ? a : b));
  const worst = known.reduce((a, b) => (a.on_time <= b.on_time ? a : b));
  const columns = known.map((row) => {
    const bar = el("span", { className: `column ${tone(row.on_time)}` });
    bar.style.height = `${row.on_time * 100}%`;
    const hour = String(row.hour).padStart(2, "0");
    return el("div", { className: "slot", title: `${hour}:00  ${format.percent(row.on_time)} of ${format.count(row.flights)} flights` },
      el("span", { className: "value" }, String(Math.round(row.on_time * 100))), el("span", { className: "well" }, bar),
      el("span", { className: "label" }, hour));
  });
  const words = `On time by hour of departure, in percent. Best ${best.hour}:00 with ${format.percent(best.on_time)}, worst ${worst.hour}:00 with ${format.percent(worst.on_time)}.`;
  return el("figure", {}, el("figcaption", {}, "On time by hour of departure, %"),
    el("div", { className: "hours", role: "img", ariaLabel: words }, ...columns));
}

const tone = (share) => (share >= 0.8 ? "good" : share >= 0.68 ? "fair" : "poor");
const onTime = { title: "On time", cell: (row) => barCell(format.percent(row.on_time), row.on_time ?? 0, tone(row.on_time ?? 0)) };
const flights = { title: "Flights", number: true, cell: (row) => format.count(row.flights) };

const carriers = (rows) => table("Carriers, best first", [
  { title: "Carrier", cell: (row) => row.name }, onTime, flights,
], rows);

const weather = (rows) => table("Weather at departure", [
  { title: "Weather", cell: (row) => row.weather }, onTime,
  { title: "Arrival", number: true, cell: (row) => format.minutes(row.arr_delay) },
], rows);

function ages(rows) {
  const most = Math.max(...rows.map((row) => row.flights));
  const span = (row) => (row.from_age >= 25 ? "25 and more" : `${row.from_age} to ${row.from_age + 4}`);
  return table("Age of the plane", [
    { title: "Years", cell: span },
    { title: "Flights", cell: (row) => barCell(format.compact(row.flights), row.flights / most) },
    { title: "Arrival", number: true, cell: (row) => format.minutes(row.arr_delay) },
  ], rows);
}

function routes(rows) {
  const most = Math.max(...rows.map((row) => row.arr_delay));
  return table("Worst routes, flown at least daily", [
    { title: "Route", cell: (row) => `${row.origin}\u00a0→\u00a0${row.dest}` },
    { title: "To", cell: (row) => row.name ?? "–" },
    { title: "Mean arrival", cell: (row) => barCell(format.minutes(row.arr_delay), row.arr_delay / most, "poor") },
    { title: "On time", number: true, cell: (row) => format.percent(row.on_time) },
    flights,
  ], rows);
}

function busiest(rows, before) {
  const old = new Map((before ?? []).map((row) => [row.tailnum, row.seats]));
  const seats = (row) => {
    const moved = old.has(row.tailnum) && old.get(row.tailnum) !== row.seats;
    return el("td", { className: moved ? "number-cell changed" : "number-cell" },
      moved ? `${old.get(row.tailnum)} → ${row.seats}` : String(row.seats));
  };
  return table("Busiest planes (change one above)", [
    { title: "Plane", cell: (row) => el("code", {}, row.tailnum) },
    { title: "Model", cell: (row) => `${row.manufacturer} ${row.model}` },
    { title: "Seats", number: true, cell: seats }, flights,
    { title: "Seats offered", number: true, cell: (row) => format.count(row.seats_offered) },
  ], rows);
}

function manufacturers(rows) {
  const most = Math.max(...rows.map((row) => row.flights));
  return table("Manufacturers", [
    { title: "Manufacturer", cell: (row) => row.manufacturer },
    { title: "Flights", cell: (row) => barCell(format.count(row.flights), row.flights / most) },
    { title: "Planes", number: true, cell: (row) => format.count(row.planes) },
    { title: "Seats offered", number: true, cell: (row) => format.count(row.seats_offered) },
  ], rows);
}
