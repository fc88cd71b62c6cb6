/** The fields of the form, as the link holds them, and the question that they make. Pure. */

import type { Bounds } from "./parts";
import type { Fields } from "./place";
import { typed } from "./told";

export const AIMS: [string, string][] = [
  ["throughput_per_dollar", "Most throughput per dollar"],
  ["throughput", "Most throughput"],
  ["cost", "Least cost"],
  ["latency", "Least latency"],
  ["ttft", "Soonest first token"],
  ["tpot", "Least time per token"],
  ["energy", "Least energy"],
];

/** Classes of privacy that answers must keep to; what belongs to one is asked for with it. */
export const PRIVACY: [string, string][] = [
  ["", "No class required"],
  ["transport", "Transport: every offer"],
  ["trusted", "Trusted: only offers of a list"],
  ["split", "Split: first blocks at the client (not secrecy)"],
  ["attested", "Attested: a trusted execution environment"],
];
export const OF_CLASS: Record<string, [string, string, string][]> = {
  trusted: [["trust", "Whom to trust", "provider:lambda, own"]],
  split: [
    ["keep", "Blocks at the client", "4"], ["client", "The client's hardware", "apple-m2"],
    ["rtt", "Round trip, ms", "30"], ["mbit", "Its line, Mbit/s", "100"],
  ],
};

export const START: Fields = {
  model: "Llama-3.1-8B-Instruct", workload: "sharegpt", concurrency: "32", hardware: "1-4xL4, A100-80GB, H100",
  aim: "throughput_per_dollar", usd: "4", ttft: "500",
};

export interface Limited { name: string; label: string; field: string; scale: number; bounds: Bounds }

export const LIMITS: Limited[] = [
  { name: "usd", label: "Budget", field: "max_usd_per_hour", scale: 1, bounds: { low: 0.2, high: 100, unit: "$/h", none: "no limit" } },
  { name: "ttft", label: "Time to first token", field: "max_ttft_s", scale: 0.001, bounds: { low: 20, high: 10000, unit: "ms", none: "no limit" } },
  { name: "tpot", label: "Time per token", field: "max_tpot_s", scale: 0.001, bounds: { low: 2, high: 500, unit: "ms", none: "no limit" } },
  { name: "e2e", label: "Whole request", field: "max_e2e_s", scale: 1, bounds: { low: 0.2, high: 300, unit: "s", none: "no limit" } },
  { name: "rps", label: "Requests, at least", field: "min_requests_per_s", scale: 1, bounds: { low: 0.1, high: 200, unit: "req/s", none: "no limit" } },
  { name: "quality", label: "Quality kept, at least", field: "min_quality_recovery", scale: 0.01, bounds: { low: 50, high: 100, unit: "%", none: "no limit" } },
  { name: "sure", label: "Chance to meet the limits", field: "confidence", scale: 0.01, bounds: { low: 5, high: 99, unit: "%", none: "50" } },
];

export const LOAD: Bounds = { low: 1, high: 1024, unit: "", none: "not said" };
export const OWN: [string, string, number][] = [
  ["in", "Tokens in (mean)", 1e7], ["out", "Tokens out (mean)", 1e7],
  ["width", "Width, px", 1e5], ["height", "Height, px", 1e5], ["steps", "Denoising steps", 1e5],
];
export const TOP = 60;

function given(fields: Fields, name: string, label: string, most?: number): number | null {
  const found = typed(fields[name] ?? "", label, most);
  if (found instanceof Error) throw found;
  return found;
}

function objective(fields: Fields): Record<string, unknown> {
  const told: Record<string, unknown> = { aim: fields.aim || "throughput_per_dollar" };
  for (const { name, label, field, scale } of LIMITS) {
    const found = given(fields, name, label);
    if (found !== null) told[field] = Number((found * scale).toPrecision(9));
  }
  return told;
}

function changes(fields: Fields): Record<string, unknown> {
  const told: Record<string, unknown> = {};
  const concurrency = given(fields, "concurrency", "Requests in flight");
  if (concurrency !== null) told.concurrency = concurrency;
  if (fields.workload) return told;
  const [tokensIn, tokensOut, width, height, steps] = OWN.map(([name, label, most]) => given(fields, name, label, most));
  if (tokensIn != null) told.input_tokens = { mean: tokensIn };
  if (tokensOut != null) told.output_tokens = { mean: tokensOut };
  if (width != null) told.width_px = Math.round(width);
  if (height != null) told.height_px = Math.round(height);
  if (steps != null) told.steps = Math.round(steps);
  return told;
}

function privacy(fields: Fields): Record<string, unknown> {
  if (!fields.privacy) return {};
  const told: Record<string, unknown> = { privacy: fields.privacy };
  if (fields.privacy === "trusted") told.trust = (fields.trust ?? "").split(/[,\n;]/).map((each) => each.trim()).filter(Boolean);
  if (fields.privacy === "split") {
    const keep = given(fields, "keep", "Blocks at the client");
    if (keep !== null) told.keep = Math.round(keep);
    if (fields.client?.trim()) told.client_hardware = fields.client.trim();
    const rtt = given(fields, "rtt", "Round trip");
    if (rtt !== null) told.client_rtt_ms = rtt;
    const line = given(fields, "mbit", "Its line");
    if (line !== null) told.client_mbit_s = line;
  }
  return { privacy: told };
}

/** What a person gave as the model: its name, or facts as JSON. Throws an Error that says what is wrong. */
export function subject(text: string): string | Record<string, unknown> {
  const said = text.trim();
  if (!said) throw new Error("Model: expected a name, or the text of a config.json");
  if (!said.startsWith("{")) return said;
  try {
    return JSON.parse(said) as Record<string, unknown>;
  } catch (error) {
    throw new Error(`Model: this begins like JSON but is none: ${(error as Error).message}`);
  }
}

/** Whether facts are those of a Hugging Face config.json, which the service reads into its own words. */
export function isConfig(facts: Record<string, unknown>): boolean {
  return !("name" in facts) && ("model_type" in facts || "architectures" in facts);
}

export function hardware(text: string): string[] {
  const found = text.split(/[,\n;]/).map((each) => each.trim()).filter(Boolean);
  if (!found.length) throw new Error("Hardware: expected one or more, such as 1-4xL4, H100");
  return found;
}

/** What is shared by every question about these fields: model, workload and its changes. */
export function about(fields: Fields, model: unknown): Record<string, unknown> {
  return { model, ...(fields.workload ? { workload: fields.workload } : {}), changes: changes(fields) };
}

export function asked(fields: Fields, model: unknown): Record<string, unknown> {
  return {
    ...about(fields, model), hardware: hardware(fields.hardware ?? ""), objective: objective(fields), ...privacy(fields), top: TOP, explain: 0,
  };
}
