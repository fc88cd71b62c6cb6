import { useState } from "preact/hooks";

import { axis, Chart, Legend, SHAPES, tones, tooltip, type Palette } from "./chart";
import { Choice, Table } from "./parts";
import { number, percent } from "./told";
import type { Evaluation, Judged, Moment, Revealed } from "./words";

export const viewOf = (one: { source: string; view: string; told: boolean }): string => `${one.source}: ${one.view}${one.told ? ", told" : ""}`;

export function verdict(one: Judged): string {
  if (one.verdict === undefined) return "not judged";
  return `${one.verdict} by ${one.difference} (${one.low} to ${one.high})`;
}

const KINDS: [string, (one: Moment) => number | undefined][] = [
  ["MetaInf", (one) => one.regret], ["Best rival", (one) => one.best_rival?.regret],
  ["Single best", (one) => one.single_best_regret], ["Random", (one) => one.random_regret],
];
const RULES = ["planner", "random"];
const THOUSANDTHS = (value: number | undefined): string => value?.toFixed(3) ?? "–";

/** Regret from date to date, and as the runs of one machine become known. */
export function OverTime({ found, look }: { found: Evaluation; look: string }) {
  return (
    <section aria-labelledby="time">
      <h2 id="time">Regret over time</h2>
      <Dates moments={found.over_time ?? []} look={look} />
      <Late judged={found.judged} />
      <Runs revealed={found.by_runs ?? []} look={look} />
    </section>
  );
}

function Dates({ moments, look }: { moments: Moment[]; look: string }) {
  const every = moments.map(viewOf);
  const names = [...new Set(every)].filter((name) => every.filter((each) => each === name).length > 1);
  const [name, setName] = useState(names[0] ?? "");
  const rows = moments.filter((one) => viewOf(one) === name);
  const rival = rows[0]?.best_rival?.name;
  if (rows.length === 0) return <p class="absent">This package ships no series of it.</p>;
  return (
    <>
      <p>At each date every learner knew only what had been measured before it, and was judged on what came until the next one. The band is the 95 % interval of MetaInf over the cells of that date. What comes later may be harder, so read the lines beside each other. Views with a single date are not listed.</p>
      <div class="picture">
        <div class="choices"><Choice label="View" value={name} options={names.map((each) => [each, each])} onPick={setName} /><Legend names={KINDS.map(([kind]) => kind)} /></div>
        <Chart
          label={`Regret over time: MetaInf, ${rival ?? "its best rival"}, the single best method and random picking at ${rows.length} dates of ${name}. The table below has the numbers.`}
          height={300} of={[rows, look]} option={(colours) => curves(colours, rows)}
        />
      </div>
      <Table caption={`Regret from date to date, ${name}`} rows={rows} columns={[
        ["From", ({ since }) => since], ["Until", ({ until }) => until ?? "–"], ["Rows known", ({ known }) => number(known), "number"], ["Cells", ({ cells }) => number(cells), "number"],
        ["MetaInf", ({ regret, low, high }) => `${THOUSANDTHS(regret)} (${THOUSANDTHS(low)}–${THOUSANDTHS(high)})`, "number"],
        [`Best rival${rival ? `, ${rival}` : ""}`, ({ best_rival }) => THOUSANDTHS(best_rival?.regret), "number"],
        ["Single best", ({ single_best_regret }) => THOUSANDTHS(single_best_regret), "number"], ["Random", ({ random_regret }) => THOUSANDTHS(random_regret), "number"],
      ]} />
    </>
  );
}

function Late({ judged }: { judged: Judged[] }) {
  const rows = judged.filter((one) => one.left_out === "after a date" && !one.told).map((late) => ({
    late, seen: judged.find((one) => one.left_out === "workload" && !one.told && one.source === late.source && one.view === late.view),
  }));
  if (rows.length === 0) return null;
  return (
    <>
      <p>Each source with dates was also cut once, at about the last fifth of its rows. Beside it, a workload left out at any date.</p>
      <Table caption="Regret after a date" rows={rows} most={12} columns={[
        ["View", ({ late }) => viewOf(late)], ["Cells", ({ late }) => number(late.cells), "number"], ["After a date", ({ late }) => late.regret.toFixed(3), "number"],
        ["Unseen workload", ({ seen }) => THOUSANDTHS(seen?.regret), "number"], ["Verdict after the date", ({ late }) => verdict(late)],
      ]} />
    </>
  );
}

