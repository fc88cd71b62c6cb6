/** Light or dark: as the system has it, unless a person chose. */

import { useEffect, useState } from "preact/hooks";

export type Look = "system" | "light" | "dark";
const LOOKS: Look[] = ["system", "light", "dark"];
const KEPT = "metainf-look";
const DARK = matchMedia("(prefers-color-scheme: dark)");

export function next(look: Look): Look {
  return LOOKS[(LOOKS.indexOf(look) + 1) % LOOKS.length]!;
}

function kept(): Look {
  const found = localStorage.getItem(KEPT) as Look | null;
  return found && LOOKS.includes(found) ? found : "system";
}

function apply(look: Look): void {
  document.documentElement.style.colorScheme = look === "system" ? "light dark" : look;
}

/** The look, how to change it, and a word that changes whenever colours do. */
export function useLook(): [Look, (look: Look) => void, string] {
  const [look, set] = useState<Look>(kept);
  const [dark, setDark] = useState(DARK.matches);
  apply(look);
  useEffect(() => {
    const changed = (): void => setDark(DARK.matches);
    DARK.addEventListener("change", changed);
    return () => DARK.removeEventListener("change", changed);
  }, []);
  const choose = (wanted: Look): void => {
    localStorage.setItem(KEPT, wanted);
    set(wanted);
  };
  return [look, choose, look === "system" ? (dark ? "dark" : "light") : look];
}

/** Colours of the style sheet as they are now, for what is drawn on a canvas. */
export function colours<N extends string>(names: readonly N[]): Record<N, string> {
  const probe = document.createElement("span");
  document.body.append(probe);
  const found = names.map((name) => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color];
  });
  probe.remove();
  return Object.fromEntries(found) as Record<N, string>;
}
