"""Select, size, predict, explain: questions with one answer each."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import TypeAdapter, ValidationError

from metainf.api.asking import Asked, PredictAsked, SizeAsked, answer_predict, answer_select, answer_size
from metainf.api.exporting import FORMATS, exported
from metainf.domain import BadInput, Excluded, Frozen, Prediction, Selection, UnknownName
from metainf.selection import Sized
from metainf.service.access import Reads, Straight
from metainf.service.bodies import JSON, described, read_text
from metainf.service.running import Service

F = TypeVar("F", bound=Frozen)
router = APIRouter(prefix="/v1", tags=["choosing"], route_class=Straight)
QUESTION: dict[str, Any] = {
    "model": "Llama-3.1-8B-Instruct",
    "workload": "sharegpt",
    "changes": {"concurrency": 32},
    "hardware": ["1-4xL4", "H100"],
    "objective": {"max_usd_per_hour": 4, "max_ttft_s": 0.5},
    "top": 3,
}
OWN: dict[str, Any] = {
    "model": "Qwen/Qwen3-32B",
    "changes": {"input_tokens": {"mean": 2000}, "output_tokens": {"mean": 300}, "concurrency": 16},
    "hardware": [
        {
            "device": {
                "name": "mine",
                "vendor": "NVIDIA",
                "kind": "gpu",
                "compute_capability": "9.0",
                "memory_gib": 96,
                "memory_bandwidth_gb_per_s": 1800,
                "bf16_tflops": 250,
                "fp16_tflops": 250,
                "fp8_tflops": 500,
            },
            "count": 1,
        }
    ],
    "objective": {"aim": "throughput"},
    "explain": 1,
}
SIZE: dict[str, Any] = {
    "question": QUESTION | {"objective": {"max_ttft_s": 2}},
    "rate_per_s": 10,
    "percentile": "p90",
}
PAIRS: dict[str, Any] = {
    "model": "Llama-3.1-8B-Instruct",
    "workload": "sharegpt",
    "changes": {"concurrency": 8},
    "pairs": [{"hardware": "2xL4", "method": {"engine": "vllm", "techniques": [{"kind": "prefix_cache"}]}}],
}
Told = tuple[Prediction | Excluded, ...]
TOLD: TypeAdapter[Told] = TypeAdapter(Told)
SIZED = TypeAdapter(tuple[Sized, ...])


def computed(work: Callable[[], bytes]) -> bytes:
    """The work's result. Facts that lead beyond what can be computed are bad input, not an error of ours."""
    try:
        return work()
    except (ArithmeticError, RecursionError, ValidationError) as error:
        raise BadInput(f"these facts lie outside of what can be predicted: {error}") from None


async def _answer(
    request: Request, kind: type[F], work: Callable[[F], bytes], name: str, media_type: str = JSON
) -> Response:
    """What `work` makes of the question; what was made of the same text before is given again."""
    service: Service = request.app.state.service
    text = await read_text(request)
    key = f"{name} ".encode() + text
    found = service.answers.known(key)
    if found is None:
        asked = kind.parse(text)
        found = await service.answers.make(key, partial(computed, partial(work, asked)))
    return Response(found, media_type=media_type)


@router.post(
    "/select", response_model=Selection, openapi_extra=described("Asked", {"names": QUESTION, "facts": OWN})
)
async def select(request: Request, caller: Reads) -> Response:
    """Which hardware and which methods: ranked, with intervals, reasons and the command to run."""
    offline = request.app.state.service.settings.offline

    def work(asked: Asked) -> bytes:
        return answer_select(asked, offline).model_dump_json(exclude_none=True).encode()

    return await _answer(request, Asked, work, "select")


@router.post(
    "/export/{format}",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    openapi_extra=described("Asked", {"names": QUESTION}),
)
async def export(request: Request, caller: Reads, format: str) -> Response:
    """The first answer of a question as a file: compose, kubernetes, skypilot, ray or the command."""
    offline = request.app.state.service.settings.offline
    if format not in FORMATS:
        raise UnknownName("format", format, FORMATS)

    def work(asked: Asked) -> bytes:
        return exported(answer_select(asked, offline), format).encode()

    return await _answer(request, Asked, work, f"export {format}", "text/plain")


@router.post("/size", response_model=list[Sized], openapi_extra=described("SizeAsked", {"rate": SIZE}))
async def size(request: Request, caller: Reads) -> Response:
    """The least or cheapest hardware that serves a request rate under the limits."""
    offline = request.app.state.service.settings.offline
    return await _answer(
        request, SizeAsked, lambda asked: SIZED.dump_json(answer_size(asked, offline)), "size"
    )


@router.post(
    "/predict",
    response_model=list[Prediction | Excluded],
    openapi_extra=described("PredictAsked", {"pair": PAIRS}),
)
async def predict(request: Request, caller: Reads) -> Response:
    """What is expected of each pair of hardware and method, in their order; or why one cannot run."""
    return await _predict(request, explain=False)


@router.post(
    "/explain",
    response_model=list[Prediction | Excluded],
    openapi_extra=described("PredictAsked", {"pair": PAIRS}),
)
async def explain(request: Request, caller: Reads) -> Response:
    """The same with reasons, strongest first, and the nearest measured records."""
    return await _predict(request, explain=True)


async def _predict(request: Request, explain: bool) -> Response:
    offline = request.app.state.service.settings.offline

    def work(asked: PredictAsked) -> bytes:
        return TOLD.dump_json(answer_predict(asked, explain, offline), exclude_none=True)

    return await _answer(request, PredictAsked, work, f"predict {explain}")
