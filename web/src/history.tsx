import { useEffect, useRef, useState } from "preact/hooks";

import { get, wasAborted } from "./ask";
import { HeatMap } from "./heat";
import { Choice, Heading, Table, Trouble } from "./parts";
import { show, type Fields } from "./place";
import { OneRecord, Records } from "./records";
import { interesting, meaning, measure, number, percent } from "./told";
import type { Axes, Axis, Cell, Tensor } from "./words";

const AGAIN_MS = 1500;
const MOST = 75;
const FIRST: Fields = { metric: "output_tokens_per_s", columns: "method" };

/** The performance tensor: what was measured, what failed, what nobody tried. */
export function History({ fields: start, look }: { fields: Fields; look: string }) {
  const { record, ...given } = start;
  const [fields, setFields] = useState<Fields>({ ...FIRST, ...given });
  const [axes, setAxes] = useState<Axes | null>(null);
  const [tensor, setTensor] = useState<Tensor | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [turn, setTurn] = useState(0);
  const change = (changes: Fields): void => setFields((old) => ({ ...old, row: "", column: "", ...changes }));
  const asked = { ...fields, row: undefined, column: undefined, ...(fields.model ? { rows: "workload", most: String(MOST) } : {}) };
  const asking = JSON.stringify(asked);
  const stamp = useRef(0);

  useEffect(() => {
    show("history", record ? { ...fields, record } : fields);
  }, [fields]);
  useEffect(() => {
    const abort = new AbortController();
    const began = (stamp.current = performance.now());
    get<Tensor>("v1/tensor", asked, abort.signal).then((found) => {
      setTensor(found);
      setError(null);
      performance.measure("metainf-tensor", { start: began });
    }, (why: unknown) => wasAborted(why) || setError(why));
    return () => abort.abort();
  }, [asking, turn]);
  useEffect(() => {
    const abort = new AbortController();
    get<Axes>("v1/tensor/axes", {}, abort.signal).then(setAxes, (why: unknown) => wasAborted(why) || setError(why));
    return () => abort.abort();
  }, [turn]);
  useEffect(() => {
    if (!tensor?.behind) return;
    const timer = setTimeout(() => setTurn(turn + 1), AGAIN_MS);
    return () => clearTimeout(timer);
  }, [tensor]);

  const row = tensor?.rows.find(({ name }) => name === fields.row);
  const column = tensor?.columns.find(({ name }) => name === fields.column);
  const pick = (at: Axis | undefined, over: Axis | undefined): void =>
    setFields((old) => ({ ...old, row: at?.name ?? "", column: over?.name ?? "" }));
  return (
    <>
      <Heading lead="The performance tensor: models and their workloads against methods, on each machine. Empty places are holes: nobody measured there.">History</Heading>
      {record && <OneRecord id={record} />}
      {axes && <Filters fields={fields} axes={axes} change={change} />}
      {error !== null && <Trouble error={error} />}
      {tensor && axes && tensor.counted === 0 && <Empty behind={tensor.behind} />}
      {tensor && tensor.counted > 0 && (
        <>
          <Facts tensor={tensor} />
          {fields.model && <p><button type="button" onClick={() => change({ model: "" })}>← All models</button> Workloads of <strong>{fields.model}</strong></p>}
          <HeatMap tensor={tensor} look={look} picked={[row?.code, column?.code]} onPick={pick} />
          <Rows tensor={tensor} fields={fields} picked={row} onPick={(at) => pick(at, undefined)} />
          {row && <Cells tensor={tensor} row={row} column={column} onPick={(over) => pick(row, over)} />}
          {row && <Drill fields={fields} row={row} column={column} open={() => change({ model: row.name })} />}
        </>
      )}
    </>
  );
}

function Empty({ behind }: { behind: number }) {
  return (
    <section class="empty" aria-label="No records">
      <h2>{behind ? "Counting the records…" : "No records in this store yet"}</h2>
      {!behind && <p>Result files of benchmark tools become records: <code>metainf import bench.json --hardware 1xH100</code>, or <code>metainf measure</code> runs methods on this machine.</p>}
    </section>
  );
}

function Facts({ tensor }: { tensor: Tensor }) {
  const failed = tensor.cells.reduce((sum, [, , , reasons]) => sum + reasons.reduce((a, b) => a + b, 0), 0);
  const records = tensor.cells.reduce((sum, cell) => sum + cell[2], 0);
  const places = tensor.rows.length * tensor.columns.length;
  const cut = tensor.rows.length < tensor.all_rows || tensor.columns.length < tensor.all_columns;
  return (
    <div role="status"><ul class="facts">
      <li><strong>{number(records)}</strong> records here</li>
      <li><strong>{places ? percent(tensor.cells.length / places) : "–"}</strong> of {number(places)} places tried</li>
      <li><strong>{number(failed)}</strong> failed</li>
      {cut && <li>shown: the {tensor.rows.length} fullest of {number(tensor.all_rows)} rows, {tensor.columns.length} of {number(tensor.all_columns)} columns</li>}
      {tensor.behind > 0 && <li>still counting: about {number(tensor.behind)} records to go</li>}
    </ul></div>
  );
}

