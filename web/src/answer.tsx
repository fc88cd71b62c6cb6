import { useEffect, useMemo, useState } from "preact/hooks";

import { post, wasAborted } from "./ask";
import { axis, Chart, Legend, SHAPES, tones, tooltip, type Palette } from "./chart";
import type { Asked } from "./choose";
import { latency, perDollar, points, type Across, type Point } from "./pareto";
import { Choice, Copy, Table, Trouble, type Column } from "./parts";
import { hardwareWords, interval, meaning, methodWords, number, percent, techniques } from "./told";
import type { Candidate, Estimate, Excluded, Prediction, Selection } from "./words";

const ACROSS: [Across, string][] = [["tpot_s", "Time per token"], ["ttft_s", "Time to first token"], ["e2e_s", "Whole request"]];

export function Answer({ found, asked, look }: { found: Selection; asked: Asked; look: string }) {
  const [picked, pick] = useState(0);
  useEffect(() => pick(0), [found]);
  const one = found.ranked[picked] ?? found.ranked[0];
  return (
    <>
      {found.privacy && <Kept of={found.privacy} />}
      <Pareto found={found} picked={picked} onPick={pick} look={look} />
      {one && <Detail one={one} place={picked + 1} asked={asked} />}
      <Table caption="Ranked answers" columns={columns(found)} rows={found.ranked} picked={picked} onPick={(_, index) => pick(index)} most={20} />
      <LeftOut excluded={found.excluded} />
    </>
  );
}

function privacyWords({ privacy }: Candidate): string {
  const ratio = privacy?.privacy_price_ratio;
  return `${ratio === undefined ? "not known" : `${number(ratio)}×`}${privacy?.provider ? ` (${privacy.provider})` : ""}`;
}

/** The class that the answers keep to, without a word too much. */
function Kept({ of }: { of: NonNullable<Selection["privacy"]> }) {
  const read = of.recovery === undefined ? "no attack was measured" : `an attack read back up to ${percent(of.recovery)} of a prompt's tokens`;
  return <p class="kept"><strong>{of.name}</strong>: {of.private ? "may be called private" : "not to be called private"}, {read}. Exposes: {of.exposes}.</p>;
}

function columns(found: Selection): Column<Candidate>[] {
  const told = (name: string): Column<Candidate> => {
    const { title, unit } = meaning(name);
    return [`${title}, ${unit}`, (one) => interval(name, one.prediction.metrics[name]).replace(` ${unit}`, ""), "number"];
  };
  const names = ["output_tokens_per_s", "images_per_s", "ttft_s", "tpot_s", "energy_j_per_token"];
  return [
    ["Answer", (one) => `${found.ranked.indexOf(one) + 1}. ${hardwareWords(one.hardware)}`],
    ["Method", (one) => <span class="words">{methodWords(one.method)}</span>],
    ...names.filter((name) => found.ranked.some((one) => one.prediction.metrics[name])).map(told),
    ["$/h", (one) => number(one.usd_per_hour), "number"],
    ["$/M tokens", (one) => interval("", one.usd_per_million_tokens), "number"],
    ...(found.privacy ? [["Privacy costs", privacyWords, "number"] as Column<Candidate>] : []),
    ["Works", (one) => percent(one.prediction.p_ok), "number"],
    ["In limits", (one) => percent(one.p_feasible), "number"],
  ];
}

function Pareto({ found, picked, onPick, look }: { found: Selection; picked: number; onPick: (index: number) => void; look: string }) {
  const [across, setAcross] = useState<Across>("tpot_s");
  const offered = ACROSS.filter(([name]) => found.ranked.some((one) => latency(one, name)));
  const shown = offered.some(([name]) => name === across) ? across : offered[0]?.[0];
  const drawn = useMemo(() => (shown ? points(found.ranked, shown) : []), [found, shown]);
  if (!shown || !drawn.length) {
    return <p class="absent">No chart: {found.ranked.some(perDollar) ? "no latency is predicted here" : "no price is known for this hardware (give one: H100@2.5)"}.</p>;
  }
  const best = drawn.filter((point) => point.best).length;
  const work = found.ranked.some((one) => one.prediction.metrics.output_tokens_per_s) ? "Million tokens per dollar" : "Images per dollar";
  const label = `Pareto chart: ${work.toLowerCase()} against ${meaning(shown).title.toLowerCase()} of ${drawn.length} answers, ${best} of them beaten by none. The table below has the numbers.`;
  return (
    <figure class="picture">
      <div class="choices">
        <Choice label="Latency" value={shown} options={offered} onPick={(name) => setAcross(name as Across)} />
        <Legend names={[...new Set(drawn.map(({ engine }) => engine))]} />
      </div>
      <Chart
        label={label} height={340} of={[drawn, picked, look]}
        option={(colours) => picture(colours, found.ranked, drawn, { picked, across: shown, work })}
        onPick={(data) => onPick((data as { index: number }).index)}
      />
      <figcaption>
        Each point is a machine with a method; lines are 90 % intervals; the stepped line joins those that no other beats. Press a point, or a row of the table, for its reasons.
      </figcaption>
    </figure>
  );
}

