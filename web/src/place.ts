/** Where the page is: `#/page?field=value`, so that a link holds the whole question. */

import { useEffect, useState } from "preact/hooks";

export type Fields = Record<string, string>;
export interface Place { page: string; fields: Fields; turn: number }

export function read(hash: string, turn = 0): Place {
  const [page = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  return { page, fields: Object.fromEntries(new URLSearchParams(query)), turn };
}

export function write(page: string, fields: Fields): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) if (value !== "") query.set(name, value);
  const text = query.toString().replaceAll("%2C", ",").replaceAll("%2F", "/");
  return `#/${page}${text ? `?${text}` : ""}`;
}

/** Tell the address bar what the page shows, without a new step of the history. */
export function show(page: string, fields: Fields): void {
  const hash = write(page, fields);
  if (hash !== location.hash) history.replaceState(history.state, "", hash);
}

/** The place, and how often a person has gone to another one: a link that is followed begins its page anew. */
export function usePlace(): Place {
  const [place, set] = useState(() => read(location.hash));
  useEffect(() => {
    const changed = (): void => set((old) => read(location.hash, old.turn + 1));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return place;
}

/** The value once it has not changed for a while. */
export function useCalm<T>(value: T, wait_ms: number): T {
  const [calm, set] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => set(value), wait_ms);
    return () => clearTimeout(timer);
  }, [value, wait_ms]);
  return calm;
}
