"""Static quantisation to int8 by onnxruntime, calibrated on images."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asel_lib.errors import ExportError
from asel_lib.export.onnx_graph import quiet

BATCH = 16
CHOICE = "TopK"  # the operator that chooses patches


def quantised(model, images: Sequence[np.ndarray], same_choice: bool = True):
    """A float32 ModelProto with its products with weights in int8.

    Weights have a scale for each column and seven bits, activations eight, their ranges the lowest and highest of the
    calibration images. Products of two activations (in attention), normalisation, activation functions and convolutions
    stay in float32, and so do the outputs of the products.

    Seven bits for weights, because processors without VNNI add pairs of products of eight bits in 16, which overflows.
    Chosen on val of RSSCN7 (rsscn7_anytime at 1 / 0.5 / 0.2; 123 images that it was not calibrated on; root mean square
    by which the logits move): 0.029 / 0.034 / 0.036; with the products' outputs in int8 0.038 / 0.043 / 0.051; with
    every operator 0.147 / 0.155 / 0.203, and 4, 1 and 3 answers fewer right. The eighth bit (0.029 / 0.033 / 0.033),
    ranges by percentile or entropy, and ranges taken anew for each batch are level.

    Args:
        model: the ModelProto.
        images: of the calibration, each as the graph takes them, without the batch dimension.
        same_choice: whether what patches are chosen by stays in float32, so that the same ones are kept.

    Raises:
        ExportError: without an image.
    """
    from onnxruntime import quantization

    if not len(images):
        raise ExportError("int8 needs images to be calibrated on, and got none: pass calibration=[images or paths]")
    batches = [np.stack(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    with tempfile.TemporaryDirectory() as folder, quiet(""):
        plain, prepared, file = (Path(folder, f"{name}.onnx") for name in ("plain", "prepared", "int8"))
        plain.write_bytes(model.SerializeToString())
        # Folds what is made of weights alone, such as a convolution's laid out as a matrix: only then they are weights.
        quantization.shape_inference.quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        found = type(model)()
        found.ParseFromString(prepared.read_bytes())
        left_out = _between_activations(found) | (_before_choice(found) if same_choice else set())
        quantization.quantize_static(
            prepared,
            file,
            _Reader(batches),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=sorted(left_out),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
        )
        made = type(model)()
        made.ParseFromString(file.read_bytes())
    return made


def _between_activations(model) -> set[str]:
    """Names of the products that no weights take part in."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return {node.name for node in model.graph.node if node.op_type == "MatMul" and not weights.intersection(node.input)}


def _before_choice(model) -> set[str]:
    """Names of the nodes that the choice of patches is made from."""
    made_by = {output: node for node in model.graph.node for output in node.output}
    waiting, found = [node for node in model.graph.node if node.op_type == CHOICE], {}
    while waiting:
        node = waiting.pop()
        if node.name not in found:
            found[node.name] = node
            waiting += [made_by[name] for name in node.input if name in made_by]
    return set(found)


def _Reader(batches: list[np.ndarray]):
    """The batches, one by one, as onnxruntime asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.left = iter(batches)

        def get_next(self):
            return next(({"images": batch} for batch in self.left), None)

    return Reader()