function picture(colours: Palette, ranked: Candidate[], drawn: Point[], { picked, across, work }: { picked: number; across: Across; work: string }): Record<string, unknown> {
  const { scale, title, unit } = meaning(across);
  const engines = [...new Set(drawn.map((point) => point.engine))];
  const [shades, ends] = [tones(colours), drawn.filter((point) => point.best).sort((a, b) => a.x.value - b.x.value)];
  const told = (point: Point): string => {
    const one = ranked[point.index]!;
    return `${point.index + 1}. ${hardwareWords(one.hardware)}\n${techniques(one.method).join("\n")}\n${title}: ${interval(across, point.x)}\n${work}: ${interval("", point.y)}`;
  };
  const labels = { color: colours.quiet, formatter: number, showMinLabel: false, showMaxLabel: false };
  const range = (pick: (point: Point) => Estimate, factor: number): { min: number; max: number; logBase: number } => {
    const min = (Math.min(...drawn.map((point) => pick(point).value)) * factor) / 1.8;
    const max = Math.max(...drawn.map((point) => pick(point).value)) * factor * 1.8;
    return { min, max, logBase: max / min < 100 ? 2 : 10 };
  };
  return {
    grid: { left: 56, right: 16, top: 10, bottom: 48 },
    tooltip: tooltip(colours, ({ data }) => told((data as { point: Point }).point)),
    xAxis: axis(colours, `${title}, ${unit}`, { type: "log", nameGap: 28, ...range((point) => point.x, scale), axisLabel: labels }),
    yAxis: axis(colours, work, { type: "log", nameGap: 42, ...range((point) => point.y, 1), axisLabel: labels }),
    series: [
      {
        id: "front", type: "line", step: "end", symbol: "none", silent: true, tooltip: { show: false },
        lineStyle: { color: colours.accent, width: 1.5, opacity: 0.6 }, data: ends.map((point) => [point.x.value * scale, point.y.value]),
      },
      {
        id: "intervals", type: "custom", silent: true, clip: true, tooltip: { show: false }, encode: { x: [0, 1, 2], y: [3, 4, 5] },
        data: drawn.map(({ x, y, index }) => [x.value * scale, x.low * scale, x.high * scale, y.value, y.low, y.high, index]),
        renderItem: (_: unknown, api: { value: (i: number) => number; coord: (at: number[]) => number[] }) => {
          const [mid, low, high, under, over] = [
            api.coord([api.value(0), api.value(3)]), api.coord([api.value(1), api.value(3)]), api.coord([api.value(2), api.value(3)]),
            api.coord([api.value(0), api.value(4)]), api.coord([api.value(0), api.value(5)]),
          ] as [number[], number[], number[], number[], number[]];
          const chosen = api.value(6) === picked;
          const style = { stroke: chosen ? colours.ink : colours.quiet, lineWidth: chosen ? 1.6 : 1, opacity: chosen ? 1 : 0.28 };
          const line = (x1: number, y1: number, x2: number, y2: number) => ({ type: "line", shape: { x1, y1, x2, y2 }, style });
          return { type: "group", children: [line(low[0]!, mid[1]!, high[0]!, mid[1]!), line(mid[0]!, under[1]!, mid[0]!, over[1]!)] };
        },
      },
      ...engines.map((engine, place) => ({
        id: engine, name: engine, type: "scatter", symbol: SHAPES[place % SHAPES.length], cursor: "pointer",
        itemStyle: { color: shades[place % shades.length] },
        data: drawn.filter((point) => point.engine === engine).map((point) => ({
          value: [point.x.value * scale, point.y.value], index: point.index, point,
          symbolSize: point.index === picked ? 17 : point.best ? 12 : 8,
          itemStyle: { borderColor: point.index === picked ? colours.ink : colours.paper, borderWidth: point.index === picked ? 2 : 1, opacity: point.best || point.index === picked ? 1 : 0.65 },
        })),
      })),
    ],
  };
}

