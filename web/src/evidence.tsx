import { useEffect, useState } from "preact/hooks";

import { known, wasAborted } from "./ask";
import { axis, Chart, Legend, SHAPES, tones, tooltip, type Palette } from "./chart";
import { Choice, Heading, Table, Trouble } from "./parts";
import { OverTime, verdict, viewOf } from "./time";
import { meaning, number, percent } from "./told";
import type { Ablation, Accuracy, Evaluation, Judged, Share } from "./words";

const LEFT_OUT: [string, string][] = [["model", "a model"], ["hardware", "a device"], ["workload", "a workload"], ["after a date", "what came after a date"]];
const ROW_PX = 17;

/** How the predictor was judged, and what it leans on. */
export function Evidence({ look }: { fields: Record<string, string>; look: string }) {
  const [found, setFound] = useState<Evaluation | null>(null);
  const [shares, setShares] = useState<Share[] | null>(null);
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    const trouble = (why: unknown): void => {
      if (!wasAborted(why)) setError(why);
    };
    known<Evaluation>("v1/evaluation").then(setFound, trouble);
    known<Share[]>("v1/importance").then(setShares, trouble);
  }, []);
  return (
    <>
      <Heading lead="How the shipped predictor was judged on what it had never seen, and what it leans on.">Evidence</Heading>
      {error !== null && <Trouble error={error} />}
      {found && <Regret judged={found.judged} look={look} />}
      {found && <Calibration accuracy={found.accuracy ?? []} look={look} />}
      {shares && <Importance shares={shares} look={look} />}
      {found && <Ablations ablations={found.ablations ?? []} look={look} />}
      {found && <OverTime found={found} look={look} />}
      {found && <Manifest manifest={found.manifest} />}
    </>
  );
}

function leftOut(name: string): string {
  return LEFT_OUT.find(([each]) => each === name)?.[1] ?? name;
}

function Regret({ judged, look }: { judged: Judged[]; look: string }) {
  const [out, setOut] = useState("model");
  const options = [...new Set(judged.map((one) => one.left_out))].map((name): [string, string] => [name, leftOut(name)]);
  const rows = judged.filter((one) => one.left_out === out);
  const count = (verdict: string): number => rows.filter((one) => one.verdict === verdict).length;
  const kinds = [["MetaInf", (one: Judged) => one.regret], ["Best rival", rival], ["Single best", (one: Judged) => one.single_best_regret]] as const;
  return (
    <section aria-labelledby="regret">
      <h2 id="regret">Regret</h2>
      <p>How much worse the chosen method is than the best one measured: 1 − value/best, averaged over cells. The rivals are the best of all baselines and XGBoost variants, chosen after the fact.</p>
      <div class="picture">
        <div class="choices"><Choice label="Left out of training" value={out} options={options} onPick={setOut} /><Legend names={kinds.map(([name]) => name)} /></div>
        <p role="status">Of {rows.length} views MetaInf is better in {count("better")}, even in {count("even")} and worse in {count("worse")}.</p>
        <Chart
          label={`Regret: MetaInf, its best rival and the single best method in ${rows.length} views without ${leftOut(out)}. The table below has the numbers.`}
          height={90 + rows.length * ROW_PX} of={[rows, look]} option={(colours) => dots(colours, rows.map(viewOf), kinds.map(([name, of]) => [name, rows.map(of)]), "Regret (less is better)")}
        />
      </div>
      <Table caption={`Regret without ${leftOut(out)}`} rows={rows} most={12} columns={[
        ["View", viewOf], ["Cells", (one) => number(one.cells), "number"], ["MetaInf", (one) => one.regret.toFixed(3), "number"],
        ["Best XGBoost", (one) => told(one.best_xgboost)], ["Best baseline", (one) => told(one.best_baseline)],
        ["Single best", (one) => one.single_best_regret.toFixed(3), "number"], ["Verdict", verdict],
      ]} />
    </section>
  );
}

function rival(one: Judged): number | null {
  const found = [one.best_xgboost, one.best_baseline].flatMap((each) => (each ? [each.regret] : []));
  return found.length ? Math.min(...found) : null;
}

function told(found: { name: string; regret: number } | undefined): string {
  return found ? `${found.regret.toFixed(3)} (${found.name})` : "–";
}