function Filters({ fields, axes, change }: { fields: Fields; axes: Axes; change: (changes: Fields) => void }) {
  const devices = [...new Set(axes.hardware.map(({ group }) => group ?? ""))].sort();
  const of = axes.hardware.filter(({ group }) => group === fields.device);
  const list = (all: string, found: Axis[]): [string, string][] => [
    ["", all], ...found.map(({ name, label, records }): [string, string] => [name, `${label} (${number(records)})`]),
  ];
  return (
    <form class="filters" aria-label="Filters" onSubmit={(event) => event.preventDefault()}>
      <Choice label="Metric" value={fields.metric ?? ""} onPick={(metric) => change({ metric })}
        options={Object.keys(axes.metrics).map((name): [string, string] => [name, interesting(name)])} />
      <Choice label="Columns" value={fields.columns ?? "method"} onPick={(columns) => change({ columns })} options={[["method", "Each method"], ["engine", "Engines"]]} />
      <Choice label="Device" value={fields.device ?? ""} onPick={(device) => change({ device, hardware: "" })} options={[["", "All devices"], ...devices.map((name): [string, string] => [name, name])]} />
      {fields.device && of.length > 1 && <Choice label="Machine" value={fields.hardware ?? ""} onPick={(hardware) => change({ hardware })} options={list("All of this device", of)} />}
      <Choice label="Model" value={fields.model ?? ""} onPick={(model) => change({ model })} options={list("All models", axes.models)} />
      <Choice label="Engine" value={fields.engine ?? ""} onPick={(engine) => change({ engine })} options={list("All engines", axes.engines)} />
      <Choice label="Source" value={fields.source ?? ""} onPick={(source) => change({ source })} options={list("All sources", axes.sources)} />
      <p class="check">
        <input id="only-failed" type="checkbox" checked={fields.failed === "true"} onChange={(event) => change({ failed: event.currentTarget.checked ? "true" : "" })} />
        <label for="only-failed">Only with failures</label>
      </p>
    </form>
  );
}

function Rows({ tensor, fields, picked, onPick }: { tensor: Tensor; fields: Fields; picked?: Axis; onPick: (row: Axis) => void }) {
  const { more } = meaning(tensor.metric);
  const byRow = new Map<number, Cell[]>(tensor.rows.map(({ code }) => [code, []]));
  for (const cell of tensor.cells) byRow.get(cell[0])?.push(cell);
  const rows = tensor.rows.map((axis) => {
    const cells = byRow.get(axis.code)!;
    const found = cells.filter((cell) => cell[6] !== null).sort((a, b) => (more ? b[6]! - a[6]! : a[6]! - b[6]!))[0];
    const failed = cells.reduce((sum, cell) => sum + cell[3].reduce((a, b) => a + b, 0), 0);
    return { axis, tried: cells.length, failed, records: cells.reduce((sum, cell) => sum + cell[2], 0), best: found };
  });
  const label = (code: number): string => tensor.columns.find((each) => each.code === code)?.label ?? "";
  return (
    <Table
      caption={`${fields.model ? "Workloads" : "Models"}: what was tried`} rows={rows} most={25} picked={rows.findIndex(({ axis }) => axis.code === picked?.code)}
      onPick={({ axis }) => onPick(axis)}
      columns={[
        [fields.model ? "Workload" : "Model", ({ axis }) => axis.label],
        ["Records", ({ records }) => number(records), "number"],
        [fields.columns === "engine" ? "Engines tried" : "Methods tried", ({ tried }) => `${tried} of ${tensor.columns.length}`, "number"],
        ["Failed", ({ failed }) => number(failed), "number"],
        [`Best ${interesting(tensor.metric).toLowerCase()}`, ({ best }) => (best ? measure(tensor.metric, best[6]) : "–"), "number"],
        ["by", ({ best }) => (best ? label(best[1]) : "–")],
      ]}
    />
  );
}

const REASONS = ["out of memory", "unsupported", "crashed", "timed out", "unknown"];

export function failures(reasons: number[]): string {
  const told = reasons.flatMap((count, place) => (count ? [`${number(count)} ${REASONS[place]}`] : []));
  return told.join(", ");
}

function Cells({ tensor, row, column, onPick }: { tensor: Tensor; row: Axis; column?: Axis; onPick: (column: Axis) => void }) {
  const cells = new Map<number, Cell>(tensor.cells.filter(([code]) => code === row.code).map((cell) => [cell[1], cell]));
  const there = tensor.columns.filter(({ code }) => cells.has(code));
  return (
    <Table
      caption={`${row.label}: ${there.length} tried, ${tensor.columns.length - there.length} holes`} rows={there} most={25}
      picked={there.findIndex(({ code }) => code === column?.code)} onPick={(axis) => onPick(axis)}
      columns={[
        ["Method", ({ label }) => label],
        ["Records", ({ code }) => number(cells.get(code)![2]), "number"],
        ["Failed", ({ code }) => <span class="failed">{failures(cells.get(code)![3])}</span>],
        ["Typical", ({ code }) => measure(tensor.metric, cells.get(code)![5]), "number"],
        ["Best", ({ code }) => measure(tensor.metric, cells.get(code)![6]), "number"],
      ]}
    />
  );
}

function Drill({ fields, row, column, open }: { fields: Fields; row: Axis; column?: Axis; open: () => void }) {
  const where: Record<string, string | undefined> = {
    model: fields.model || row.name, workload: fields.model ? row.name : undefined, device: fields.device, hardware: fields.hardware,
    source: fields.source, engine: fields.engine, status: fields.failed === "true" ? "failed" : undefined,
  };
  if (column) where[fields.columns === "engine" ? "engine" : "method"] = column.name;
  return (
    <>
      {!fields.model && <p><button type="button" onClick={open}>Open the workloads of {row.label}</button></p>}
      <Records where={where} title={column ? `Records of ${row.label} with ${column.label}` : `Records of ${row.label}`} />
    </>
  );
}
