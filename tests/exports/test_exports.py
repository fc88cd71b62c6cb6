"""Exports are read by the tools that will run them, or by their published schemas."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf import api
from metainf.api.asking import Asked, answer_select
from metainf.api.exporting import FORMATS, exported
from metainf.cli.choose import EXPORTS as ON_THE_COMMAND_LINE
from metainf.domain import (
    BadInput,
    Candidate,
    NotSupported,
    Prediction,
    UnknownName,
    Workload,
)
from metainf.engines import engine
from metainf.exports import EXPORTS, Deployment, deployment, export, ray, skypilot
from metainf.exports.deployment import label

yaml = pytest.importorskip("yaml", reason="needs the extra yaml")

MACHINES = {"vllm": "2xH100", "sglang": "8xH200", "tensorrt-llm": "1xB200", "llama.cpp": "1xL4"}
WORK = Workload(concurrency=8)


def made(name: str, hardware: str, **fields: Any) -> Deployment:
    """The first method of an engine on a machine, as a deployment."""
    subject = api.model("meta-llama/Llama-3.1-8B-Instruct", True)
    machine = api.catalogue.hardware_of([hardware])[0][0]
    maker = engine(name)
    method = maker.methods(subject, machine, WORK)[0]
    one = Candidate(
        hardware=machine, method=method, prediction=Prediction(p_ok=1.0), p_feasible=1.0, score=1.0
    )
    found = deployment(subject, one, maker.launch(subject, method, machine, WORK))
    return found.model_copy(update=fields)


DEPLOYMENTS = [made(name, hardware) for name, hardware in MACHINES.items()] + [
    made("vllm", "1xMI300X"),
    made("llama.cpp", "1xepyc-9654"),
    made("vllm", "1xH100", files={"options.yml": "a: $HOME\nb: '$(X)'\n"}, env={"A": "$B"}),
]
each = pytest.mark.parametrize("one", DEPLOYMENTS, ids=lambda one: f"{one.method.engine}-{one.device}")


def test_the_tables_agree() -> None:
    assert FORMATS == ("command", *EXPORTS) == ON_THE_COMMAND_LINE


@each
def test_compose_is_read_by_a_parser_of_its_specification(one: Deployment, tmp_path: Path) -> None:
    compose_spec = pytest.importorskip("compose_spec", reason="needs the extra dev")
    text = export("compose")(one)
    compose_spec.PyCompose.from_yaml(text).to_spec()
    service = yaml.safe_load(text)["services"]["engine"]
    assert [*service["entrypoint"], *service["command"]] == [word.replace("$", "$$") for word in one.argv]
    assert ("deploy" in service) == (one.maker == "nvidia")
    path = tmp_path / "compose.yaml"
    path.write_text(text, encoding="utf-8")
    if (
        shutil.which("docker")
        and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        ran = subprocess.run(
            ["docker", "compose", "-f", path, "config", "--format", "json"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout)["services"]["engine"]["command"] == list(one.argv[1:])


@each
def test_kubernetes_keeps_to_the_api_s_own_schemas(one: Deployment) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="needs the extra dev")
    documents = list(yaml.safe_load_all(export("kubernetes")(one)))
    for document in documents:
        validate.validate(document, validate.latest_version(), strict=True)
    kinds = {document["kind"]: document for document in documents}
    assert set(kinds) == {"PersistentVolumeClaim", "Deployment", "Service"} | (
        {"ConfigMap"} if one.files else set()
    )
    pod = kinds["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["command"] + container["args"] == [word.replace("$(", "$$(") for word in one.argv]
    selector = kinds["Service"]["spec"]["selector"]
    assert selector.items() <= pod["metadata"]["labels"].items()
    assert {mount["name"] for mount in container["volumeMounts"]} <= {
        v["name"] for v in pod["spec"]["volumes"]
    }
    limits = container.get("resources", {}).get("limits", {})
    assert list(limits.values()) == ([] if one.maker == "cpu" else [str(one.devices)])


ON_NVIDIA = [one for one in DEPLOYMENTS if one.maker == "nvidia"]


@pytest.mark.parametrize("one", ON_NVIDIA, ids=lambda one: one.method.engine)
def test_skypilot(one: Deployment) -> None:
    task = yaml.safe_load(export("skypilot")(one))
    assert set(task) == {"name", "resources", "envs", "run", "service"}
    ((_, count),) = task["resources"]["accelerators"].items()
    assert count == one.devices and task["run"].rstrip().endswith(f"--port {one.port}")


def test_skypilot_itself_reads_its_tasks(tmp_path: Path) -> None:
    """It pins older versions of what we use, so it is asked in an environment of its own."""
    theirs = Path(sys.prefix) / "sky" / "bin" / "python"
    if not theirs.exists():
        pytest.skip("SkyPilot is not installed in .venv/sky")
    for place, one in enumerate(ON_NVIDIA):
        (tmp_path / f"{place}.yaml").write_text(export("skypilot")(one))
    code = (
        "import json, pathlib, sky, sys\n"
        "tasks = [sky.Task.from_yaml(str(p)) for p in sorted(pathlib.Path(sys.argv[1]).glob('*.yaml'))]\n"
        "print(json.dumps([[list(r.accelerators.items()) for r in t.resources] for t in tasks]))"
    )
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    ran = subprocess.run([theirs, "-c", code, tmp_path], capture_output=True, text=True, env=env, timeout=120)
    assert ran.returncode == 0, ran.stderr
    read = json.loads(ran.stdout.splitlines()[-1])
    told = [yaml.safe_load(export("skypilot")(one))["resources"]["accelerators"] for one in ON_NVIDIA]
    assert read == [[[[name, count] for name, count in each.items()]] for each in told]


def ray_serve() -> tuple[dict[str, Any], dict[str, Any]]:
    """A file for Ray Serve, and the LLM config in it."""
    config = yaml.safe_load(export("ray")(DEPLOYMENTS[0]))
    (llm,) = config["applications"][0]["args"]["llm_configs"]
    return config, llm


def test_ray_serve() -> None:
    _, llm = ray_serve()
    assert llm["engine_kwargs"]["tensor_parallel_size"] in (1, 2) and llm["accelerator_type"] == "H100"
    assert llm["model_loading_config"]["model_source"] == DEPLOYMENTS[0].model.name


def test_ray_serve_reads_the_file_by_its_schema() -> None:
    schema = pytest.importorskip("ray.serve.schema", reason="Ray Serve is not installed")
    config, _ = ray_serve()
    (application,) = schema.ServeDeploySchema.model_validate(config).applications
    assert application.import_path == config["applications"][0]["import_path"]


def test_ray_llm_reads_the_config() -> None:
    inner = pytest.importorskip(
        "ray.llm._internal.serve.core.configs.llm_config", reason="Ray LLM is not installed"
    )
    _, llm = ray_serve()
    assert inner.LLMConfig.model_validate(llm).engine_kwargs == llm["engine_kwargs"]


@pytest.mark.parametrize("tool", [ray.ACCELERATORS, skypilot.ACCELERATORS], ids=["ray", "skypilot"])
def test_tools_are_asked_for_devices_of_the_catalogue(tool: dict[str, str]) -> None:
    assert set(tool) <= {device.name for device in api.devices()}
    known = (
        pytest.importorskip("ray.util.accelerators.accelerators", reason="Ray is not installed")
        if "k80" in tool
        else None
    )
    if known is not None:
        assert set(tool.values()) <= {value for value in vars(known).values() if isinstance(value, str)}


@pytest.mark.parametrize(
    ("name", "one", "why"),
    [
        ("ray", DEPLOYMENTS[1], "runs vllm"),
        ("ray", made("vllm", "1xL40"), "no name for l40"),
        ("skypilot", DEPLOYMENTS[5], "no name for epyc"),
    ],
)
def test_what_a_tool_cannot_run_is_said(name: str, one: Deployment, why: str) -> None:
    with pytest.raises(NotSupported, match=why):
        export(name)(one)


def test_engine_arguments_are_flags_without_dashes() -> None:
    words = ["--max-num-seqs", "32", "--no-enable-prefix-caching", "--quantization", "fp8", "--port", "8000"]
    words += ["--speculative-config", '{"method": "ngram"}', "--enforce-eager"]
    assert ray.engine_arguments(words) == {
        "max_num_seqs": 32, "enable_prefix_caching": False, "quantization": "fp8",
        "speculative_config": {"method": "ngram"}, "enforce_eager": True,
    }  # fmt: skip


@given(st.text(max_size=80))
def test_any_name_makes_a_label(name: str) -> None:
    found = label(name)
    assert 1 <= len(found) <= 40 and found.isascii() and found == found.lower() and found.strip("-") == found


def test_a_selection_is_exported() -> None:
    asked = Asked(
        model="Llama-3.1-8B-Instruct", workload="sharegpt", hardware=("H100",), engines=("vllm",), top=2
    )
    found = answer_select(asked)
    assert exported(found, "command").strip() == found.ranked[0].command
    assert "other/image:1" in exported(found, "compose", 2, "other/image:1")
    with pytest.raises(UnknownName, match="compose"):
        exported(found, "composer")
    with pytest.raises(BadInput, match="from 1 to 2"):
        exported(found, "compose", 3)
    far = found.model_copy(update={"ranked": (_spread(found.ranked[0]),)})
    with pytest.raises(NotSupported, match="one machine"):
        exported(far, "compose")


def _spread(one: Candidate) -> Candidate:
    return one.model_copy(update={"hardware": one.hardware.model_copy(update={"nodes": 2})})