function Detail({ one, place, asked }: { one: Candidate; place: number; asked: Asked }) {
  const [why, setWhy] = useState<Prediction | Excluded | null>(null);
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    const abort = new AbortController();
    setWhy(null);
    setError(null);
    const pairs = [{ hardware: one.hardware, method: one.method }];
    post<(Prediction | Excluded)[]>("v1/explain", { ...asked.base, pairs }, abort.signal).then(
      (found) => setWhy(found[0] ?? null),
      (trouble: unknown) => wasAborted(trouble) || setError(trouble),
    );
    return () => abort.abort();
  }, [one, asked]);
  return (
    <section class="detail" aria-label="Why this answer">
      <h2>{place}. {hardwareWords(one.hardware)}</h2>
      <p class="method"><strong>{one.method.engine}</strong>{techniques(one.method).map((told) => <span class="chip" key={told}>{told}</span>)}</p>
      <dl class="numbers">
        {Object.entries(one.prediction.metrics).map(([name, found]) => (
          <div key={name}><dt>{meaning(name).title}</dt><dd>{interval(name, found)}</dd></div>
        ))}
        <div><dt>Price</dt><dd>{one.usd_per_hour === undefined ? "not known" : `${number(one.usd_per_hour)} $/h`}</dd></div>
        <div><dt>Works · in limits</dt><dd>{percent(one.prediction.p_ok)} · {percent(one.p_feasible)}</dd></div>
      </dl>
      {one.command ? (
        <div class="command"><pre tabIndex={0} aria-label="Launch command">{one.command}</pre><Copy text={one.command} what="command" /></div>
      ) : <p class="absent">No command: the engine has no setting for a technique of this method.</p>}
      {(one.notes ?? []).length > 0 && <><h3>Mind</h3><ul>{one.notes!.map((note) => <li key={note}>{note}</li>)}</ul></>}
      <h3>Why</h3>
      {error !== null && <Trouble error={error} />}
      <Why why={why} />
    </section>
  );
}

function Why({ why }: { why: Prediction | Excluded | null }) {
  if (!why) return <p class="absent" role="status">Asking…</p>;
  if ("limit" in why) return <p>{why.reason}</p>;
  const [reasons, nearest] = [why.reasons ?? [], why.nearest ?? []];
  return (
    <>
      {reasons.length ? <ul class="why">{reasons.map((reason) => <li key={reason}>{reason}</li>)}</ul> : <p class="absent">The predictor gives no reasons here.</p>}
      {nearest.length > 0 && (
        <details>
          <summary>{nearest.length} nearest runs of the predictor’s history</summary>
          <ul class="ids">{nearest.map((id) => <li key={id}><a href={`#/history?record=${encodeURIComponent(id)}`}>{id.slice(0, 24)}…</a></li>)}</ul>
        </details>
      )}
    </>
  );
}

function limitWords(limit: string): string {
  return limit === "slo" ? "latency or load" : limit.replaceAll("_", " ");
}

function LeftOut({ excluded }: { excluded: Excluded[] }) {
  const limits = [...new Set(excluded.map(({ limit }) => limit))];
  if (!excluded.length) return null;
  const rows = limits.flatMap((limit) => {
    const of = excluded.filter((each) => each.limit === limit);
    return [...new Set(of.map(({ reason }) => reason))].map((reason) => ({ limit, reason, count: of.filter((each) => each.reason === reason).length }));
  });
  return (
    <details class="left-out">
      <summary>{number(excluded.length)} ways were left out: {limits.map((limit) => `${limitWords(limit)} ${excluded.filter((each) => each.limit === limit).length}`).join(", ")}</summary>
      <Table caption="Left out" rows={rows} most={30} columns={[
        ["Limit", (row) => limitWords(row.limit)], ["Ways", (row) => number(row.count), "number"], ["Reason", (row) => row.reason],
      ]} />
    </details>
  );
}
