"""What is known of NVIDIA's ONNX parser, version by version, and where it is written.

Each fact has a source in :data:`SOURCES`.  Between two documents that agree, versions are taken to do as both say;
where they differ and no changelog says when it changed, and beyond the last document, the answer is "unknown".
"""

from __future__ import annotations

from enum import StrEnum

from hwnas.doctor.version import Version

SOURCES = {
    "8.5": "onnx-tensorrt docs/operators.md of TensorRT 8.5 (commit 6d0ab7b)",
    "8.6": "onnx-tensorrt Changelog, TensorRT 8.6 EA; opset: NVIDIA Deep-Learning-Accelerator-SW operators/README.md",
    "9.1": "onnx-tensorrt docs/operators.md of TensorRT 9.1 (commit 877b5dc)",
    "10.0": "onnx-tensorrt docs/operators.md of TensorRT 10.0 (its first paragraph)",
    "10.6": "onnx-tensorrt docs/operators.md of TensorRT 10.6 (commit 0137504)",
    "10.15": "onnx-tensorrt docs/operators.md of TensorRT 10.15 (commit fa5aa9f)",
    "changelog": "onnx-tensorrt docs/Changelog.md of TensorRT 10.15",
    "11": "github.com/NVIDIA/TensorRT, notes of releases 11.0, 11.2 and 11.5",
    "dla-operators": "github.com/NVIDIA/Deep-Learning-Accelerator-SW, operators on Orin DLA",
    "dla": "docs.nvidia.com, TensorRT, DLA Supported Layers and Restrictions, and Working with DLA (11.3, 11.4)",
    "gpus": "docs.nvidia.com, TensorRT 10.1 support matrix, and release notes of 10.5 (Volta) and 10.8 (Blackwell)",
    "precision": "docs.nvidia.com, TensorRT Support Matrix, hardware and precision",
}

LAST_MATRIX = Version(10, 15)
"""The last version whose operators are documented one by one."""

OPSETS = {
    Version(8, 5): 17,
    Version(8, 6): 17,
    Version(9, 1): 19,
    Version(10, 0): 20,
    Version(10, 6): 22,
    Version(10, 15): 24,
    Version(11, 5): 25,
}
"""The newest opset that the parser of a version is documented to read."""

OLDEST_OPSET = 9


class Support(StrEnum):
    """What a parser does with an operator."""

    YES = "supported"
    NO = "unsupported"
    UNKNOWN = "unknown"


_SINCE_8_5 = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Clip Concat
Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal
Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool
Greater GreaterOrEqual GridSample GRU HardSwish HardSigmoid Identity If ImageScaler InstanceNormalization IsNaN
LeakyRelu Less LessOrEqual Log LogSoftmax Loop LRN LSTM LpNormalization LpPool MatMul Max MaxPool Mean
MeanVarianceNormalization Min Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or Pad ParametricSoftplus Pow PRelu
QuantizeLinear RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2
ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
ReverseSequence RNN RoiAlign Round ScaledTanh Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin
Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK
Transpose Trilu Unsqueeze Upsample Where Xor
"""

_LATER = {
    Version(8, 6): ("GroupNormalization LayerNormalization IsInf", "8.6"),
    Version(9, 1): ("CastLike", "9.1"),
    Version(9, 2): ("Hardmax", "changelog"),
    Version(10, 1): ("DeformConv", "changelog"),
    Version(10, 4): ("BlackmanWindow HammingWindow HannWindow", "changelog"),
    Version(10, 5): ("STFT", "changelog"),
    Version(10, 6): ("Gelu Mish", "10.6"),
    Version(10, 14): ("Attention", "changelog"),
    Version(10, 15): ("RMSNormalization RotaryEmbedding TensorScatter", "changelog"),
    Version(11, 0): ("Swish", "11"),
    Version(11, 2): ("DFT", "11"),
}
"""Operators by the first version that is documented to have them."""

_LAST_WITHOUT = {"CastLike": Version(8, 5), "Gelu": Version(9, 1), "Mish": Version(9, 1)}
"""The last version that is known not to have an operator, where the one that brought it is not told."""

_REFUSED = """
AffineGrid Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Col2Im CenterCropPad Compress
ConcatFromSequence ConvInteger DFT Det DynamicQuantizeLinear ImageDecoder MatMulInteger MaxRoiPool MaxUnpool
MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional OptionalGetElement OptionalHasElement QLinearConv
QLinearMatMul RegexFullMatch SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength
SequenceMap SoftmaxCrossEntropyLoss SplitToSequence StringConcat StringNormalizer StringSplit TfIdfVectorizer Unique
"""
"""Operators that the last matrix says no to."""

SINCE: dict[str, tuple[Version, str]] = {
    **dict.fromkeys(_SINCE_8_5.split(), (Version(8, 5), "8.5")),
    **{name: (version, source) for version, (names, source) in _LATER.items() for name in names.split()},
}
"""The first version that has an operator, and the source."""

REFUSED = frozenset(_REFUSED.split())

_ORIN_DLA = """
Abs Add AveragePool BatchNormalization Clip Concat Constant Conv ConvTranspose Equal Gemm LeakyRelu LRN MatMul Max
MaxPool Mul PRelu Relu Reshape Resize Sigmoid Slice Softmax Split Sub Sum Tanh Transpose Upsample
"""

ORIN_DLA = frozenset(_ORIN_DLA.split())
"""Operators that run on Orin's DLA as they are; others are computed by the GPU."""


def support(operator: str, version: Version) -> tuple[Support, str]:
    """What the parser of a version does with an operator of ONNX's own domain, and the source of that."""
    if operator in SINCE:
        first, source = SINCE[operator]
        if version >= first:
            return Support.YES, source if first > LAST_MATRIX or version <= LAST_MATRIX else str(LAST_MATRIX)
        known_without = _LAST_WITHOUT.get(operator)
        if known_without is not None and version > known_without:
            return Support.UNKNOWN, source
        return Support.NO, source
    if operator in REFUSED:
        return (Support.NO if version <= LAST_MATRIX else Support.UNKNOWN), str(LAST_MATRIX)
    return Support.UNKNOWN, str(LAST_MATRIX)


def opset_limits(version: Version) -> tuple[int, int | None]:
    """The newest opset that a version surely reads, and the first one that it surely does not, if that is known.

    They are apart where a version lies between two documents.
    """
    read = max(opset for known, opset in OPSETS.items() if known <= version)
    later = [opset for known, opset in OPSETS.items() if known >= version]
    return read, min(later) + 1 if later else None
