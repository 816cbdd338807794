// The page as a whole: who is signed in, which view is shown, and the polling that fills it.

import { Actions } from "./actions.js";
import { call, token } from "./api.js";
import { Board } from "./board.js";
import { $, setText } from "./dom.js";
import { History } from "./history.js";
import { Keys } from "./keys.js";
import { INTERVAL, Poller } from "./poller.js";

const REFUSED = {
  401: "This token was not accepted: it is wrong, expired, or meant for another service.",
  403: "This token is valid, but it does not have the role that may see the cache.",
};
const ENDED = { 401: "You have been signed out: the token has expired or is no longer accepted.", 403: REFUSED[403] };
const TOKEN = /^[\w.~+/-]+=*$/;

const poller = new Poller(poll, changed);
const actions = new Actions(refused, () => poller.now());
const board = new Board((type, entries) => actions.type(type, entries), (names) => actions.warm(names));
const keys = new Keys(actions, refused);
let history = new History();

function view(name) {
  document.body.dataset.view = name;
  for (const section of ["loading", "signin", "board"]) $(section).hidden = section !== name;
}

async function poll(signal) {
  const { data, skew } = await call("overview", { signal });
  show(data, skew);
}

function show(data, skew) {
  const { overview, stats } = data;
  // Counters of a process are its own: two answers of different processes have no difference.
  const source = overview.scope === "process" ? `process ${overview.process.pid}` : "all";
  history.add(performance.now() / 1000, source, stats);
  const first = document.body.dataset.view !== "board";
  if (first) view("board");
  board.show(data, history, Date.now() / 1000 + skew);
  const names = new Set([...Object.keys(stats.by_type), ...Object.keys(overview.types)]);
  keys.offer([...names].sort(), Object.values(overview.types).some((type) => type.entries));
  if (first) keys.list();
}

function changed({ state, error, delay }) {
  $("pulse").toggleAttribute("data-asking", state === "asking");
  if (state === "asking" || (error && refused(error))) return;
  $("pulse").dataset.state = state;
  setText($("pulse-text"), { live: `Live, every ${INTERVAL / 1000} s`, hidden: "Paused", waiting: "Not live" }[state]);
  document.body.classList.toggle("outdated", state === "waiting");
  $("trouble").hidden = state !== "waiting";
  if (state !== "waiting") return;
  setText($("trouble-text"), error.message ?? String(error));
  setText($("trouble-next"), `Next try in ${Math.round(delay / 1000)} s.`);
}

/** Go back to signing in when the token is not accepted, with the reason; whether that was so. */
function refused({ status }) {
  if (status !== 401 && status !== 403) return false;
  const was = token.get() !== null || document.body.dataset.view === "board";
  signOut(was ? ENDED[status] : "");
  return true;
}

function signOut(reason) {
  poller.stop();
  token.clear();
  history = new History();
  keys.forget();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  $("results").replaceChildren();
  $("trouble").hidden = true;
  document.body.classList.remove("outdated");
  view("signin");
  complain(reason);
  $("token").value = "";
  $("token").focus();
}

function complain(reason) {
  $("signin-error").hidden = !reason;
  setText($("signin-error"), reason);
  $("token").toggleAttribute("aria-invalid", Boolean(reason));
}

async function signIn(event) {
  event.preventDefault();
  const given = $("token").value.trim().replace(/^bearer\s+/i, "");
  if (!given) return complain("Paste a token first.");
  if (!TOKEN.test(given)) return complain("That is not a token: it has characters that no token has.");
  complain("");
  $("sign-in").disabled = true;
  setText($("sign-in"), "Checking…");
  try {
    const { data, skew } = await call("overview", { using: given });
    token.set(given);
    $("token").value = "";
    show(data, skew);
    $("content").focus({ preventScroll: true });
    poller.start();
  } catch (error) {
    complain(REFUSED[error.status] ?? error.message);
    $("token").select();
  } finally {
    $("sign-in").disabled = false;
    setText($("sign-in"), "Sign in");
  }
}

$("signin-form").addEventListener("submit", signIn);
$("sign-out").addEventListener("click", () => signOut(""));
$("retry").addEventListener("click", () => poller.now());
// Requests without a token too: an app's own guard may identify its users by other means.
poller.start();
