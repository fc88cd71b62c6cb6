import { Chart, axis, tooltip, type Palette } from "./chart";
import { alike, blocks, load, short, stateOf } from "./swarm_told";
import { number, percent } from "./told";
import type { SwarmModel, SwarmNode } from "./words";

/** Start, end, row, load, and whether the expected route goes through it. */
type Bar = [number, number, number, number, number];
interface Drawing { coord: (at: number[]) => number[]; value: (at: number) => number; visual: (name: string) => string }

/** Nodes from top to bottom, blocks from left to right: who holds what, and how busy. */
export function Spans({ model, nodes, look }: { model: SwarmModel; nodes: SwarmNode[]; look: string }) {
  const label =
    `Blocks per node: ${nodes.length} nodes, ${model.num_blocks} blocks, ${alike(model)}. The table below has each node’s blocks, state and load.`;
  const height = Math.min(900, 70 + nodes.length * Math.max(6, Math.min(30, 760 / Math.max(1, nodes.length))));
  const rows = nodes.map((each) => [each.node, blocks(each.span), stateOf(each), load(each).toFixed(2)]);
  const drawn = JSON.stringify([rows, model.route?.stages, model.holes]);
  return (
    <figure class="picture">
      <Chart label={label} height={height} of={[drawn, look, height]} option={(colours) => spans(colours, model, nodes)} />
      <ul class="swatches" aria-hidden="true">
        <li><span class="swatch low" />begins steps at once</li>
        <li><span class="swatch high" />steps mostly wait</li>
        <li><span class="swatch route" />on the expected route</li>
        <li><span class="swatch bad">×</span>gives no answer</li>
        <li><span class="swatch other" />joining or leaving</li>
      </ul>
      <figcaption>
        The colour is the share of a step that a node says is waiting. Each row is a node, from the first blocks to the last.
      </figcaption>
    </figure>
  );
}

function spans(colours: Palette, model: SwarmModel, nodes: SwarmNode[]): Record<string, unknown> {
  const route = new Set(model.route?.stages.map(({ node }) => node));
  const bars: Bar[] = nodes.map((each, row) => [each.span.start, each.span.end, row, load(each), route.has(each.node) ? 1 : 0]);
  const narrow = innerWidth < 700;
  const told = ([, , row, share]: Bar): string => {
    const each = nodes[row]!, said = each.features;
    return [
      each.node, `blocks ${blocks(each.span)}, ${stateOf(each)}${route.has(each.node) ? ", on the expected route" : ""}`,
      `${number(said.decode_ms_per_block)} ms/block, waits ${number(said.queue_ms)} ms (${percent(share)} of a step)`,
      [said.hardware, said.region].filter(Boolean).join(", "),
    ].filter(Boolean).join("\n");
  };
  return {
    grid: { left: narrow ? 92 : 110, right: 12, top: 8, bottom: 44 },
    tooltip: tooltip(colours, ({ data }) => told(data as Bar)),
    xAxis: axis(colours, "block", { type: "value", min: 0, max: model.num_blocks, minInterval: 1, nameGap: 26 }),
    yAxis: axis(colours, "", {
      type: "category", inverse: true, data: nodes.map(({ node }) => short(node)), splitLine: { show: false },
      axisLabel: { color: colours.quiet, fontSize: 11, interval: nodes.length > 50 ? "auto" : 0 },
    }),
    visualMap: { show: false, min: 0, max: 1, dimension: 3, seriesIndex: 0, inRange: { color: [colours.low, colours.high] } },
    series: [
      {
        id: "nodes", type: "custom", data: bars, encode: { x: [0, 1], y: 2 },
        renderItem: (_: unknown, api: Drawing) => bar(colours, nodes[api.value(2)]!, api),
      },
      {
        id: "missing", type: "custom", silent: true, tooltip: { show: false }, data: model.holes.map(({ start, end }) => [start, end]),
        encode: { x: [0, 1] },
        renderItem: (_: unknown, api: Drawing) => {
          const [left, top] = api.coord([api.value(0), 0]) as [number, number];
          const [right, bottom] = api.coord([api.value(1), Math.max(0, nodes.length - 1)]) as [number, number];
          return {
            type: "rect", z2: -1, shape: { x: left, y: top - 14, width: right - left, height: bottom - top + 28 },
            style: { fill: colours.warn, opacity: 0.16, stroke: colours.warn, lineDash: [3, 3] },
          };
        },
      },
    ],
  };
}

function bar(colours: Palette, node: SwarmNode, api: Drawing): Record<string, unknown> {
  const [left, middle] = api.coord([api.value(0), api.value(2)]) as [number, number];
  const [right] = api.coord([api.value(1), api.value(2)]) as [number, number];
  const [, next] = api.coord([api.value(0), api.value(2) + 1]) as [number, number];
  const tall = Math.max(3, Math.min(20, Math.abs(next - middle) * 0.7));
  const shape = { x: left + 1, y: middle - tall / 2, width: Math.max(2, right - left - 2), height: tall, r: Math.min(4, tall / 3) };
  const there = node.reached && node.state === "online";
  const stroke = !node.reached ? colours.warn : api.value(4) ? colours.ink : colours.line;
  const style = {
    fill: there ? api.visual("color") : colours.hole, stroke, lineWidth: !node.reached || api.value(4) ? 2 : 1,
    lineDash: node.state === "online" ? undefined : [4, 3],
  };
  const children: Record<string, unknown>[] = [{ type: "rect", shape, style }];
  if (!node.reached) {
    const { x, y, width, height } = shape;
    const cross = `M${x} ${y}L${x + width} ${y + height}M${x} ${y + height}L${x + width} ${y}`;
    children.push({ type: "path", shape: { pathData: cross }, style: { stroke: colours.warn, fill: "none", lineWidth: 1 } });
  }
  return { type: "group", children };
}

/** How many nodes hold each block. */
export function Copies({ model, look }: { model: SwarmModel; look: string }) {
  const least = Math.min(...model.copies);
  const label =
    `Holders per block: of ${model.num_blocks} blocks the scarcest has ${least}, the most frequent ${Math.max(...model.copies)}. The table below has the numbers.`;
  return (
    <figure class="picture">
      <Chart label={label} height={180} of={[model.copies.join(), look]} option={(colours) => copies(colours, model)} />
      <figcaption>Nodes that are online and reached. A block that nobody holds is marked with a cross.</figcaption>
    </figure>
  );
}

function copies(colours: Palette, { copies: counts }: SwarmModel): Record<string, unknown> {
  return {
    grid: { left: 46, right: 12, top: 14, bottom: 44 },
    tooltip: tooltip(colours, ({ data }) => {
      const [block, count] = data as [number, number];
      return `block ${block}: ${count} ${count === 1 ? "node" : "nodes"}`;
    }),
    xAxis: axis(colours, "block", { type: "category", data: counts.map((_, at) => String(at)), nameGap: 26, splitLine: { show: false } }),
    yAxis: axis(colours, "nodes", { type: "value", minInterval: 1, nameGap: 28 }),
    series: [
      { id: "copies", type: "bar", data: counts.map((count, at) => [at, count]), itemStyle: { color: colours.accent }, barCategoryGap: "12%" },
      {
        id: "missing", type: "scatter", symbolSize: 9, symbol: "path://M0 1 1 0 5 4 9 0 10 1 6 5 10 9 9 10 5 6 1 10 0 9 4 5z",
        data: counts.flatMap((count, at) => (count ? [] : [[at, 0]])), itemStyle: { color: colours.warn },
      },
    ],
  };
}