function Calibration({ accuracy, look }: { accuracy: Accuracy[]; look: string }) {
  const [out, setOut] = useState("model");
  const own = accuracy.filter((one) => one.learner === "MetaInf" && one.rows_of === "all" && one.covered !== undefined);
  const options = [...new Set(own.map((one) => one.left_out))].map((name): [string, string] => [name, leftOut(name === "time" ? "after a date" : name)]);
  const rows = own.filter((one) => one.left_out === out);
  const label = (one: Accuracy): string => `${one.source}: ${meaning(one.metric).title.toLowerCase()}`;
  return (
    <section aria-labelledby="calibration">
      <h2 id="calibration">Calibration</h2>
      <p>How often the 90 % interval of a number holds what was measured, on rows that no learner had seen. Left of the line it is too sure, right of it too careful.</p>
      {own.length === 0 ? <p class="absent">This package ships no table of it.</p> : (
        <>
          <div class="picture">
            <div class="choices"><Choice label="Left out of training" value={out} options={options} onPick={setOut} /></div>
            <Chart
              label={`Calibration: share of measured values within the 90 % interval, for ${rows.length} metrics of sources, without ${leftOut(out)}. The table below has the numbers.`}
              height={80 + rows.length * ROW_PX} of={[rows, look]} option={(colours) => dots(colours, rows.map(label), [["Covered", rows.map((one) => one.covered ?? null)]], "Share within the 90 % interval", 0.9)}
            />
          </div>
          <Table caption="Error and coverage of predicted numbers" rows={rows} most={12} columns={[
            ["Number", label], ["Rows", (one) => number(one.rows), "number"], ["Covered", (one) => `${(100 * one.covered!).toFixed(1)}%`, "number"],
            ["Width ×", (one) => number(one.width), "number"], ["Median error", (one) => `${(100 * one.median_ape).toFixed(1)}%`, "number"], ["Mean error", (one) => `${(100 * one.mean_ape).toFixed(1)}%`, "number"],
          ]} />
        </>
      )}
    </section>
  );
}

function Importance({ shares, look }: { shares: Share[]; look: string }) {
  const targets = [...new Set(shares.map(({ target }) => target))];
  const [target, setTarget] = useState(targets[0] ?? "");
  const rows = shares.filter((one) => one.target === target).slice(0, 20);
  return (
    <section aria-labelledby="importance">
      <h2 id="importance">What it leans on</h2>
      {shares.length === 0 ? <p class="absent">This predictor tells of no shares.</p> : (
        <>
          <div class="picture">
            <div class="choices"><Choice label="Target" value={target} options={targets.map((name) => [name, name.replaceAll("_", " ")])} onPick={setTarget} /></div>
            <Chart
              label={`Importance: shares of ${rows.length} causes in ${target}. The table below has the numbers.`} height={70 + rows.length * 22} of={[rows, look]}
              option={(colours) => bars(colours, rows.map(({ cause }) => cause), rows.map(({ share }) => share), "Share")}
            />
          </div>
          <Table caption={`Shares in ${target}`} rows={rows} most={12} columns={[["Cause", ({ cause }) => cause], ["Share", ({ share }) => `${(100 * share).toFixed(1)}%`, "number"]]} />
        </>
      )}
    </section>
  );
}

