// Rates over time: the difference of two readings of the counters, by their distance.

const KEPT = 150;
const GAP = 12;
const LEAST = 1;
const SMOOTHED = 5;

/**
 * The last five minutes. A point is `{ at, hits, stale, misses, loads, load_seconds, types, share }`, or `{ at, gap }` where
 * no rate is known: the first reading, counters that began anew, another process, a pause. `share` is the hit rate of the
 * last ten seconds in percent, null when nothing was asked for; the others are per second.
 */
export class History {
  points = [];
  #before = new Map();

  /** Take a reading; `source` names whose counters they are, `at` is in seconds on a clock that never jumps. */
  add(at, source, stats) {
    const before = this.#before.get(source);
    // Asked twice in a moment: so short a time has no rate, and the next reading covers it.
    if (before !== undefined && at - before.at < LEAST) return;
    this.#before.set(source, { at, stats });
    if (this.#before.size > 64) this.#before.delete(this.#before.keys().next().value);
    const length = before === undefined ? 0 : at - before.at;
    const point = length > 0 && length <= GAP ? rates(before.stats, stats, length) : null;
    this.points.push(point === null ? { at, gap: true } : { at, ...point, share: this.#share(point) });
    if (this.points.length > KEPT) this.points.shift();
  }

  #share(point) {
    const recent = this.points.slice(1 - SMOOTHED);
    const run = [...recent.slice(recent.findLastIndex((earlier) => earlier.gap) + 1), point];
    const sum = (field) => run.reduce((total, each) => total + each[field], 0);
    const requests = sum("hits") + sum("stale") + sum("misses");
    return requests ? (100 * sum("hits")) / requests : null;
  }

  /** The sum of a field's rates over the last seconds, by which a mean is weighed. */
  over(seconds, field) {
    const from = (this.points.at(-1)?.at ?? 0) - seconds;
    const points = this.points.filter((point) => !point.gap && point.at > from);
    return points.reduce((sum, point) => sum + point[field], 0);
  }

  /** The requests per second of one type; a gap is no request. */
  requestsOf(type, length) {
    return this.points.slice(-length).map((point) => (point.gap ? 0 : (point.types[type] ?? 0)));
  }
}

function rates(old, now, length) {
  const point = { types: {} };
  for (const field of ["hits", "stale", "misses", "loads", "load_seconds"]) {
    point[field] = (now[field] - old[field]) / length;
    if (!(point[field] >= 0)) return null;
  }
  for (const [type, figures] of Object.entries(now.by_type)) {
    const earlier = old.by_type[type]?.total_requests ?? 0;
    point.types[type] = Math.max(0, figures.total_requests - earlier) / length;
  }
  return point;
}
