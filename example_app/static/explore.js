// Search, delays and the personal page: a form each, and a pane that shows loading, result, nothing or failure.

import { call } from "./api.js";
import { badge } from "./calls.js";
import { barCell, byId, el, failure, format, skeleton, table } from "./dom.js";

// A later call of the same pane wins, however late the earlier one answers.
const turns = new Map();

async function show(pane, request, draw) {
  const turn = (turns.get(pane) ?? 0) + 1;
  turns.set(pane, turn);
  const wait = setTimeout(() => pane.replaceChildren(skeleton(4)), 120);
  let content;
  try {
    const answer = await request();
    content = [el("p", { className: "outcome" }, badge(answer), el("strong", {}, format.ms(answer.ms))), draw(answer.data)];
  } catch (error) {
    content = [failure(error, () => show(pane, request, draw))];
  }
  clearTimeout(wait);
  if (turns.get(pane) === turn) pane.replaceChildren(...content);
}

function query(form, page) {
  const wanted = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    const text = name === "date" ? value : value.trim().toUpperCase();
    if (text) wanted.set(name, text);
  }
  if (page > 1) wanted.set("page", String(page));
  return wanted.size ? `?${wanted}` : "";
}

function search(form, page = 1) {
  show(byId("search-result"), () => call("GET", `/api/search${query(form, page)}`), (data) => found(form, data));
}

function found(form, data) {
  if (!data.total) return el("p", { className: "quiet" }, "No flight matches. Try fewer conditions.");
  const step = (text, page, possible) =>
    el("button", { type: "button", disabled: !possible, onclick: () => search(form, page) }, text);
  const pager = el("div", { className: "pager" },
    step("Previous", data.page - 1, data.page > 1),
    el("span", {}, `Page ${format.count(data.page)} of ${format.count(data.pages)}, ${format.count(data.total)} flights`),
    step("Next", data.page + 1, data.page < data.pages));
  const rows = table("Flights found", [
    { title: "Date", cell: (row) => row.date },
    { title: "Flight", cell: (row) => el("span", { title: row.airline }, `${row.carrier} ${row.flight}`) },
    { title: "Route", cell: (row) => `${row.origin}\u00a0→\u00a0${row.dest}` },
    { title: "Planned", number: true, cell: (row) => format.clock(row.sched_dep_time) },
    { title: "Departed", number: true, cell: (row) => (row.dep_time === null ? "cancelled" : format.clock(row.dep_time)) },
    { title: "Arrival", number: true, cell: (row) => format.minutes(row.arr_delay) },
    { title: "Plane", cell: (row) => (row.tailnum ? el("code", { title: row.model ?? "unknown plane" }, row.tailnum) : "–") },
    { title: "Seats", number: true, cell: (row) => (row.seats === null ? "–" : String(row.seats)) },
  ], data.items);
  return el("div", {}, rows, pager);
}

const MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

function delays(data) {
  const most = Math.max(...data.items.map((row) => row.arr_delay));
  const label = (row) => (data.by === "month" ? MONTHS[row.label - 1] : row.label);
  return table(`Delays by ${data.by}; mean arrival of the year ${format.minutes(data.mean_arr_delay)}`, [
    { title: data.by, cell: label },
    { title: "Mean arrival", cell: (row) => barCell(format.minutes(row.arr_delay), row.arr_delay / most, row.arr_delay > data.mean_arr_delay ? "poor" : "good") },
    { title: "An hour late", number: true, cell: (row) => format.percent(row.hour_late) },
    { title: "Cancelled", number: true, cell: (row) => format.percent(row.cancelled) },
    { title: "Flights", number: true, cell: (row) => format.count(row.flights) },
  ], data.items);
}

function person(data) {
  const { airport } = data;
  return el("p", { className: "person" }, el("strong", {}, data.name), `, ${data.role.toLowerCase()} at ${airport.origin}: `,
    `${format.count(airport.flights)} departures to ${airport.destinations} places, `,
    `${format.percent(airport.on_time)} on time, most often to ${airport.top_destination.dest}.`);
}

let token = null; // kept in this page only: it is gone with a reload

const profile = () => show(byId("profile-result"), () => call("GET", "/api/profile", { token }), person);

async function signIn(form) {
  const body = Object.fromEntries(new FormData(form));
  token = null;
  byId("profile-again").disabled = true;
  try {
    token = (await call("POST", "/api/login", { body })).data.token;
  } catch (error) {
    byId("profile-result").replaceChildren(failure(error, () => signIn(form)));
    return;
  }
  byId("profile-again").disabled = false;
  await profile();
}

async function rate({ target }) {
  const carrier = target.closest("button")?.dataset.carrier;
  if (!carrier) return;
  const result = byId("rating");
  try {
    const { data } = await call("GET", `/api/airlines/${carrier}/rating`);
    const asked = new Date(data.asked_at * 1000).toLocaleTimeString("en-GB");
    result.textContent = `${carrier}: ${data.stars} of 5 stars, as the service said at ${asked}.`;
  } catch (error) {
    result.textContent = `${carrier}: ${error.message}`;
  }
}

async function toggle({ target }) {
  const result = byId("rating");
  try {
    const { data } = await call("PUT", "/api/demo/rating-service", { body: { down: target.checked } });
    result.textContent = data.down ? "The service is down. Known ratings are shown for another hour." : "The service answers again.";
  } catch (error) {
    target.checked = !target.checked;
    result.textContent = error.message;
  }
}

function onSubmit(id, act) {
  const form = byId(id);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act(form);
  });
}

export function start() {
  onSubmit("search", search);
  onSubmit("delays", (form) => {
    const by = new FormData(form).get("by");
    show(byId("delays-result"), () => call("GET", `/api/analytics/delays?by=${by}`), delays);
  });
  onSubmit("login", signIn);
  byId("airlines").addEventListener("click", rate);
  byId("ratings-down").addEventListener("change", toggle);
  byId("profile-again").addEventListener("click", profile);
}