function Ablations({ ablations, look }: { ablations: Ablation[]; look: string }) {
  const names = [...new Set(ablations.flatMap(({ regret }) => Object.keys(regret)))];
  const whole = ablations.filter(({ regret }) => "MetaInf" in regret);
  const rows = names.filter((name) => name !== "MetaInf").map((name) => {
    const both = whole.filter(({ regret }) => name in regret);
    const mean = (of: string): number => both.reduce((sum, { regret }) => sum + regret[of]!, 0) / both.length;
    return { name, views: both.length, without: both.length ? mean(name) : 0, all: both.length ? mean("MetaInf") : 0 };
  });
  return (
    <section aria-labelledby="ablations">
      <h2 id="ablations">Ablations</h2>
      <p>Mean regret of other embeddings and of MetaInf without a part, each beside the whole in the same views.</p>
      {ablations.length === 0 ? <p class="absent">This package ships no table of them.</p> : (
        <>
          <div class="picture">
            <Legend names={["Variant", "MetaInf, same views"]} />
            <Chart
              label={`Ablations: mean regret of ${rows.length} variants beside MetaInf in the same views. The table below has the numbers.`} height={100 + rows.length * 30} of={[rows, look]}
              option={(colours) => dots(colours, rows.map(({ name }) => name), [["Variant", rows.map(({ without }) => without)], ["MetaInf, same views", rows.map(({ all }) => all)]], "Mean regret (less is better)")}
            />
          </div>
          <Table caption="Mean regret of variants" rows={rows} columns={[
            ["Variant", ({ name }) => name], ["Views", ({ views }) => number(views), "number"], ["Variant’s regret", ({ without }) => without.toFixed(3), "number"], ["MetaInf in the same views", ({ all }) => all.toFixed(3), "number"],
          ]} />
          <Table caption="View by view" rows={ablations} most={8} columns={[["View", ({ view }) => view], ...names.map((name): [string, (one: Ablation) => string, "number"] => [name, ({ regret }) => regret[name]?.toFixed(3) ?? "–", "number"])]} />
        </>
      )}
    </section>
  );
}

function Manifest({ manifest }: { manifest: Record<string, unknown> }) {
  const plain = Object.entries(manifest).filter(([, value]) => ["string", "number"].includes(typeof value));
  return (
    <section aria-labelledby="manifest">
      <h2 id="manifest">The predictor in use</h2>
      <dl class="numbers">{plain.map(([name, value]) => <div key={name}><dt>{name.replaceAll("_", " ")}</dt><dd>{typeof value === "number" ? number(value) : String(value)}</dd></div>)}</dl>
      <details><summary>Whole manifest (JSON)</summary><pre tabIndex={0} aria-label="Manifest">{JSON.stringify(manifest, null, 2)}</pre></details>
    </section>
  );
}

function lines(colours: Palette, names: string[]): Record<string, unknown> {
  const wide = innerWidth > 700;
  const most = wide ? 70 : 22;
  return {
    grid: { left: wide ? 430 : 150, right: 20, top: 6, bottom: 44 },
    yAxis: axis(colours, "", {
      type: "category", inverse: true, data: names.map((name) => (name.length > most ? `${name.slice(0, most - 1)}…` : name)),
      axisLabel: { color: colours.quiet, fontSize: 11, interval: 0 }, axisTick: { show: false }, splitLine: { show: true, lineStyle: { color: colours.line, opacity: 0.35 } },
    }),
  };
}

function dots(colours: Palette, names: string[], series: [string, (number | null)[]][], title: string, mark?: number): Record<string, unknown> {
  const shades = tones(colours);
  return {
    ...lines(colours, names),
    tooltip: tooltip(colours, ({ data, seriesId }) => {
      const [x, y] = data as [number, number];
      return `${names[y]}\n${seriesId}: ${x.toFixed(3)}`;
    }),
    xAxis: axis(colours, title, { type: "value", nameGap: 26, ...(mark === undefined ? { min: 0 } : { max: 1 }), axisLabel: { color: colours.quiet, formatter: number } }),
    series: [
      ...series.map(([name, values], place) => ({
        id: name, name, type: "scatter", symbol: SHAPES[place], symbolSize: 10, itemStyle: { color: shades[place] },
        data: values.flatMap((value, index) => (value === null ? [] : [[value, index]])),
      })),
      ...(mark === undefined ? [] : [{
        id: "mark", type: "line", silent: true, symbol: "none", lineStyle: { color: colours.warn, width: 1.5, type: "dashed" },
        data: [[mark, 0], [mark, names.length - 1]],
      }]),
    ],
  };
}

function bars(colours: Palette, names: string[], values: number[], title: string): Record<string, unknown> {
  return {
    ...lines(colours, names),
    tooltip: tooltip(colours, ({ name, value }) => `${name}\n${percent(value as number)}`),
    xAxis: axis(colours, title, { type: "value", nameGap: 26, axisLabel: { color: colours.quiet, formatter: percent } }),
    series: [{ id: "share", type: "bar", data: values, barMaxWidth: 12, itemStyle: { color: colours.accent, borderRadius: 3 } }],
  };
}
