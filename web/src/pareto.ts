/** What the chart of a selection shows. Pure. */

import type { Candidate, Estimate } from "./words";

export interface Point { index: number; x: Estimate; y: Estimate; engine: string; best: boolean }
export type Across = "tpot_s" | "ttft_s" | "e2e_s";

/** Work for a dollar: million tokens, or pictures, of what the machine makes in an hour. */
export function perDollar(one: Candidate): Estimate | null {
  const { output_tokens_per_s: tokens, images_per_s: images } = one.prediction.metrics;
  const rate = tokens ?? images;
  if (!rate || !one.usd_per_hour) return null;
  const factor = 3600 / one.usd_per_hour / (tokens ? 1e6 : 1);
  return { value: rate.value * factor, low: rate.low * factor, high: rate.high * factor };
}

export function latency(one: Candidate, across: Across): Estimate | null {
  const { images_per_s: images } = one.prediction.metrics;
  const found = one.prediction.metrics[across];
  if (found) return found;
  return images && across === "e2e_s" ? { value: 1 / images.value, low: 1 / images.high, high: 1 / images.low } : null;
}

/** Every candidate that has both numbers; `best` are those that no other beats in both. */
export function points(ranked: Candidate[], across: Across): Point[] {
  const found: Point[] = [];
  ranked.forEach((one, index) => {
    const [x, y] = [latency(one, across), perDollar(one)];
    if (x && y) found.push({ index, x, y, engine: one.method.engine, best: false });
  });
  let most = -Infinity;
  for (const point of [...found].sort((a, b) => a.x.value - b.x.value || b.y.value - a.y.value)) {
    point.best = point.y.value > most;
    most = Math.max(most, point.y.value);
  }
  return found;
}
