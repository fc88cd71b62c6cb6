"""Each importer keeps the promises of ImporterSuite, and reads its tool's units."""

from pathlib import Path

import pytest

from metainf.domain import (
    BadInput,
    Compile,
    Device,
    Disaggregation,
    Failed,
    Flags,
    Lengths,
    Metrics,
    Model,
    Parallelism,
    Pool,
    Precision,
    Record,
    Rejected,
    Speculative,
    UnknownName,
    WeightQuantization,
    Workload,
)
from metainf.importers import IMPORTERS, Context, detect, importer, read
from metainf.testing.importer_suite import ImporterSuite

FIXTURES = Path(__file__).parent / "fixtures"
SAID = Context(
    model=Model(name="example/model-7b"), hardware=Device(name="Example GPU"), count=2, engine="vllm"
)


def records(name: str, context: Context = SAID) -> list[Record]:
    return [one for one in read(FIXTURES / name, context=context) if isinstance(one, Record)]


def reasons(name: str, context: Context = SAID) -> list[str]:
    return [one.reason for one in read(FIXTURES / name, context=context) if isinstance(one, Rejected)]


def metrics(record: Record) -> Metrics:
    assert record.metrics is not None
    return record.metrics


class TestVllmServe(ImporterSuite):
    format, good, context, rows = "vllm-serve", FIXTURES / "vllm_serve.json", SAID, 1

    def test_milliseconds_become_seconds(self) -> None:
        found = metrics(records("vllm_serve.json")[0])
        assert (found.ttft_s, found.ttft_p50_s, found.ttft_p99_s) == (0.05, 0.045, 0.09)
        assert (found.output_tokens_per_s, found.total_tokens_per_s, found.requests_per_s) == (400, 1400, 2)
        assert found.e2e_s is None

    def test_what_the_file_says_about_itself(self) -> None:
        plain = records("vllm_serve.json", Context(model=Model(name="m")))[0]
        assert plain.setting.hardware.count == 2
        assert "H100" in plain.setting.hardware.device.name.upper()
        assert plain.method.engine == "vllm"
        assert plain.method.get(Parallelism) == Parallelism(tensor=2)
        assert plain.provenance.date == "2026-01-02"
        work = plain.setting.workload
        assert work.input_tokens == Lengths(mean=500) and work.output_tokens == Lengths(mean=200)
        assert work.concurrency == 16 and work.request_rate_per_s is None and work.num_requests == 40


class TestVllmServeAppended(ImporterSuite):
    format, good, context, rows = "vllm-serve", FIXTURES / "vllm_serve_append.jsonl", SAID, 6
    rejected = 2

    def test_repeats_stay_two_records(self) -> None:
        first, second, *_ = records("vllm_serve_append.jsonl")
        assert (first.provenance.trial, second.provenance.trial) == (0, 1)
        assert first.outcome == second.outcome and first.id != second.id

    def test_a_run_in_which_every_request_failed_is_a_failure(self) -> None:
        failed = [one for one in records("vllm_serve_append.jsonl") if one.metrics is None]
        assert [one.outcome for one in failed] == [
            Failed(reason="unknown", detail="0 of 40 requests completed")
        ]

    def test_nan_and_negative_numbers_name_their_column(self) -> None:
        nan, negative = reasons("vllm_serve_append.jsonl")
        assert "mean_ttft_ms" in nan and "nan" in nan
        assert "mean_tpot_ms" in negative and "-1" in negative

    def test_an_api_name_is_no_engine(self) -> None:
        without = Context(model=SAID.model, hardware=SAID.hardware)
        assert any("--engine" in reason for reason in reasons("vllm_serve_append.jsonl", without))


class TestVllmThroughput(ImporterSuite):
    format, good, context, rows = "vllm-throughput", FIXTURES / "vllm_throughput.json", SAID, 1

    def test_tokens_per_second_count_input_too(self) -> None:
        found = metrics(records("vllm_throughput.json")[0])
        assert found.total_tokens_per_s == 6000 and found.output_tokens_per_s is None


class TestVllmLatency(ImporterSuite):
    format, good, context, rows = "vllm-latency", FIXTURES / "vllm_latency.json", SAID, 1

    def test_the_context_names_the_workload(self) -> None:
        work = Workload(batch_size=8, input_tokens=Lengths(mean=32))
        context = Context(model=SAID.model, hardware=SAID.hardware, workload=work)
        found = records("vllm_latency.json", context)[0]
        assert metrics(found).e2e_s == 1.5 and metrics(found).e2e_p99_s == 1.6
        assert found.setting.workload == work


