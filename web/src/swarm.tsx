import { useEffect, useState } from "preact/hooks";

import { known } from "./ask";
import { Heading } from "./parts";

/** There is none; the page says so, and asks the service's own document whether that is still so. */
export function Swarm(_: { fields: Record<string, string>; look: string }) {
  const [calls, setCalls] = useState<string[] | null>(null);
  useEffect(() => {
    known<{ paths: Record<string, unknown> }>("v1/openapi.json").then(
      (document) => setCalls(Object.keys(document.paths).filter((path) => path.startsWith("/v1/swarm"))),
      () => setCalls(null),
    );
  }, []);
  return (
    <>
      <Heading lead="One model over many machines: who is there, what each holds, how requests travel.">Swarm</Heading>
      <section class="empty" aria-label="State of the swarm">
        <svg viewBox="0 0 120 60" width="160" height="80" aria-hidden="true">
          <circle cx="20" cy="40" r="6" /><circle cx="60" cy="18" r="6" /><circle cx="100" cy="40" r="6" />
          <path d="M26 37 54 21M66 21 94 37" />
        </svg>
        <h2>No swarm on this machine yet</h2>
        <p>
          {calls && calls.length > 0
            ? `The service has calls for a swarm (${calls.join(", ")}), but this page does not show them.`
            : "This service has no call that tells of a swarm, so there is nothing to show: no node, no route, no number."}
        </p>
        <p>
          What one machine can do is under <a href="#/choose">Choose</a>; what was measured, under <a href="#/history">History</a>.
        </p>
      </section>
    </>
  );
}
