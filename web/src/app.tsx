import { useEffect, useState } from "preact/hooks";

import { hasKey, keep, whenKeyIsNeeded } from "./ask";
import { Choose } from "./choose";
import { Evidence } from "./evidence";
import { History } from "./history";
import { next, useLook } from "./look";
import { usePlace } from "./place";
import { Swarm } from "./swarm";

const PAGES = [
  ["choose", "Choose", Choose],
  ["history", "History", History],
  ["evidence", "Evidence", Evidence],
  ["swarm", "Swarm", Swarm],
] as const;

/** Four pages; beside them the look, and the key where the service asks for one. */
export function App() {
  const place = usePlace();
  const [look, setLook, drawn] = useLook();
  const [keyAsked, setKeyAsked] = useState("");
  const [turn, setTurn] = useState(0);
  const [name, title, Page] = PAGES.find(([each]) => each === place.page) ?? PAGES[0];
  useEffect(() => whenKeyIsNeeded((told) => setKeyAsked(told)), []);
  useEffect(() => {
    document.title = `${title} · MetaInf`;
  }, [title]);
  const entered = (key: string): void => {
    keep(key);
    setKeyAsked("");
    setTurn(turn + 1);
  };
  const leave = (): void => {
    keep(null);
    setTurn(turn + 1);
  };
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>Skip to the content</a>
      <header class="top">
        <a class="name" href="#/choose">MetaInf</a>
        <nav aria-label="Pages">
          {PAGES.map(([each, words]) => (
            <a key={each} href={`#/${each}`} aria-current={each === name ? "page" : undefined}>{words}</a>
          ))}
        </nav>
        <span class="tools">
          {hasKey() && <button type="button" onClick={leave}>Forget the key</button>}
          <button type="button" onClick={() => setLook(next(look))} aria-label={`Look: ${look}. Change it`}>
            {look === "system" ? "◐" : look === "light" ? "☀" : "☾"} <span class="wide">{look}</span>
          </button>
        </span>
      </header>
      <main id="main" tabIndex={-1}>
        {keyAsked && <Key told={keyAsked} onEnter={entered} />}
        <Page key={`${name} ${turn} ${place.turn}`} fields={place.fields} look={drawn} />
      </main>
      <footer>
        <p>
          Answers of this machine’s <code>metainf serve</code>; the same over HTTP: <a href="v1/openapi.json">openapi.json</a>.{" "}
          <a href="licences.txt">Licences of bundled libraries</a>.
        </p>
      </footer>
    </>
  );
}

function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function Key({ told, onEnter }: { told: string; onEnter: (key: string) => void }) {
  const [text, setText] = useState("");
  const submit = (event: Event): void => {
    event.preventDefault();
    if (text.trim()) onEnter(text.trim());
  };
  return (
    <form class="key" onSubmit={submit} aria-labelledby="key-title">
      <h2 id="key-title">This service asks for a key</h2>
      <p role="alert">{told}</p>
      <label for="key">Key</label>
      <input id="key" type="password" autocomplete="off" value={text} onInput={(event) => setText(event.currentTarget.value)} />
      <button type="submit">Enter</button>
      <p class="hint">It is kept in this tab only, and is gone when the tab is closed.</p>
    </form>
  );
}