class TestSglang(ImporterSuite):
    format, good, context, rows = "sglang-serving", FIXTURES / "sglang_serving.jsonl", SAID, 2

    def test_bare_infinity_is_no_rate(self) -> None:
        first, second = records("sglang_serving.jsonl", Context(hardware=Device(name="d")))
        assert first.setting.workload.request_rate_per_s is None
        assert first.setting.workload.concurrency == 2.0
        assert second.setting.workload.request_rate_per_s == 3.0
        assert second.setting.workload.concurrency == 8.0
        assert metrics(first).accepted_tokens is None and metrics(second).accepted_tokens == 2.5
        assert first.method.engine == "sglang"


class TestGuideLlm(ImporterSuite):
    format, good, context, rows = "guidellm", FIXTURES / "guidellm_0.8.json", SAID, 4

    def test_units_and_loads(self) -> None:
        one, burst, paced, failed = records("guidellm_0.8.json")
        assert metrics(one).e2e_s == 0.5 and metrics(one).ttft_s == pytest.approx(0.025)
        assert metrics(one).tpot_s == pytest.approx(0.024)
        assert metrics(one).total_tokens_per_s == 240
        assert one.setting.workload.concurrency == 1
        assert burst.setting.workload.concurrency == 10  # 512 allowed, 10 sent
        assert paced.setting.workload.request_rate_per_s == 3 and paced.setting.workload.concurrency is None
        assert isinstance(failed.outcome, Failed)


class TestGuideLlmOld(ImporterSuite):
    format, good, context, rows = "guidellm", FIXTURES / "guidellm_0.3.json", SAID, 1

    def test_the_wrong_total_of_old_versions_is_left_out(self) -> None:
        found = metrics(records("guidellm_0.3.json")[0])
        assert found.total_tokens_per_s is None and found.output_tokens_per_s == 40


class TestAiPerf(ImporterSuite):
    format, good, context, rows = "aiperf", FIXTURES / "aiperf.json", SAID, 1

    def test_units(self) -> None:
        one = records("aiperf.json")[0]
        assert metrics(one).tpot_s == pytest.approx(0.006) and metrics(one).itl_s == pytest.approx(0.0065)
        assert one.setting.workload.concurrency == 4 and one.provenance.tool == "aiperf 0.13.0"


class TestGenAiPerf(ImporterSuite):
    format, good, context, rows = "aiperf", FIXTURES / "genai_perf.json", SAID, 1

    def test_load(self) -> None:
        one = records("genai_perf.json")[0]
        assert one.setting.workload.request_rate_per_s == 5 and one.provenance.tool == "genai-perf"


class TestLlamaBenchJson(ImporterSuite):
    format, good, context, rows, rejected = "llama-bench", FIXTURES / "llama_bench.json", Context(), 5, 1

    def test_what_avg_ts_means(self) -> None:
        prompt, output, both, deep = records("llama_bench.json", Context())
        assert metrics(prompt).prefill_tokens_per_s == 5120 and metrics(prompt).e2e_s == pytest.approx(0.1)
        assert metrics(output).output_tokens_per_s == 100 and metrics(output).tpot_s == 0.01
        assert metrics(both).total_tokens_per_s == 463.768 and metrics(both).output_tokens_per_s is None
        assert deep.setting.workload.name == "llama-bench:tg@d4096"
        assert prompt.method.engine == "llama.cpp" and prompt.method.engine_version == "b6000"
        quant = prompt.method.get(WeightQuantization)
        assert quant is not None and quant.format == "Q4_K_M"
        assert prompt.setting.model.params_b == 7.0

    def test_three_forms_say_the_same(self) -> None:
        def bare(name: str) -> list[tuple[str, str, str]]:
            found = records(name, Context())
            return [(one.setting.id, one.method.id, one.outcome.canonical()) for one in found]

        assert bare("llama_bench.json") == bare("llama_bench.jsonl") == bare("llama_bench.csv")


class TestLlamaBenchLines(ImporterSuite):
    format, good, context, rows, rejected = "llama-bench", FIXTURES / "llama_bench.jsonl", Context(), 5, 1


