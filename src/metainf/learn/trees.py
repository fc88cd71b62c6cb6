"""Boosted trees: trained with XGBoost's Python package, evaluated through its C library alone.

Importing the Python package costs seconds in a process that only asks one question, since it pulls in
whatever of scikit-learn and pandas is installed. The shared library inside the package loads in
milliseconds, and its documented C API evaluates the same model file to the same numbers.
"""

import ctypes
import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.domain import ArtifactError, MissingExtra

Matrix = NDArray[np.float32]
Loss = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Predictions (n,) to the gradient and second derivative of a loss, each (n,)."""


def train(
    features: Matrix,
    target: NDArray[np.float64],
    parameters: Mapping[str, Any],
    rounds: int,
    weights: NDArray[np.float64] | None = None,
    loss: Loss | None = None,
) -> bytes:
    """Fit boosted trees and return the model as bytes (UBJSON). Deterministic for one thread count.

    features: float32 (n, d), NaN for missing. target: (n,). `loss` takes the place of the objective, and
    then weighs the rows itself.
    """
    import xgboost

    data = xgboost.DMatrix(features, label=target, weight=weights)
    options = {"verbosity": 0, "nthread": 2, "seed": 0, **parameters}
    own = None if loss is None else lambda reached, _: loss(np.asarray(reached, dtype=np.float64))
    booster = xgboost.train(options, data, rounds, obj=own)
    return bytes(booster.save_raw("ubj"))


class Trees:
    """A trained ensemble. Raises ArtifactError where the bytes are not an XGBoost model."""

    def __init__(self, model: bytes) -> None:
        self._library = _library()
        self._handle = ctypes.c_void_p()
        self._call("XGBoosterCreate", None, ctypes.c_uint64(0), ctypes.byref(self._handle))
        buffer = ctypes.create_string_buffer(model, len(model))
        self._call("XGBoosterLoadModelFromBuffer", self._handle, buffer, ctypes.c_uint64(len(model)))
        self._call("XGBoosterSetParam", self._handle, b"nthread", b"1")

    def predict(self, features: Matrix) -> NDArray[np.float64]:
        """Predictions (n,) of a float32 matrix (n, d)."""
        data = np.ascontiguousarray(features, dtype=np.float32)
        if not len(data):
            return np.empty(0)
        return self._result("XGBoosterPredictFromDense", _interface(data), _config(0), None)

    def contributions(self, features: Matrix) -> NDArray[np.float64]:
        """SHAP values (n, d + 1) by exact tree SHAP (Lundberg 2018); the last column is the bias."""
        data = np.ascontiguousarray(features, dtype=np.float32)
        matrix = ctypes.c_void_p()
        self._call("XGDMatrixCreateFromDense", _interface(data), b'{"missing":NaN}', ctypes.byref(matrix))
        try:
            flat = self._result("XGBoosterPredictFromDMatrix", matrix, _config(2))
        finally:
            self._library.XGDMatrixFree(matrix)
        return flat.reshape(len(data), -1)

    def gain(self) -> NDArray[np.float64]:
        """Total gain by feature number, as pairs in an array (k, 2): feature, gain."""
        count, names = ctypes.c_uint64(), ctypes.POINTER(ctypes.c_char_p)()
        dims, shape = ctypes.c_uint64(), ctypes.POINTER(ctypes.c_uint64)()
        scores = ctypes.POINTER(ctypes.c_float)()
        self._call(
            "XGBoosterFeatureScore",
            self._handle, b'{"importance_type":"total_gain"}',
            *map(ctypes.byref, (count, names, dims, shape, scores)),
        )  # fmt: skip
        pairs = [(int(names[i].decode()[1:]), float(scores[i])) for i in range(count.value)]
        return np.array(pairs, dtype=np.float64).reshape(-1, 2)

    def _result(self, function: str, data: Any, config: bytes, *more: Any) -> NDArray[np.float64]:
        shape, dims = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
        out = ctypes.POINTER(ctypes.c_float)()
        self._call(
            function, self._handle, data, config, *more,
            ctypes.byref(shape), ctypes.byref(dims), ctypes.byref(out),
        )  # fmt: skip
        size = int(np.prod([shape[i] for i in range(dims.value)]))
        return np.ctypeslib.as_array(out, shape=(size,)).astype(np.float64)

    def _call(self, function: str, *arguments: Any) -> None:
        if getattr(self._library, function)(*arguments) != 0:
            text = self._library.XGBGetLastError().decode(errors="replace")
            first = text.partition("\n")[0].rpartition("json.cc:")[2]
            raise ArtifactError(f"expected a boosted-tree model that XGBoost can read, it says: {first}")

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.XGBoosterFree(self._handle)


def _config(kind: int) -> bytes:
    """Options of a prediction: kind 0 is the value, 2 the SHAP contributions."""
    options = {
        "type": kind,
        "training": False,
        "iteration_begin": 0,
        "iteration_end": 0,
        "strict_shape": False,
    }
    return json.dumps(options | {"missing": float("nan"), "cache_id": 0}).encode()


def _interface(data: Matrix) -> bytes:
    """The array interface (NumPy protocol, version 3) that the C API reads without a copy."""
    view = {"data": [data.ctypes.data, True], "shape": list(data.shape), "typestr": "<f4", "version": 3}
    return json.dumps(view).encode()


@cache
def _library() -> ctypes.CDLL:
    found = find_spec("xgboost")
    folder = Path(found.origin).parent / "lib" if found and found.origin else None
    files = sorted(folder.glob("*xgboost.*")) if folder else []
    if not files:
        raise MissingExtra("prediction with boosted trees", "train")
    library = ctypes.CDLL(str(files[0]))
    library.XGBGetLastError.restype = ctypes.c_char_p
    return library
