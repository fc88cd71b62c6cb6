/** What is told of a swarm. Pure. */

import { number } from "./told";
import type { Overview, SpanOf, SwarmModel, SwarmNode } from "./words";

export const short = (node: string): string => node.slice(0, 11);
export const blocks = ({ start, end }: SpanOf): string => `${start}–${end - 1}`;
export const keyOf = ({ model, profile }: SwarmModel): string => [model, profile.dtype, profile.quantization, profile.codec, profile.engine].join(" ");
export const alike = ({ profile }: SwarmModel): string => [profile.dtype, profile.quantization, profile.engine].filter((each) => each !== "none").join(", ");
/** What a replica says that it runs; nodes of blocks run what all of their profile do, which stands above them. */
export const methodOf = ({ features }: SwarmNode): string => features.writing?.method ?? "–";
export const stateOf = ({ state, reached }: SwarmNode): string => (reached ? state : "no answer");

/** The share of a step that is waiting: 0 where steps begin at once, towards 1 where they mostly wait. */
export function load({ features, span }: SwarmNode): number {
  const work = features.decode_ms_per_block * (span.end - span.start);
  return features.queue_ms / (features.queue_ms + work);
}

/** Neighbouring blocks with the same number of holders, as spans. */
export function runs(copies: number[]): { span: SpanOf; copies: number }[] {
  const found: { span: SpanOf; copies: number }[] = [];
  copies.forEach((count, at) => {
    const last = found.at(-1);
    if (last?.copies === count) last.span = { start: last.span.start, end: at + 1 };
    else found.push({ span: { start: at, end: at + 1 }, copies: count });
  });
  return found;
}

export interface Wanted { model: string; state: string; region: string; text: string }

export function chosen(nodes: SwarmNode[], { state, region, text }: Wanted): SwarmNode[] {
  const said = text.trim().toLowerCase();
  return nodes.filter((each) =>
    (!state || stateOf(each) === state) && (!region || (each.features.region ?? "none") === region) &&
    (!said || `${each.node} ${each.features.hardware ?? ""} ${(each.features.labels ?? []).join(" ")}`.toLowerCase().includes(said)));
}

/** What is other than it was a moment ago, in sentences. */
export function changes(before: Overview, now: Overview): string[] {
  const old = placed(before), fresh = placed(now);
  const told: string[] = [];
  for (const [node, each] of old) if (!fresh.has(node)) told.push(`${short(node)} is gone; it held blocks ${blocks(each.span)}`);
  for (const [node, each] of fresh) {
    const was = old.get(node);
    if (!was) told.push(`${short(node)} came with blocks ${blocks(each.span)}`);
    else if (stateOf(was) !== stateOf(each)) told.push(`${short(node)}: ${stateOf(each)}`);
    else if (blocks(was.span) !== blocks(each.span)) told.push(`${short(node)} moved from blocks ${blocks(was.span)} to ${blocks(each.span)}`);
    else if (methodOf(was) !== methodOf(each)) told.push(`${short(node)} runs ${methodOf(each)} now`);
  }
  const holes = new Map(before.state.models.map((each) => [keyOf(each), holesOf(each)]));
  for (const each of now.state.models) {
    const was = holes.get(keyOf(each));
    if (was !== undefined && was !== holesOf(each)) told.push(`${each.model.slice(0, 11)}: ${holesOf(each)}`);
  }
  return told;
}

export function holesOf({ holes }: SwarmModel): string {
  return holes.length ? `blocks ${holes.map(blocks).join(", ")} are missing` : "no block is missing";
}

function placed({ state }: Overview): Map<string, SwarmNode> {
  return new Map(state.models.flatMap(({ nodes }) => nodes.map((each) => [each.node, each] as const)));
}

export function pace(overview: Overview, model: SwarmModel): string {
  const { demand } = overview.state;
  if (!model.route) return model.why_no_route ?? "none";
  const ms = model.route.expected_ms;
  return `${number(ms)} ms for ${number(demand.prompt_tokens)} tokens in and ${number(demand.new_tokens)} out, ${number((demand.new_tokens / ms) * 1000)} tokens/s`;
}

export const clock = (at_s: number): string => new Date(at_s * 1000).toLocaleTimeString("en-GB");