class TestLlamaBenchCsv(ImporterSuite):
    format, good, context, rows, rejected = "llama-bench", FIXTURES / "llama_bench.csv", Context(), 5, 1

    def test_a_header_that_lacks_a_column_rejects_the_rows(self, tmp_path: Path) -> None:
        lines = self.good.read_text().splitlines()
        lines[0] = lines[0].replace("cpu_info,", "", 1)
        path = tmp_path / "short.csv"
        path.write_text("\n".join(lines))
        found = list(read(path))
        assert len(found) == 5 and all(isinstance(one, Rejected) and "cells" in one.reason for one in found)


class TestOptimumText(ImporterSuite):
    format, good, context, rows = "optimum-benchmark", FIXTURES / "optimum_text.json", Context(), 1

    def test_units(self) -> None:
        one = records("optimum_text.json", Context())[0]
        assert metrics(one).memory_gib == pytest.approx(8.0) and metrics(one).output_tokens_per_s == 68.9
        assert one.method.get(Precision) == Precision(dtype="fp16") and one.method.get(Compile) == Compile()
        assert one.setting.hardware.count == 1 and one.setting.workload.batch_size == 2


class TestOptimumImage(ImporterSuite):
    format, good, context, rows = "optimum-benchmark", FIXTURES / "optimum_image.json", Context(), 1

    def test_an_image_run(self) -> None:
        one = records("optimum_image.json", Context())[0]
        assert metrics(one).images_per_s == 0.5 and metrics(one).steps_per_s == 10 and metrics(one).e2e_s == 2
        assert one.setting.model.modality == "image" and one.setting.workload.steps == 20


class TestInferencePerf(ImporterSuite):
    format, good, context, rows = "inference-perf", FIXTURES / "inference_perf.yaml", SAID, 1

    def test_seconds(self) -> None:
        one = records("inference_perf.yaml")[0]
        assert metrics(one).tpot_s == 0.019 and metrics(one).requests_per_s == 2
        assert one.setting.workload.request_rate_per_s == 2


class TestLlmdReportOld(ImporterSuite):
    format, good, context, rows = "llm-d-report", FIXTURES / "llmd_report_0.1.yaml", Context(), 1

    def test_units_are_obeyed_and_roles_make_pools(self) -> None:
        one = records("llmd_report_0.1.yaml", Context())[0]
        assert metrics(one).tpot_s == pytest.approx(0.025) and metrics(one).ttft_s == 0.2
        assert one.method.get(Disaggregation) == Disaggregation(
            prefill=Pool(workers=1, tensor=1, expert=1, attention_data=False),
            decode=Pool(workers=1, tensor=8, expert=8, attention_data=False),
        )
        assert one.setting.hardware.count == 9


class TestLlmdReport(ImporterSuite):
    format, good, context, rows = "llm-d-report", FIXTURES / "llmd_report_0.2.yaml", Context(), 1

    def test_replicas_multiply(self) -> None:
        one = records("llmd_report_0.2.yaml", Context())[0]
        assert one.setting.hardware.count == 8
        assert one.method.get(Parallelism) == Parallelism(tensor=4, pipeline=1, expert=1, data=2)
        assert one.method.engine_version == "0.11.0" and metrics(one).tpot_s == 0.01
        assert one.setting.workload.concurrency is None and one.setting.workload.request_rate_per_s == 10

    def test_the_most_memory_of_a_watched_accelerator(self, tmp_path: Path) -> None:
        watched = "  observability:\n    components:\n"
        for units, peak in (("GiB", 73.5), ("GiB", 70.0), ("percent", 99.0)):
            watched += f"    - aggregate: {{gpu_memory_usage: {{units: {units}, max: {peak}}}}}\n"
        path = tmp_path / "watched.yaml"
        path.write_text(self.good.read_text().replace("\nresults:\n", f"\nresults:\n{watched}", 1))
        (found,) = read(path, context=Context())
        assert isinstance(found, Record) and metrics(found).memory_gib == 73.5


class TestInferenceX(ImporterSuite):
    format, good, context, rows, rejected = "inferencex", FIXTURES / "inferencex.json", Context(), 3, 1

    def test_rates_per_gpu_become_rates_of_all(self) -> None:
        one, split = records("inferencex.json", Context())
        assert metrics(one).total_tokens_per_s == 4000 and metrics(one).output_tokens_per_s == 2000
        assert metrics(one).tpot_s == 0.02 and one.setting.hardware.count == 4
        assert metrics(split).total_tokens_per_s == 16000 and split.setting.hardware.count == 16
        assert split.method.get(Disaggregation) == Disaggregation(
            prefill=Pool(workers=2, tensor=4, expert=4, attention_data=True),
            decode=Pool(workers=1, tensor=8, expert=8, attention_data=False),
        )
        assert split.method.get(Speculative) == Speculative(algorithm="mtp")
        assert split.method.engine == "tensorrt-llm"


