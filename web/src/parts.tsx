import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";

import { Refused } from "./ask";
import { number, typed } from "./told";

export function Field({ label, hint, children }: { label: string; hint?: string; children: (id: string) => ComponentChildren }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children(id)}
      {hint && <p class="hint" id={`${id}-hint`}>{hint}</p>}
    </div>
  );
}

export function Choice({ label, value, options, onPick, hint }: {
  label: string; value: string; options: [string, string][]; onPick: (value: string) => void; hint?: string;
}) {
  return (
    <Field label={label} hint={hint}>
      {(id) => (
        <select id={id} value={value} onChange={(event) => onPick(event.currentTarget.value)}>
          {options.map(([name, title]) => <option key={name} value={name} selected={name === value}>{title}</option>)}
        </select>
      )}
    </Field>
  );
}

export interface Bounds { low: number; high: number; unit: string; none: string }
const STEPS = 100;

/** A slider on a logarithmic scale beside a number that can be typed; the right end means none. */
export function Limit({ label, value, bounds, onInput }: {
  label: string; value: string; bounds: Bounds; onInput: (value: string) => void;
}) {
  const id = useId();
  const found = typed(value, label);
  const wrong = found instanceof Error ? found.message : "";
  const { low, high, unit, none } = bounds;
  const place = typeof found === "number" ? Math.round((STEPS * Math.log(found / low)) / Math.log(high / low)) : STEPS + 1;
  const slid = (step: number): void => {
    const next = low * (high / low) ** (step / STEPS);
    onInput(step > STEPS ? "" : String(Number(next.toPrecision(2))));
  };
  const told = typeof found === "number" ? `${number(found)} ${unit}` : none;
  return (
    <div class="limit">
      <label for={id}>{label}</label>
      <span class="typed">
        <input
          id={id} type="text" inputMode="decimal" value={value} placeholder={none} autocomplete="off"
          aria-invalid={wrong ? "true" : undefined} aria-describedby={wrong ? `${id}-wrong` : undefined}
          onInput={(event) => onInput(event.currentTarget.value)}
        />
        <span class="unit" aria-hidden="true">{unit}</span>
      </span>
      <input
        type="range" min={0} max={STEPS + 1} step={1} value={Math.max(0, Math.min(STEPS + 1, place))}
        aria-label={`${label}, slider`} aria-valuetext={told}
        onInput={(event) => slid(Number(event.currentTarget.value))}
      />
      {wrong && <p class="wrong" id={`${id}-wrong`}>{wrong}</p>}
    </div>
  );
}

/** A refusal in the service's words, with near misses to press. */
export function Trouble({ error, onNear }: { error: unknown; onNear?: (name: string) => void }) {
  const told = error instanceof Error ? error.message : String(error);
  const near = error instanceof Refused ? error.near : [];
  return (
    <div class="trouble" role="alert">
      <p>{told}</p>
      {onNear && near.length > 0 && (
        <p class="near">
          <span>Did you mean</span>
          {near.map((name) => <button type="button" key={name} onClick={() => onNear(name)}>{name}</button>)}
        </p>
      )}
    </div>
  );
}

export function Copy({ text, what }: { text: string; what: string }) {
  const [told, tell] = useState("");
  useEffect(() => {
    if (!told) return;
    const timer = setTimeout(() => tell(""), 2000);
    return () => clearTimeout(timer);
  }, [told]);
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      tell("Copied");
    } catch {
      tell(byHand(text) ? "Copied" : "Could not copy: select it by hand");
    }
  };
  return (
    <span class="copy">
      <button type="button" onClick={() => void copy()}>Copy {what}</button>
      <span role="status">{told}</span>
    </span>
  );
}

/** Without a secure context there is no clipboard to write to; the older way still works. */
function byHand(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "away";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

/** The heading of a page; it takes the focus when the page is turned. */
export function Heading({ children, lead }: { children: ComponentChildren; lead: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (document.activeElement?.closest("nav")) heading.current?.focus();
  }, []);
  return (
    <header class="heading">
      <h1 ref={heading} tabIndex={-1}>{children}</h1>
      <p>{lead}</p>
    </header>
  );
}

export type Column<R> = [string, (row: R) => ComponentChildren, ("number" | "")?];

/** The numbers behind a picture. A row that can be picked has a button in its first cell. */
export function Table<R>({ caption, columns, rows, picked, onPick, most = 200 }: {
  caption: string; columns: Column<R>[]; rows: R[]; picked?: number; onPick?: (row: R, index: number) => void; most?: number;
}) {
  const [all, setAll] = useState(false);
  const shown = all ? rows : rows.slice(0, most);
  return (
    <div class="table" tabIndex={0} role="region" aria-label={caption}>
      <table>
        <caption>{caption}</caption>
        <thead><tr>{columns.map(([title, , kind]) => <th scope="col" class={kind} key={title}>{title}</th>)}</tr></thead>
        <tbody>
          {shown.map((row, index) => (
            <tr key={index} class={index === picked ? "picked" : undefined}>
              {columns.map(([title, cell, kind], place) =>
                place === 0 ? (
                  <th scope="row" key={title}>
                    {onPick ? (
                      <button type="button" class="pick" aria-pressed={index === picked} onClick={() => onPick(row, index)}>{cell(row)}</button>
                    ) : cell(row)}
                  </th>
                ) : <td class={kind} key={title} data-title={title}>{cell(row)}</td>,
              )}
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length > most && !all && (
        <button type="button" onClick={() => setAll(true)}>Show all {number(rows.length)} rows</button>
      )}
    </div>
  );
}
