import { useEffect, useState } from "preact/hooks";

import { get, Refused, wasAborted } from "./ask";
import { Copy, Table, Trouble } from "./parts";
import { hardwareWords, meaning, measure, methodWords, workloadWords } from "./told";
import type { Page, StoredRecord } from "./words";

const LIMIT = 50;
const SHOWN = ["output_tokens_per_s", "images_per_s", "ttft_s", "tpot_s", "e2e_s", "energy_j_per_token"];

/** The records behind a place, page by page; one of them whole. */
export function Records({ where, title }: { where: Record<string, string | undefined>; title: string }) {
  const [found, setFound] = useState<StoredRecord[]>([]);
  const [next, setNext] = useState<number | undefined>();
  const [error, setError] = useState<unknown>(null);
  const [picked, pick] = useState(-1);
  const asking = JSON.stringify(where);
  const load = (after: number, old: StoredRecord[], signal?: AbortSignal): void => {
    get<Page>("v1/records", { ...where, after, limit: LIMIT }, signal).then((page) => {
      setFound([...old, ...page.records]);
      setNext(page.next);
      setError(null);
    }, (why: unknown) => wasAborted(why) || setError(why));
  };
  useEffect(() => {
    const abort = new AbortController();
    setFound([]);
    pick(-1);
    load(0, [], abort.signal);
    return () => abort.abort();
  }, [asking]);
  const metrics = SHOWN.filter((name) => found.some(({ outcome }) => outcome.metrics?.[name] !== undefined));
  const one = found[picked];
  return (
    <section aria-label={title}>
      {error !== null && <Trouble error={error} />}
      <Table
        caption={title} rows={found} picked={picked} onPick={(_, index) => pick(index)} most={1000}
        columns={[
          ["Run", ({ provenance }) => `${provenance.source}${provenance.date ? `, ${provenance.date.slice(0, 10)}` : ""}`],
          ["Outcome", ({ outcome }) => (outcome.kind === "failed" ? <span class="failed">failed: {(outcome.reason ?? "unknown").replaceAll("_", " ")}</span> : "measured")],
          ["Machine", ({ setting }) => hardwareWords(setting.hardware)],
          ["Workload", ({ setting }) => workloadWords(setting.workload)],
          ["Method", ({ method }) => methodWords(method)],
          ...metrics.map((name): [string, (row: StoredRecord) => string, "number"] => [meaning(name).title, ({ outcome }) => measure(name, outcome.metrics?.[name]), "number"]),
        ]}
      />
      {next !== undefined && <p><button type="button" onClick={() => load(next, found)}>More records</button></p>}
      {one && <Whole record={one} />}
    </section>
  );
}

export function OneRecord({ id }: { id: string }) {
  const [record, setRecord] = useState<StoredRecord | null>(null);
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    get<StoredRecord>(`v1/records/${encodeURIComponent(id)}`).then(setRecord, setError);
  }, [id]);
  if (error instanceof Refused && error.problem.status === 404) {
    return (
      <section class="card" aria-label="Record">
        <h2>This record is not in this store</h2>
        <p>The predictor was trained on <code>{id}</code>, but its records do not ship with it: only what you import or measure is here.</p>
      </section>
    );
  }
  return error !== null ? <Trouble error={error} /> : record ? <Whole record={record} /> : null;
}

function Whole({ record }: { record: StoredRecord }) {
  const { provenance: origin, outcome, setting, method } = record;
  const facts: [string, string | undefined][] = [
    ["Model", setting.model.name], ["Machine", hardwareWords(setting.hardware)], ["Workload", workloadWords(setting.workload)],
    ["Method", methodWords(method)], ["Engine version", method.engine_version], ["Source", origin.source], ["Campaign", origin.campaign],
    ["Date", origin.date], ["Tool", origin.tool], ["Licence", origin.licence], ["Location", origin.location],
    ["Trial", origin.trial === undefined ? undefined : String(origin.trial)],
    ["Failure", outcome.kind === "failed" ? `${outcome.reason ?? "unknown"}${outcome.detail ? `: ${outcome.detail}` : ""}` : undefined],
  ];
  const text = JSON.stringify(record, null, 2);
  return (
    <section class="detail" aria-label="Record">
      <h2>Record and where it comes from</h2>
      <dl class="numbers">
        {facts.filter(([, value]) => value).map(([name, value]) => <div key={name}><dt>{name}</dt><dd class={name === "Failure" ? "failed" : undefined}>{value}</dd></div>)}
        {Object.entries(outcome.metrics ?? {}).map(([name, value]) => typeof value === "number" && <div key={name}><dt>{meaning(name).title} <code>{name}</code></dt><dd>{measure(name, value)}</dd></div>)}
      </dl>
      {origin.command && <pre tabIndex={0} aria-label="Command of the run">{origin.command}</pre>}
      <details><summary>As it is stored (JSON)</summary><pre tabIndex={0} aria-label="Record as JSON">{text}</pre><Copy text={text} what="record" /></details>
    </section>
  );
}