class TestMlPerf(ImporterSuite):
    format, good, context, rows = "mlperf", FIXTURES / "mlperf_log_summary.txt", SAID, 1

    def test_nanoseconds(self) -> None:
        one = records("mlperf_log_summary.txt")[0]
        assert metrics(one).e2e_s == 5 and metrics(one).ttft_p99_s == pytest.approx(0.4)
        assert metrics(one).tpot_s == pytest.approx(0.05) and metrics(one).output_tokens_per_s == 2500
        assert one.setting.workload.request_rate_per_s == 11

    def test_an_invalid_run_is_rejected(self, tmp_path: Path) -> None:
        path = tmp_path / "mlperf_log_summary.txt"
        path.write_text(self.good.read_text().replace("Result is : VALID", "Result is : INVALID"))
        (found,) = read(path, context=SAID)
        assert isinstance(found, Rejected) and "INVALID" in found.reason


class TestLlmPerf(ImporterSuite):
    format, good, context, rows = "llmperf", FIXTURES / "llmperf.json", SAID, 1

    def test_latency_per_token_with_the_first_is_no_tpot(self) -> None:
        one = records("llmperf.json")[0]
        assert metrics(one).tpot_s is None and metrics(one).itl_s is None
        assert metrics(one).requests_per_s == pytest.approx(4.0)
        assert one.setting.workload.input_tokens is not None and one.setting.workload.input_tokens.max == 200


class TestTrtllmBench(ImporterSuite):
    format, good, context, rows = "trtllm-bench", FIXTURES / "trtllm_bench.json", Context(), 1

    def test_all_at_once_is_no_rate_and_minus_one_no_degree(self) -> None:
        one = records("trtllm_bench.json", Context())[0]
        assert one.setting.workload.request_rate_per_s is None
        assert one.method.get(Parallelism) == Parallelism(tensor=2, pipeline=1)
        assert metrics(one).ttft_s == pytest.approx(0.1) and one.setting.hardware.count == 2
        assert one.method.get(Flags) is None


class TestTheTable:
    def test_every_row_loads_and_offers_both_methods(self) -> None:
        for name in IMPORTERS:
            found = importer(name)
            assert callable(found.matches) and callable(found.read)

    def test_every_row_has_a_suite(self) -> None:
        suites = {c.format for c in ImporterSuite.__subclasses__()}
        assert set(IMPORTERS) - suites <= {"long-table"}  # its suite is in test_importers_long_table.py

    def test_an_unknown_format_names_near_misses(self) -> None:
        with pytest.raises(UnknownName) as error:
            importer("vllm-serv")
        assert "vllm-serve" in error.value.near

    @pytest.mark.parametrize("given, flag", [({}, "--engine"), ({"engine": "vllm"}, "--hardware")])
    def test_a_gap_names_the_flag_that_fills_it(self, given: dict[str, str], flag: str) -> None:
        context = Context(model=Model(name="m"), **given)
        (reason,) = reasons("inference_perf.yaml", context)
        assert flag in reason

    def test_a_missing_model_names_its_flag(self) -> None:
        context = Context(hardware=Device(name="d"), engine="vllm")
        (reason,) = reasons("inference_perf.yaml", context)
        assert "--model" in reason

    def test_an_absent_file_and_a_folder_are_bad_input(self, tmp_path: Path) -> None:
        for path in (tmp_path / "absent.json", tmp_path):
            with pytest.raises(BadInput, match="readable file"):
                detect(path)

    def test_json_that_breaks_off_names_the_line(self, tmp_path: Path) -> None:
        path = tmp_path / "cut.json"
        path.write_text('{"a": 1,\n"b": [1, 2')
        with pytest.raises(BadInput, match="line 2"):
            detect(path)

    def test_context_refuses_empty_values(self) -> None:
        with pytest.raises(BadInput, match="--model"):
            Context(model=" ")
        with pytest.raises(BadInput, match="--count"):
            Context(count=0)
