import { useId } from "preact/hooks";

import { Table, type Column } from "./parts";
import { Copies, Spans } from "./swarm_picture";
import { alike, blocks, chosen, holesOf, load, methodOf, pace, runs, short, stateOf, type Wanted } from "./swarm_told";
import { number, percent } from "./told";
import type { Belief, Overview, SwarmModel, SwarmNode } from "./words";

interface Props { overview: Overview; model: SwarmModel; wanted: Wanted; picked: string; look: string; onPick: (node: string) => void }

/** The nodes that hold the same weights and calculate alike: pictures, the numbers behind them, the route. */
export function Model({ overview, model, wanted, picked, look, onPick }: Props) {
  const title = useId();
  const nodes = chosen(model.nodes, wanted);
  const believed = new Map(overview.believed?.map((each) => [each.node, each]));
  const one = model.nodes.find(({ node }) => node === picked);
  return (
    <section aria-labelledby={title}>
      <h2 id={title}>{model.model.slice(0, 19)}… · {alike(model)}</h2>
      <ul class="facts">
        <li><strong>{model.holes.length || !model.route ? "NOT complete" : "complete"}</strong>: {holesOf(model)}</li>
        <li><strong>{number(nodes.length)}</strong> of {number(model.nodes.length)} nodes shown</li>
        <li>expected: <strong>{pace(overview, model)}</strong></li>
      </ul>
      {nodes.length > 0 && <Spans model={model} nodes={nodes} look={look} />}
      <Table
        caption={`Nodes of ${model.model.slice(0, 11)}`} columns={columns(overview, model, believed)} rows={nodes}
        picked={nodes.findIndex(({ node }) => node === picked)} onPick={({ node }) => onPick(node === picked ? "" : node)}
      />
      {one && <Detail node={one} belief={believed.get(one.node)} />}
      <Copies model={model} look={look} />
      <Table
        caption={`Holders of blocks of ${model.model.slice(0, 11)}`} rows={runs(model.copies)}
        columns={[
          ["Blocks", ({ span }) => blocks(span)],
          ["Nodes", ({ copies }) => (copies ? number(copies) : <span class="failed">none</span>), "number"],
        ]}
      />
      {model.route && (
        <Table
          caption={`Expected route through ${model.model.slice(0, 11)}`} rows={model.route.stages}
          columns={[["Node", ({ node }) => short(node)], ["Blocks", ({ span }) => blocks(span)]]}
        />
      )}
    </section>
  );
}

function columns(overview: Overview, model: SwarmModel, believed: Map<string, Belief>): Column<SwarmNode>[] {
  const found: Column<SwarmNode>[] = [
    ["Node", ({ node }) => short(node)],
    ["Blocks", ({ span, target }) => (target ? `${blocks(span)}, moves to ${blocks(target)}` : blocks(span))],
    ["State", (each) => (each.reached ? each.state : <span class="failed">no answer</span>)],
    ["Speed, ms/block", ({ features }) => number(features.decode_ms_per_block), "number"],
    ["Queue, ms", ({ features }) => number(features.queue_ms), "number"],
    ["Waiting", (each) => percent(load(each)), "number"],
    ["Round trip, ms", ({ rtt_ms }) => number(rtt_ms), "number"],
    ["Hardware", ({ features }) => features.hardware ?? "–"],
    ["Region", ({ features }) => features.region ?? "–"],
    ["Price, $/h", ({ features }) => number(features.usd_per_hour), "number"],
    ["Told, s ago", ({ age_s }) => number(Math.round(age_s)), "number"],
  ];
  if (model.nodes.some(({ features }) => features.writing)) found.splice(3, 0, ["Method", methodOf]);
  if (overview.believed) found.push(["Reputation", ({ node }) => <Standing belief={believed.get(node)} />, "number"]);
  return found;
}

function Standing({ belief }: { belief?: Belief }) {
  if (!belief) return <>–</>;
  const told = belief.quarantined ? "quarantined" : belief.on_trial ? "on trial" : "";
  return <>{number(belief.reputation)}{told && <> (<span class={belief.quarantined ? "failed" : undefined}>{told}</span>)</>}</>;
}

function Detail({ node, belief }: { node: SwarmNode; belief?: Belief }) {
  const { features } = node;
  const facts: [string, string][] = [
    ["Name", node.node], ["Address", node.address], ["State", stateOf(node)], ["Blocks", blocks(node.span)],
    ["Room", features.memory_blocks === undefined ? "–" : `${number(features.memory_blocks)} blocks`],
    ["Keys and values", `room for ${number(features.cache_tokens_left)} tokens`],
    ["A prompt", `${number(features.prefill_ms_per_token_block)} ms for a token and a block`],
    ["Labels", features.labels?.join(", ") || "none"],
  ];
  if (features.writing) {
    const { method, methods, places, texts } = features.writing;
    facts.push(
      ["Method", method], ["May run", methods.map((each) => each.method).filter((each) => each !== method).join(", ") || "no other"],
      ["Texts", `${number(texts)} in ${number(places)} places`],
    );
  }
  if (belief) {
    facts.push(["Believed", belief.known
      ? `served ${number(belief.served)}, failed ${number(belief.failed)}, audits passed ${number(belief.passed)}, strikes ${number(belief.strikes)}`
      : "nobody has asked it yet"]);
  }
  const pings = [...(node.pings ?? [])].sort((a, b) => a.rtt_ms - b.rtt_ms);
  return (
    <section class="detail" aria-label={`Node ${short(node.node)}`}>
      <h3>{short(node.node)}</h3>
      <dl class="numbers">{facts.map(([name, told]) => <div key={name}><dt>{name}</dt><dd>{told}</dd></div>)}</dl>
      {pings.length > 0 && (
        <Table
          caption={`Round trips that ${short(node.node)} measured`} rows={pings}
          columns={[["To", ({ node: to }) => short(to)], ["ms", ({ rtt_ms }) => number(rtt_ms), "number"]]}
        />
      )}
    </section>
  );
}
