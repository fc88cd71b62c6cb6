/** The service's words, as far as the page reads them. Absent fields are absent. */

export interface Estimate { value: number; low: number; high: number }
export interface Technique { kind: string; enabled?: boolean; [name: string]: unknown }
export interface Method { engine: string; engine_version?: string; techniques?: Technique[] }
export interface Device { name: string; title?: string; vendor?: string; kind?: string; memory_gib?: number }
export interface Hardware { device: Device; count?: number; nodes?: number; platform?: string }
export interface Lengths { mean: number }
export interface Workload {
  name?: string; input_tokens?: Lengths; output_tokens?: Lengths; concurrency?: number;
  request_rate_per_s?: number; batch_size?: number; width_px?: number; height_px?: number; steps?: number;
}
export interface Model { name: string; modality?: string; params_b?: number }
export interface Prediction {
  p_ok: number; metrics: Record<string, Estimate>; reasons?: string[]; nearest?: string[];
}
export interface Excluded { hardware: Hardware; method: Method; limit: string; reason: string }
export interface Candidate {
  hardware: Hardware; method: Method; prediction: Prediction; usd_per_hour?: number;
  usd_per_million_tokens?: Estimate; p_feasible: number; score: number; command?: string; notes?: string[];
  privacy?: { name: string; private: boolean; privacy_price_ratio?: number; provider?: string };
}
export interface Objective { aim?: string; confidence?: number; [limit: string]: unknown }
export interface Selection {
  model: Model; workload: Workload; objective: Objective; ranked: Candidate[]; excluded: Excluded[];
  privacy?: { name: string; private: boolean; protects: string; exposes: string; recovery?: number };
}
export interface Offer { device: Device; usd_per_device_hour?: number }
export interface Named { workload: Workload; source: string }
export interface Problem { type: string; title: string; status: number; detail: string; near?: string[] }

export interface Axis { code: number; name: string; label: string; group?: string; records: number }
export interface Axes {
  models: Axis[]; hardware: Axis[]; sources: Axis[]; engines: Axis[]; metrics: Record<string, string>;
  counted: number; behind: number;
}
/** row, column, records, failed by reason, measured, typical, best */
export type Cell = [number, number, number, number[], number, number | null, number | null];
export interface Tensor {
  metric: string; rows: Axis[]; columns: Axis[]; cells: Cell[];
  all_rows: number; all_columns: number; counted: number; behind: number;
}
export interface Outcome { kind: string; metrics?: Record<string, number>; reason?: string; detail?: string }
export interface Provenance {
  source: string; campaign?: string; licence?: string; location?: string; date?: string; tool?: string;
  trial?: number; command?: string;
}
export interface StoredRecord {
  setting: { model: Model; workload: Workload; hardware: Hardware };
  method: Method; outcome: Outcome; provenance: Provenance;
}
export interface Page { records: StoredRecord[]; next?: number }

export interface Rival { name: string; regret: number }
export interface Judged {
  source: string; view: string; left_out: string; told: boolean; cells: number; regret: number;
  best_xgboost?: Rival; best_baseline?: Rival; single_best_regret: number; gap?: number; verdict?: string;
  difference?: number; low?: number; high?: number;
}
export interface Accuracy {
  source: string; left_out: string; learner: string; metric: string; rows_of: string; rows: number;
  median_ape: number; mean_ape: number; covered?: number; width?: number;
}
export interface Ablation { view: string; regret: Record<string, number> }
export interface Moment {
  source: string; view: string; told: boolean; since: string; until?: string; known: number; cells: number;
  regret: number; low: number; high: number; best_rival?: Rival; single_best_regret?: number; random_regret?: number;
}
export interface Revealed { known_before: string; rule: string; share: number; regret: number }
export interface Evaluation {
  manifest: Record<string, unknown>; judged: Judged[]; accuracy?: Accuracy[]; ablations?: Ablation[];
  over_time?: Moment[]; by_runs?: Revealed[];
}
export interface Share { target: string; cause: string; share: number }

export interface SpanOf { start: number; end: number }
export interface SwarmNode {
  node: string; address: string; span: SpanOf; state: string; target?: SpanOf; age_s: number; rtt_ms?: number; reached: boolean;
  features: {
    decode_ms_per_block: number; prefill_ms_per_token_block: number; queue_ms: number; cache_tokens_left: number;
    memory_blocks?: number; hardware?: string; region?: string; usd_per_hour?: number; labels?: string[];
    writing?: { method: string; methods: { method: string }[]; places: number; texts: number };
  };
  pings?: { node: string; rtt_ms: number }[];
}
export interface SwarmModel {
  model: string; num_blocks: number; nodes: SwarmNode[]; copies: number[]; holes: SpanOf[];
  profile: { dtype: string; quantization: string; codec: string; engine: string };
  route?: { stages: { node: string; span: SpanOf }[]; expected_ms: number }; why_no_route?: string;
}
export interface Belief {
  node: string; reputation: number; known: boolean; quarantined: boolean; on_trial: boolean;
  served: number; failed: number; passed: number; strikes: number;
}
export interface Overview {
  directory: string; complete: boolean;
  state: { at_s: number; demand: { prompt_tokens: number; new_tokens: number }; models: SwarmModel[]; guests: number; refused: number };
  believed?: Belief[];
  queue?: { waiting: { group: string; priority: number; jobs: number; tenants: number }[]; dead: number; strange: number; lost?: string };
}
