/** Numbers and words as people read them. Pure. */

import type { Estimate, Hardware, Method, Technique, Workload } from "./words";

export interface Meaning { title: string; unit: string; scale: number; more: boolean }

const MEANINGS: Record<string, Meaning> = {
  output_tokens_per_s: { title: "Throughput", unit: "tok/s", scale: 1, more: true },
  requests_per_s: { title: "Requests", unit: "req/s", scale: 1, more: true },
  prefill_tokens_per_s: { title: "Prefill", unit: "tok/s", scale: 1, more: true },
  images_per_s: { title: "Images", unit: "images/s", scale: 1, more: true },
  steps_per_s: { title: "Denoising steps", unit: "steps/s", scale: 1, more: true },
  ttft_s: { title: "Time to first token", unit: "ms", scale: 1000, more: false },
  tpot_s: { title: "Time per token", unit: "ms", scale: 1000, more: false },
  itl_s: { title: "Time between tokens", unit: "ms", scale: 1000, more: false },
  e2e_s: { title: "Time of a request", unit: "s", scale: 1, more: false },
  energy_j_per_token: { title: "Energy", unit: "J/token", scale: 1, more: false },
  energy_j_per_request: { title: "Energy", unit: "J/request", scale: 1, more: false },
  power_w: { title: "Power", unit: "W", scale: 1, more: false },
  memory_gib: { title: "Memory", unit: "GiB", scale: 1, more: false },
  quality: { title: "Quality", unit: "", scale: 1, more: true },
  usd_per_million_tokens: { title: "Cost", unit: "$/M tokens", scale: 1, more: false },
};

export function meaning(name: string): Meaning {
  return MEANINGS[name] ?? { title: name.replaceAll("_", " "), unit: "", scale: 1, more: true };
}

export function number(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1000 && size < 1e9) return Math.round(value).toLocaleString("en-US");
  if (size !== 0 && (size < 0.001 || size >= 1e9)) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

export function measure(name: string, value: number | null | undefined): string {
  const { unit, scale } = meaning(name);
  if (value === null || value === undefined) return "–";
  return unit ? `${number(value * scale)} ${unit}` : number(value * scale);
}

export function interval(name: string, found: Estimate | undefined): string {
  if (!found) return "–";
  const { unit, scale } = meaning(name);
  const told = `${number(found.value * scale)} (${number(found.low * scale)}–${number(found.high * scale)})`;
  return unit ? `${told} ${unit}` : told;
}

export function percent(share: number): string {
  return `${Math.round(share * 100)}%`;
}

export function hardwareWords(hardware: Hardware): string {
  const name = hardware.device.title ?? hardware.device.name;
  return hardware.count === undefined ? name : `${hardware.count}× ${name}`;
}

const PLAIN = ["format", "dtype", "name", "mode", "algorithm", "values"];
const UNSAID = ["kind", "enabled", "bits", "activation_bits"];

function techniqueWords(one: Technique): string {
  const kind = one.kind.replaceAll("_", " ");
  if (one.enabled === false) return `no ${kind}`;
  const values = Object.entries(one)
    .filter(([name]) => !UNSAID.includes(name))
    .map(([name, value]) => {
      const said = typeof value === "object" && !Array.isArray(value) ? JSON.stringify(value) : String(value);
      return PLAIN.includes(name) ? said : `${name.replaceAll("_", " ")} ${said}`;
    });
  return values.length ? `${kind} ${values.join(", ")}` : kind;
}

export function techniques(method: Method): string[] {
  return (method.techniques ?? []).map(techniqueWords);
}

export function methodWords(method: Method): string {
  return [method.engine, ...techniques(method)].join(" · ");
}

export function workloadWords(work: Workload): string {
  const parts: string[] = [];
  if (work.name) parts.push(work.name);
  if (work.input_tokens) parts.push(`${number(work.input_tokens.mean)} tokens in`);
  if (work.output_tokens) parts.push(`${number(work.output_tokens.mean)} out`);
  if (work.width_px && work.height_px) parts.push(`${work.width_px}×${work.height_px}`);
  if (work.steps) parts.push(`${work.steps} steps`);
  if (work.batch_size) parts.push(`batch ${work.batch_size}`);
  if (work.concurrency) parts.push(`${number(work.concurrency)} in flight`);
  if (work.request_rate_per_s) parts.push(`${number(work.request_rate_per_s)} requests/s`);
  return parts.join(", ");
}

/** A number as a person types it; null for none, an Error that says what was expected. */
export function typed(text: string, what: string, most = 1e9): number | null | Error {
  const said = text.trim().replace(",", ".");
  if (said === "") return null;
  const value = /^\d*\.?\d+(e[+-]?\d+)?$/i.test(said) ? Number(said) : Number.NaN;
  if (!Number.isFinite(value)) return new Error(`${what}: expected a number, found “${text.slice(0, 40)}”`);
  if (value <= 0) return new Error(`${what}: expected more than 0, found ${said.slice(0, 40)}`);
  if (value > most) return new Error(`${what}: expected at most ${number(most)}, found ${said.slice(0, 40)}`);
  return value;
}

/** A metric as the title of a column. */
export function interesting(name: string): string {
  const { title, unit } = meaning(name);
  return unit ? `${title}, ${unit}` : title;
}
