import { Chart, axis, tooltip, type Palette } from "./chart";
import { failures } from "./history";
import { interesting, meaning, measure, number, percent } from "./told";
import type { Axis, Cell, Tensor } from "./words";

interface Props {
  tensor: Tensor; look: string; picked: [number | undefined, number | undefined];
  onPick: (row: Axis, column: Axis) => void;
}

/** Methods from left to right, models from top to bottom; the fullest first. */
export function HeatMap({ tensor, look, picked, onPick }: Props) {
  const measured = tensor.cells.filter((cell) => cell[5] !== null).length;
  const label =
    `Heat map of the records: ${interesting(tensor.metric)}, ${tensor.rows.length} rows by ${tensor.columns.length} columns, ` +
    `${tensor.cells.length} places tried, ${measured} of them with this metric. The tables below have the numbers.`;
  const height = Math.min(900, Math.max(220, 90 + tensor.rows.length * Math.max(8, Math.min(22, 620 / tensor.rows.length))));
  return (
    <figure class="picture">
      <Chart
        label={label} height={height} of={[tensor, look, ...picked]} option={(colours) => picture(colours, tensor, picked)}
        onPick={(data) => {
          const [x, y] = data as Drawn;
          onPick(tensor.rows[y]!, tensor.columns[x]!);
        }}
      />
      <ul class="swatches" aria-hidden="true">
        <li><span class="swatch hole" />nobody tried</li>
        <li><span class="swatch low" />far from the best of its row</li>
        <li><span class="swatch high" />the best of its row</li>
        <li><span class="swatch other" />tried, without this metric</li>
        <li><span class="swatch bad">×</span>some run failed</li>
      </ul>
      <figcaption>
        The colour says how near the typical run (geometric mean) of a place comes to the best place of its row. Press a place for its records.
      </figcaption>
    </figure>
  );
}

/** Place from the left, from the top, share of the best of its row, and which cell: plain, for there are many. */
type Drawn = [number, number, number | string, number];

/** Each place against the best of its row, from 0 to 1; “-” where the metric is not known. */
function relative(tensor: Tensor): Drawn[] {
  const { more } = meaning(tensor.metric);
  const best = new Map<number, number>();
  for (const [row, , , , , typical] of tensor.cells) {
    const old = best.get(row);
    if (typical !== null && (old === undefined || (more ? typical > old : typical < old))) best.set(row, typical);
  }
  const places = [new Map(tensor.rows.map(({ code }, i) => [code, i])), new Map(tensor.columns.map(({ code }, i) => [code, i]))] as const;
  return tensor.cells.map(([row, column, , , , typical], index) => {
    const top = best.get(row);
    const share = typical === null || top === undefined ? "-" : more ? typical / top : top / typical;
    return [places[1].get(column)!, places[0].get(row)!, share, index];
  });
}

function picture(colours: Palette, tensor: Tensor, picked: Props["picked"]): Record<string, unknown> {
  const drawn = relative(tensor);
  const failed = drawn.filter(([, , , index]) => tensor.cells[index]![3].some((count) => count > 0));
  const names = { overflow: "truncate", color: colours.quiet, fontSize: 11 };
  const short = (text: string, most: number): string => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
  const narrow = innerWidth < 700;
  const left = narrow ? 110 : 230;
  const told = ([x, y, share, index]: Drawn): string => words(x, y, share, tensor.cells[index]!);
  const words = (x: number, y: number, share: number | string, cell: Cell): string => [
    tensor.rows[y]!.label, tensor.columns[x]!.label.replaceAll(" · ", "\n"),
    `${number(cell[2])} records${cell[3].some(Boolean) ? `; failed: ${failures(cell[3])}` : ""}`,
    cell[5] === null ? `${interesting(tensor.metric)}: not measured` : `${interesting(tensor.metric)}: typical ${measure(tensor.metric, cell[5])}, best ${measure(tensor.metric, cell[6])}`,
    typeof share === "number" ? `${percent(share)} of the best of its row` : "",
  ].filter(Boolean).join("\n");
  const chosen = drawn.filter(([, , , index]) => tensor.cells[index]![0] === picked[0] && tensor.cells[index]![1] === picked[1]);
  const spare = Math.max(8, Math.min(22, 620 / tensor.rows.length));
  return {
    grid: { left, right: 8, top: 8, bottom: tensor.columns.length > 24 ? 26 : 40, show: true, backgroundColor: colours.hole, borderColor: "transparent" },
    tooltip: tooltip(colours, ({ data }) => told(data as Drawn)),
    xAxis: axis(colours, tensor.columns.length > 24 ? `${tensor.columns.length} columns, the fullest first` : "", {
      type: "category", data: tensor.columns.map(({ label }) => short(label, 26)), nameGap: 16, splitLine: { show: false },
      axisLabel: { ...names, show: tensor.columns.length <= 24, width: Math.max(40, (innerWidth - left) / tensor.columns.length - 6) }, axisTick: { show: false },
    }),
    yAxis: axis(colours, "", {
      type: "category", inverse: true, data: tensor.rows.map(({ label }) => short(label, narrow ? 16 : 34)), splitLine: { show: false },
      axisLabel: { ...names, width: left - 14, interval: Math.ceil(13 / spare) - 1 }, axisTick: { show: false },
    }),
    visualMap: {
      show: false, min: 0, max: 1, dimension: 2, seriesId: "places", seriesIndex: 0,
      inRange: { color: [colours.low, colours.high] }, outOfRange: { color: colours.line },
    },
    series: [
      {
        id: "places", type: "heatmap", data: drawn, progressive: 0, cursor: "pointer", emphasis: { disabled: true },
        itemStyle: { borderColor: colours.paper, borderWidth: tensor.columns.length > 100 ? 0.3 : 1, color: colours.line },
      },
      {
        id: "other", type: "scatter", data: drawn.filter(([, , share]) => share === "-"), cursor: "pointer",
        symbol: "rect", symbolSize: Math.min(7, spare - 3), itemStyle: { color: colours.quiet, opacity: 0.55 },
      },
      {
        // One path for all crosses: an element for each of thousands would take longer than all the rest.
        id: "failures", type: "custom", silent: true, data: failed.length ? [[0, 0]] : [], tooltip: { show: false },
        renderItem: (_: unknown, api: { coord: (at: number[]) => number[] }) => {
          const half = Math.min(9, spare - 2) / 2;
          const crosses = failed.map(([column, row]) => {
            const [x, y] = api.coord([column, row]) as [number, number];
            return `M${x - half} ${y - half}L${x + half} ${y + half}M${x - half} ${y + half}L${x + half} ${y - half}`;
          });
          const stroke = (colour: string, lineWidth: number) => ({
            type: "path", shape: { pathData: crosses.join("") }, style: { stroke: colour, fill: "none", lineWidth },
          });
          return { type: "group", children: [stroke(colours.paper, 3.5), stroke(colours.warn, 1.5)] };
        },
      },
      {
        id: "chosen", type: "scatter", data: chosen, silent: true, symbol: "rect", symbolSize: 14,
        itemStyle: { color: "transparent", borderColor: colours.ink, borderWidth: 2 },
      },
    ],
  };
}
