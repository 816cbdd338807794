// Figures as people read them. Pure: nothing here knows the page.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const two = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const NONE = "–";

/** 1,234 and from a hundred thousand on 123.4K. */
export function count(value) {
  return value >= 100000 ? short.format(value) : whole.format(value);
}

/** A rate: small ones keep a digit more. */
export function rate(value) {
  return (value >= 100 ? whole : value >= 10 ? one : two).format(value);
}

/** 98.4 %, never rounded up to 100. */
export function percent(value) {
  if (value === null || Number.isNaN(value)) return NONE;
  const cut = value < 100 ? Math.min(value, 99.9) : 100;
  return `${cut === 100 || cut === 0 ? whole.format(cut) : cut.toFixed(1)} %`;
}

export function bytes(value) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let rank = 0;
  while (value >= 1024 && rank < units.length - 1) {
    value /= 1024;
    rank += 1;
  }
  return `${(value >= 100 || rank === 0 ? whole : one).format(value)} ${units[rank]}`;
}

/** 340 µs, 12 ms, 1.2 s, 3 min 5 s, 2 h 10 min, 4 d. */
export function seconds(value) {
  if (value === 0) return "0 s";
  if (value < 0.001) return `${whole.format(value * 1e6)} µs`;
  if (value < 1) return `${(value < 0.01 ? one : whole).format(value * 1000)} ms`;
  if (value < 10) return `${one.format(value)} s`;
  const left = Math.round(value);
  if (left < 60) return `${left} s`;
  if (left < 3600) return pair(Math.floor(left / 60), "min", left % 60, "s");
  if (left < 86400) return pair(Math.floor(left / 3600), "h", Math.floor((left % 3600) / 60), "min");
  return pair(Math.floor(left / 86400), "d", Math.floor((left % 86400) / 3600), "h");
}

function pair(most, unit, least, lesser) {
  return least ? `${most} ${unit} ${least} ${lesser}` : `${most} ${unit}`;
}

/** How long ago something was; clocks that differ a little never make it the future. */
export function ago(past, now) {
  const passed = Math.max(0, now - past);
  return passed < 2 ? "just now" : `${seconds(Math.floor(passed))} ago`;
}

/** For how long something has been so. */
export function lasting(since, now) {
  return seconds(Math.max(0, Math.floor(now - since)));
}

export function plural(amount, word, words = `${word}s`) {
  return `${count(amount)} ${amount === 1 ? word : words}`;
}
