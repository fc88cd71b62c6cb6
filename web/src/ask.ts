/** Calls of the service: the key, problems as errors, and nothing else. */

import type { Problem } from "./words";

const KEY = "metainf-key";
let onKeyNeeded: (told: string) => void = () => undefined;

export class Refused extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail);
  }
  get near(): string[] {
    return this.problem.near ?? [];
  }
}

/** The key of this browser tab; it is gone when the tab is closed. */
export function keep(key: string | null): void {
  if (key === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, key);
}

export function hasKey(): boolean {
  return sessionStorage.getItem(KEY) !== null;
}

export function whenKeyIsNeeded(tell: (told: string) => void): void {
  onKeyNeeded = tell;
}

async function send<T>(path: string, init: RequestInit): Promise<T> {
  const headers = new Headers(init.headers);
  const key = sessionStorage.getItem(KEY);
  if (key !== null) headers.set("Authorization", `Bearer ${key}`);
  let answer: Response;
  try {
    answer = await fetch(path, { ...init, headers });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw refusal(0, "The service does not answer: is metainf serve still running?");
  }
  if (answer.ok) return (await answer.json()) as T;
  const problem = await problemOf(answer);
  if (answer.status === 401) onKeyNeeded(problem.detail);
  throw new Refused(problem);
}

async function problemOf(answer: Response): Promise<Problem> {
  try {
    return (await answer.json()) as Problem;
  } catch {
    return refusal(answer.status, `The service answered ${answer.status} ${answer.statusText}`).problem;
  }
}

function refusal(status: number, detail: string): Refused {
  return new Refused({ type: "", title: "No answer", status, detail });
}

export function get<T>(
  path: string,
  where: Record<string, string | number | boolean | undefined> = {},
  signal?: AbortSignal,
): Promise<T> {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(where)) {
    if (value !== undefined && value !== "" && value !== false) query.set(name, String(value));
  }
  const text = query.toString();
  return send<T>(text ? `${path}?${text}` : path, { signal });
}

export function post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  const headers = { "Content-Type": "application/json" };
  return send<T>(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

const once = new Map<string, Promise<unknown>>();

/** What does not change while the page is open is asked once; a refusal is not remembered. */
export function known<T>(path: string): Promise<T> {
  const there = once.get(path) as Promise<T> | undefined;
  if (there) return there;
  const coming = get<T>(path);
  once.set(path, coming);
  coming.catch(() => once.delete(path));
  return coming;
}

export function wasAborted(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}