function Runs({ revealed, look }: { revealed: Revealed[]; look: string }) {
  const before = [...new Set(revealed.map((one) => one.known_before))];
  const [known, setKnown] = useState(before[0] ?? "");
  const here = revealed.filter((one) => one.known_before === known);
  const shares = [...new Set(here.map(({ share }) => share))].sort((a, b) => a - b);
  const rules = [...new Set(here.map(({ rule }) => rule))];
  const at = (rule: string, share: number): number | undefined => here.find((one) => one.rule === rule && one.share === share)?.regret;
  if (here.length === 0) return null;
  return (
    <>
      <h3>As a machine’s own runs become known</h3>
      <p>Machines of the public history, one at a time as if it were new: mean regret over sources when a share of its runs is known, by the rule that chose which run came next.</p>
      <div class="picture">
        <div class="choices"><Choice label="Known before any run" value={known} options={before.map((each) => [each, each])} onPick={setKnown} /><Legend names={RULES} /></div>
        <Chart
          label={`Regret by runs: the planner and random picking at ${shares.length} shares of the runs, knowing ${known} before. The table below has the numbers.`}
          height={260} of={[here, look]} option={(colours) => steps(colours, shares, RULES.map((rule) => [rule, shares.map((share) => at(rule, share))]))}
        />
      </div>
      <Table caption={`Regret by share of the runs, knowing ${known} before`} rows={rules} columns={[
        ["Rule", (rule) => rule], ...shares.map((share): [string, (rule: string) => string, "number"] => [percent(share), (rule) => THOUSANDTHS(at(rule, share)), "number"]),
      ]} />
    </>
  );
}

function line(colours: Palette, name: string, place: number, data: unknown[]): Record<string, unknown> {
  const colour = tones(colours)[place];
  return {
    id: name, name, type: "line", symbol: SHAPES[place], symbolSize: 9, connectNulls: false, data,
    itemStyle: { color: colour }, lineStyle: { color: colour, width: place === 0 ? 2.5 : 1.5, type: place === 0 ? "solid" : "dashed" },
  };
}

/** Lines over real time, and the interval of the first as a band: its foot unseen, its height upon it. */
function curves(colours: Palette, rows: Moment[]): Record<string, unknown> {
  const band = { type: "line", stack: "interval", symbol: "none", silent: true, lineStyle: { opacity: 0 }, tooltip: { show: false } };
  return {
    ...frame(colours, "Regret (less is better)"),
    xAxis: axis(colours, "First date judged", { type: "time", nameGap: 28, axisLabel: { color: colours.quiet, fontSize: 11, hideOverlap: true } }),
    tooltip: tooltip(colours, ({ data, seriesId }) => {
      const [since, value] = data as [string, number];
      const one = rows.find((row) => row.since === since);
      return `from ${since}${one?.until ? ` to ${one.until}` : ""}\n${seriesId}: ${value.toFixed(3)}\n${number(one?.cells)} cells, ${number(one?.known)} rows known`;
    }),
    series: [
      { ...band, id: "foot", data: rows.map(({ since, low }) => [since, low]) },
      { ...band, id: "band", data: rows.map(({ since, low, high }) => [since, high - low]), areaStyle: { color: colours.accent, opacity: 0.18 } },
      ...KINDS.map(([name, of], place) => line(colours, name, place, rows.map((one) => [one.since, of(one) ?? null]))),
    ],
  };
}

function steps(colours: Palette, shares: number[], series: [string, (number | undefined)[]][]): Record<string, unknown> {
  return {
    ...frame(colours, "Mean regret (less is better)"),
    xAxis: axis(colours, "Share of the runs known", { type: "category", nameGap: 28, data: shares.map(percent), boundaryGap: false }),
    tooltip: tooltip(colours, ({ name, value, seriesId }) => `${name} of the runs\n${seriesId}: ${(value as number).toFixed(4)}`),
    series: series.map(([name, values], place) => line(colours, name, place, values.map((value) => value ?? null))),
  };
}

function frame(colours: Palette, title: string): Record<string, unknown> {
  return {
    grid: { left: 56, right: 24, top: 14, bottom: 48 },
    yAxis: axis(colours, title, { type: "value", min: 0, nameGap: 40, axisLabel: { color: colours.quiet, fontSize: 11, formatter: number } }),
  };
}
