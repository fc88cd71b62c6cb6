import type { EChartsType } from "echarts/core";
import { useEffect, useRef, useState } from "preact/hooks";

import { colours } from "./look";

export interface Palette {
  ink: string; quiet: string; line: string; paper: string; accent: string; second: string; warn: string;
  hole: string; low: string; high: string; font: string;
}

export function palette(): Palette {
  const names = ["ink", "quiet", "line", "paper", "accent", "second", "warn", "hole", "low", "high"] as const;
  return { ...colours(names), font: getComputedStyle(document.body).fontFamily };
}

interface Props {
  /** What the picture shows, for those who do not see it; the table beside it has the numbers. */
  label: string;
  option: (palette: Palette) => Record<string, unknown>;
  /** Whatever makes the picture another one. */
  of: unknown[];
  height: number;
  onPick?: (data: unknown, series: string) => void;
}

/** One drawing. `window.metainfCharts` finds the charts by their label, so that tests can click a point. */
export function Chart({ label, option, of, height, onPick }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<EChartsType | null>(null);
  const [ready, setReady] = useState(false);
  const pick = useRef(onPick);
  pick.current = onPick;

  useEffect(() => {
    let gone = false;
    const watch = new ResizeObserver(() => chart.current?.resize());
    void import("./charts").then(({ start }) => {
      if (gone || !box.current) return;
      chart.current = start(box.current);
      chart.current.on("click", (event) => pick.current?.(event.data, event.seriesId ?? ""));
      watch.observe(box.current);
      charts().set(label.split(":")[0]!, chart.current);
      setReady(true);
    });
    return () => {
      gone = true;
      watch.disconnect();
      chart.current?.dispose();
      chart.current = null;
    };
  }, []);

  useEffect(() => {
    if (!ready || !chart.current) return;
    const now = palette();
    const base = {
      animation: false,
      textStyle: { fontFamily: now.font, color: now.ink },
      backgroundColor: "transparent",
    };
    chart.current.setOption({ ...base, ...option(now) }, { notMerge: true });
    box.current?.setAttribute("data-drawn", String(Number(box.current.dataset.drawn ?? 0) + 1));
  }, [ready, ...of]);

  useEffect(() => chart.current?.resize(), [height]);
  return <div class="chart" ref={box} role="img" aria-label={label} style={{ height: `${height}px` }} />;
}

function charts(): Map<string, EChartsType> {
  const there = window as unknown as { metainfCharts?: Map<string, EChartsType> };
  there.metainfCharts ??= new Map();
  return there.metainfCharts;
}

/** What every axis looks like. */
export function axis(colours: Palette, name: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    name,
    nameLocation: "middle",
    nameTextStyle: { color: colours.quiet, fontSize: 12 },
    axisLine: { lineStyle: { color: colours.line } },
    axisTick: { lineStyle: { color: colours.line } },
    axisLabel: { color: colours.quiet, fontSize: 11 },
    splitLine: { lineStyle: { color: colours.line, opacity: 0.5 } },
    minorSplitLine: { show: false },
    ...more,
  };
}

export function tooltip(colours: Palette, formatter: (event: { data: unknown; seriesId?: string; name?: string; value?: unknown }) => string): Record<string, unknown> {
  return {
    renderMode: "richText",
    confine: true,
    backgroundColor: colours.paper,
    borderColor: colours.line,
    textStyle: { color: colours.ink, fontSize: 12 },
    formatter,
  };
}

const TONES = ["accent", "second", "warn", "quiet"];
export const SHAPES = ["circle", "triangle", "rect", "diamond"];
const DRAWN: Record<string, string> = {
  circle: "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10z", triangle: "M6 1 11 11H1z", rect: "M1.5 1.5h9v9h-9z", diamond: "M6 0 12 6 6 12 0 6z",
};

export function tones(colours: Palette): string[] {
  return [colours.accent, colours.second, colours.warn, colours.quiet];
}

/** Which shape and colour means what, in the order of the series. */
export function Legend({ names }: { names: string[] }) {
  return (
    <ul class="swatches" aria-label="Legend">
      {names.map((name, place) => (
        <li key={name}>
          <svg viewBox="0 0 12 12" width="11" height="11" aria-hidden="true" style={{ fill: `var(--${TONES[place % TONES.length]})` }}>
            <path d={DRAWN[SHAPES[place % SHAPES.length]!]} />
          </svg>{" "}
          {name}
        </li>
      ))}
    </ul>
  );
}
