"""A module -> an ONNX model with a dynamic batch, checked against the module in onnxruntime."""

import logging
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from asel_lib.errors import ExportError

OPSET = 20  # the first with Gelu as one operator
TOLERANCE = 1e-4  # of the logits, float32


def traced(module: nn.Module, images: Tensor, what: str, model: Callable[[Tensor], Tensor] | None = None):
    """The ONNX model (a ModelProto, no metadata yet) of `module`, for any number of images like `images` (B >= 2).

    model: images -> the logits that the file must give, of the model that `module` was made of; None: `module`'s own.
    ExportError names `what` where its graph cannot be captured, or answers otherwise than the model does.
    """
    with torch.inference_mode():
        expected = module(images)  # also lays ready what a first call lays ready
        expected = (expected if model is None else model(images)).numpy()
    try:
        with warnings.catch_warnings(), quiet("torch.onnx", "onnxscript", "torch._export", "torch.export"):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (images,),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=["images"],
                output_names=["logits"],
                verbose=False,
                custom_translation_table=_translations(),
            )
        model = _without_traces(program.model_proto)
    except Exception as error:  # the exporter's own types differ from version to version
        why = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise ExportError(
            f"{what} cannot be laid out as one ONNX graph ({type(error).__name__}: {why[0][:200]}); export it with "
            "another policy, e.g. the model's own selector, 'random' or 'central'"
        ) from error
    for part in (images, images[:1]):
        gap = float(np.abs(answers(model, part.numpy()) - expected[: len(part)]).max())
        if not gap <= TOLERANCE:
            raise ExportError(
                f"{what}: onnxruntime's logits differ from torch's by {gap:.2g}, more than {TOLERANCE:g}; merge it "
                "into the weights, where something was put around the model's parts; else export it with another "
                "policy, or with another version of torch or onnxruntime"
            )
    return model


def answers(model, images: np.ndarray) -> np.ndarray:
    """Logits (B, classes) of a ModelProto in onnxruntime, on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


def _translations() -> dict:
    """ONNX for what torch's exporter knows nothing, or nothing exact, of."""
    import onnxscript
    from onnxscript import opset20 as op

    def stable_sort(self, stable=None, dim: int = -1, descending: bool = False):
        # TopK too puts the first of equal values first.
        return op.TopK(self, op.Constant(value_ints=[self.shape[dim]]), axis=dim, largest=int(descending), sorted=1)

    def total(self, dim=None, keepdim: bool = False, dtype: int = -1):
        dims = [dim] if isinstance(dim, int) else list(dim or ())
        if self.dtype != onnxscript.INT64.dtype or dims not in ([1], [-1]) or len(self.shape) != 2 or keepdim:
            return op.ReduceSum(self, op.Constant(value_ints=dims) if dims else None, keepdims=int(keepdim))
        # onnxruntime sums integers as doubles, and what images are hashed by needs every bit: additions wrap around.
        count = self.shape[1]
        while count > 1:
            half = count // 2
            parts = [_columns(op, self, 0, half), _columns(op, self, half, 2 * half)]
            joined = op.Add(*parts)
            self = op.Concat(joined, _columns(op, self, 2 * half, count), axis=1) if count % 2 else joined
            count = half + count % 2
        return op.Squeeze(self, op.Constant(value_ints=[1]))

    return {torch.ops.aten.sort.stable: stable_sort, torch.ops.aten.sum.dim_IntList: total}


def _columns(op, values, start: int, stop: int):
    start, stop, axis = (op.Constant(value_ints=[number]) for number in (start, stop, 1))
    return op.Slice(values, start, stop, axis)


def _without_traces(model):
    """The same without the exporter's notes, which hold paths and source lines of the machine that exported."""
    for holder in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        holder.doc_string = ""
        del holder.metadata_props[:]
    for holder in (model, model.graph, *model.graph.input, *model.graph.output):
        del holder.metadata_props[:]
        holder.doc_string = ""
    return model


class quiet:
    """These loggers say nothing meanwhile."""

    def __init__(self, *names: str):
        self.loggers = [logging.getLogger(name) for name in names]

    def __enter__(self):
        self.levels = [logger.level for logger in self.loggers]
        for logger in self.loggers:
            logger.setLevel(logging.CRITICAL)

    def __exit__(self, *_):
        for logger, level in zip(self.loggers, self.levels, strict=True):
            logger.setLevel(level)
