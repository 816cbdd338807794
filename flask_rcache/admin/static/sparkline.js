// A small line without axes.

/** Its path, 72 by 20. */
export function sparkline(values) {
  const most = Math.max(...values, 0.001);
  const step = 72 / Math.max(1, values.length - 1);
  return values.map((value, index) => `${index ? "L" : "M"}${index * step},${19 - 18 * (value / most)}`).join("");
}
