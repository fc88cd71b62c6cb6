import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { Answer } from "./answer";
import { known, post, wasAborted } from "./ask";
import { Choice, Copy, Field, Heading, Limit, Trouble } from "./parts";
import { show, useCalm, write, type Fields } from "./place";
import { about, AIMS, asked, hardware, isConfig, LIMITS, LOAD, OF_CLASS, OWN, PRIVACY, START, subject, TOP } from "./question";
import { number } from "./told";
import type { Model, Named, Offer, Selection } from "./words";

const CALM_MS = 300;

export interface Asked { fields: Fields; base: Record<string, unknown> }
interface Shown { found: Selection; asked: Asked; took_ms: number }

async function resolve(text: string, signal: AbortSignal): Promise<unknown> {
  const given = subject(text);
  if (typeof given === "string" || !isConfig(given)) return given;
  return post<Model>("v1/models", given, signal);
}

/** The question on the left, its answers as it changes on the right. */
export function Choose({ fields: start, look }: { fields: Fields; look: string }) {
  const [fields, setFields] = useState<Fields>(Object.keys(start).length ? start : START);
  const calm = useCalm(fields, CALM_MS);
  const [shown, setShown] = useState<Shown | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const going = useRef<AbortController | null>(null);
  const change = (name: string) => (value: string): void => setFields((old) => ({ ...old, [name]: value }));

  useEffect(() => {
    show("choose", calm);
    going.current?.abort();
    const abort = (going.current = new AbortController());
    const began = performance.now();
    setBusy(true);
    (async () => {
      hardware(calm.hardware ?? "");
      const model = await resolve(calm.model ?? "", abort.signal);
      const found = await post<Selection>("v1/select", asked(calm, model), abort.signal);
      setShown({ found, asked: { fields: calm, base: about(calm, model) }, took_ms: performance.now() - began });
      setError(null);
    })().catch((why: unknown) => {
      if (!wasAborted(why)) {
        setShown(null);
        setError(why);
      }
    }).finally(() => {
      if (going.current === abort) setBusy(false);
    });
    return () => abort.abort();
  }, [calm]);

  const told = busy ? "Working it out…" : shown ? summary(shown) : "";
  return (
    <>
      <Heading lead="Which acceleration to turn on, on which machine, and what it will cost. Answers follow as you type.">Choose</Heading>
      <div class="columns">
        <Form fields={fields} change={change} />
        <section class="answer" aria-label="Answer" aria-busy={busy}>
          <p class="state"><span role="status">{told}</span> <Copy what="link" text={location.href.split("#")[0] + write("choose", fields)} /></p>
          {error !== null && <Trouble error={error} onNear={(name) => setFields((old) => corrected(old, name, error))} />}
          {shown && <Answer found={shown.found} asked={shown.asked} look={look} />}
        </section>
      </div>
    </>
  );
}

function summary({ found, took_ms }: Shown): string {
  const cut = found.ranked.length === TOP ? "the best " : "";
  return `${cut}${number(found.ranked.length)} ways that meet the limits, ${number(found.excluded.length)} left out, in ${number(took_ms)} ms`;
}

/** A near miss takes the place of the word that the service did not know. */
function corrected(fields: Fields, name: string, error: unknown): Fields {
  const told = error instanceof Error ? error.message : "";
  const unknown = /unknown (\w+) ['‘"]?(.*?)['’"]?: /.exec(told);
  if (unknown?.[1] === "device") return { ...fields, hardware: (fields.hardware ?? "").replace(unknown[2]!, name) };
  if (unknown?.[1] === "workload") return { ...fields, workload: name };
  return { ...fields, model: name };
}

function Form({ fields, change }: { fields: Fields; change: (name: string) => (value: string) => void }) {
  const [models, setModels] = useState<Model[]>([]);
  const [offers, setOffers] = useState<Offer[]>([]);
  const [works, setWorks] = useState<Named[]>([]);
  useEffect(() => {
    const quiet = (): void => undefined; // what cannot be listed can still be typed; select tells of the trouble
    known<Model[]>("v1/models").then(setModels, quiet);
    known<Offer[]>("v1/hardware").then(setOffers, quiet);
    known<Named[]>("v1/workloads").then(setWorks, quiet);
  }, []);
  const workloads = useMemo<[string, string][]>(() => {
    const names = works.map(({ workload }) => workload.name ?? "").filter(Boolean);
    const said = fields.workload && !names.includes(fields.workload) ? [fields.workload] : [];
    return [["", "Lengths of my own"], ...[...names, ...said].map((name): [string, string] => [name, name])];
  }, [works, fields.workload]);
  const add = (name: string): void => {
    if (name) change("hardware")([fields.hardware, name].filter(Boolean).join(", "));
  };
  return (
    <form class="question" aria-label="Question" onSubmit={(event) => event.preventDefault()}>
      <Field label="Model" hint="A name, or the text of a config.json">
        {(id) => (
          <>
            <input id={id} list={`${id}-names`} value={fields.model ?? ""} spellcheck={false} autocomplete="off"
              aria-describedby={`${id}-hint`} onInput={(event) => change("model")(event.currentTarget.value)} />
            <datalist id={`${id}-names`}>{models.map(({ name }) => <option key={name} value={name} />)}</datalist>
          </>
        )}
      </Field>
      <Choice label="Workload" value={fields.workload ?? ""} options={workloads} onPick={change("workload")} />
      {!fields.workload && <div class="own">{OWN.map(([name, label]) => (
        <Field key={name} label={label}>
          {(id) => <input id={id} type="text" inputMode="decimal" value={fields[name] ?? ""} onInput={(event) => change(name)(event.currentTarget.value)} />}
        </Field>
      ))}</div>}
      <Limit label="Requests in flight" value={fields.concurrency ?? ""} bounds={LOAD} onInput={change("concurrency")} />
      <Field label="Hardware" hint="Such as 1-4xL4, H100, or H100@2.5 for a price of your own">
        {(id) => <input id={id} value={fields.hardware ?? ""} spellcheck={false} autocomplete="off" aria-describedby={`${id}-hint`} onInput={(event) => change("hardware")(event.currentTarget.value)} />}
      </Field>
      <Choice label="Add a device" value="" onPick={add} options={[
        ["", "Pick one…"],
        ...offers.map(({ device, usd_per_device_hour: usd }): [string, string] => [device.name, `${device.title ?? device.name}${usd ? `, ${number(usd)} $/h` : ""}`]),
      ]} />
      <Choice label="Aim" value={fields.aim || "throughput_per_dollar"} options={AIMS} onPick={change("aim")} />
      <Choice label="Privacy" value={fields.privacy ?? ""} options={PRIVACY} onPick={change("privacy")} />
      {(OF_CLASS[fields.privacy ?? ""] ?? []).map(([name, label, like]) => (
        <Field key={name} label={label} hint={`Such as ${like}`}>
          {(id) => <input id={id} value={fields[name] ?? ""} spellcheck={false} autocomplete="off" aria-describedby={`${id}-hint`} onInput={(event) => change(name)(event.currentTarget.value)} />}
        </Field>
      ))}
      <fieldset>
        <legend>Limits</legend>
        {LIMITS.map(({ name, label, bounds }) => (
          <Limit key={name} label={label} value={fields[name] ?? ""} bounds={bounds} onInput={change(name)} />
        ))}
      </fieldset>
    </form>
  );
}
