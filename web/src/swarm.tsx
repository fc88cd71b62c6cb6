import { useEffect, useRef, useState } from "preact/hooks";

import { get, Refused, wasAborted } from "./ask";
import { Choice, Field, Heading, Table, Trouble } from "./parts";
import { show } from "./place";
import { Model } from "./swarm_model";
import { alike, changes, clock, keyOf, stateOf, type Wanted } from "./swarm_told";
import { number } from "./told";
import type { Overview } from "./words";

const EVERY_MS = 2000;
const MOST_NEWS = 20;
interface News { at: string; told: string }

/** The swarm that the service watches, asked anew every two seconds. */
export function Swarm({ fields, look }: { fields: Record<string, string>; look: string }) {
  const [wanted, want] = useState<Wanted & { node: string }>({
    model: fields.model ?? "", state: fields.state ?? "", region: fields.region ?? "", text: fields.text ?? "", node: fields.node ?? "",
  });
  const [live, setLive] = useState(true);
  const { overview, error, news } = useOverview(live);
  useEffect(() => show("swarm", { ...wanted }), [wanted]);
  const set = (name: string) => (value: string) => want((old) => ({ ...old, [name]: value }));
  const none = error instanceof Refused && error.problem.type.endsWith(":no-swarm");
  return (
    <>
      <Heading lead="One model over many machines: who is there, what each holds, how requests travel.">Swarm</Heading>
      {none ? <Empty told={error.message} /> : <>
        {error !== null && <Trouble error={error} />}
        {overview && <>
          <div class="state">
            <span>
              <strong>{overview.complete ? "Every model can be used." : "Not every model can be used."}</strong>{" "}
              As of {clock(overview.state.at_s)}, {overview.directory}
            </span>
            <span class="check">
              <input id="live" type="checkbox" checked={live} onChange={(event) => setLive(event.currentTarget.checked)} />
              <label for="live">Ask anew every 2 s</label>
            </span>
          </div>
          <Filters overview={overview} wanted={wanted} set={set} />
          {overview.state.models.length === 0 && <p class="absent">No node serves any model here.</p>}
          {overview.state.models.filter((each) => !wanted.model || keyOf(each) === wanted.model).map((each) => (
            <Model
              key={keyOf(each)} overview={overview} model={each} wanted={wanted} picked={wanted.node} look={look} onPick={set("node")}
            />
          ))}
          <Queues overview={overview} />
        </>}
        {!overview && error === null && <p class="absent">Asking…</p>}
        <section aria-labelledby="news">
          <h2 id="news">Changes since this page was opened</h2>
          <div role="status">{news[0] ? `${news[0].at}: ${news[0].told}` : "None yet."}</div>
          {news.length > 1 && <ul>{news.slice(1).map(({ at, told }, place) => <li key={`${place} ${at}`}>{at}: {told}</li>)}</ul>}
        </section>
      </>}
    </>
  );
}

function Filters({ overview, wanted, set }: { overview: Overview; wanted: Wanted; set: (name: string) => (value: string) => void }) {
  const { models } = overview.state;
  const nodes = models.flatMap((each) => each.nodes);
  const all = (values: string[]): [string, string][] => [["", "all"], ...[...new Set(values)].sort().map((each): [string, string] => [each, each])];
  return (
    <div class="filters" role="group" aria-label="Which nodes">
      <Choice
        label="Model" value={wanted.model} onPick={set("model")}
        options={[["", "all"], ...models.map((each): [string, string] => [keyOf(each), `${each.model.slice(0, 11)}… ${alike(each)}`])]}
      />
      <Choice label="State" value={wanted.state} options={all(nodes.map(stateOf))} onPick={set("state")} />
      <Choice label="Region" value={wanted.region} options={all(nodes.map(({ features }) => features.region ?? "none"))} onPick={set("region")} />
      <Field label="Name, hardware or label">
        {(id) => <input id={id} type="text" autocomplete="off" value={wanted.text} onInput={(event) => set("text")(event.currentTarget.value)} />}
      </Field>
    </div>
  );
}

function Queues({ overview: { queue, state } }: { overview: Overview }) {
  const facts = [[state.guests, "guests in the directory"], [state.refused, "records that were not to be believed"]] as const;
  const more = queue && !queue.lost ? [[queue.dead, "dead letters"], [queue.strange, "messages under strange names"]] as const : [];
  return (
    <>
      <ul class="facts">{[...facts, ...more].map(([count, what]) => <li key={what}><strong>{number(count)}</strong> {what}</li>)}</ul>
      {queue?.lost && <Trouble error={new Error(queue.lost)} />}
      {queue && !queue.lost && (
        <Table
          caption="Requests in the queue, those in work included" rows={queue.waiting}
          columns={[
            ["Group", ({ group }) => group], ["Class", ({ priority }) => ["urgent", "usual", "patient"][priority] ?? String(priority)],
            ["Requests", ({ jobs }) => number(jobs), "number"], ["Tenants", ({ tenants }) => number(tenants), "number"],
          ]}
        />
      )}
    </>
  );
}

/** The newest answer, kept while a later question fails; and what changed from one to the next. */
function useOverview(live: boolean): { overview: Overview | null; error: unknown; news: News[] } {
  const [overview, setOverview] = useState<Overview | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [news, setNews] = useState<News[]>([]);
  const last = useRef<Overview | null>(null);
  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    const ask = async (): Promise<void> => {
      try {
        if (!document.hidden || last.current === null) hear(await get<Overview>("v1/swarm", {}, stop.signal));
      } catch (wrong) {
        if (wasAborted(wrong) || stop.signal.aborted) return;
        setError(wrong);
        if (wrong instanceof Refused && [401, 403, 404].includes(wrong.problem.status)) return;
      }
      if (live && !stop.signal.aborted) timer = window.setTimeout(() => void ask(), EVERY_MS);
    };
    const hear = (now: Overview): void => {
      const told = last.current ? changes(last.current, now) : [];
      last.current = now;
      setOverview(now);
      setError(null);
      if (told.length) setNews((old) => [...told.map((each) => ({ at: clock(now.state.at_s), told: each })).reverse(), ...old].slice(0, MOST_NEWS));
    };
    if (live || last.current === null) void ask();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [live]);
  return { overview, error, news };
}

function Empty({ told }: { told: string }) {
  return (
    <section class="empty" aria-label="State of the swarm">
      <svg viewBox="0 0 120 60" width="160" height="80" aria-hidden="true">
        <circle cx="20" cy="40" r="6" /><circle cx="60" cy="18" r="6" /><circle cx="100" cy="40" r="6" />
        <path d="M26 37 54 21M66 21 94 37" />
      </svg>
      <h2>No swarm is watched here</h2>
      <p>{told}. So there is nothing to show: no node, no route, no number.</p>
      <p>
        What one machine can do is under <a href="#/choose">Choose</a>; what was measured, under <a href="#/history">History</a>.
      </p>
    </section>
  );
}
