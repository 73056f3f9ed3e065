"""Arguments and input shapes for every layer kind, for the tests of layers and of what is built from them."""

from __future__ import annotations

Case = tuple[dict[str, object], tuple[tuple[int, ...], ...]]

VECTOR, SIGNAL, IMAGE, VOLUME = (2, 6), (2, 6, 9), (2, 6, 9, 8), (2, 6, 5, 6, 7)


def conv(*shape: int) -> list[Case]:
    """Convolutions over an input of 6 channels."""
    return [
        ({"out_channels": 4, "kernel_size": 3}, (shape,)),
        ({"out_channels": 4, "kernel_size": 3, "padding": "same", "dilation": 2, "bias": False}, (shape,)),
        ({"out_channels": 9, "kernel_size": 2, "stride": 2, "padding": 1, "groups": 3}, (shape,)),
        ({"out_channels": 6, "kernel_size": 3, "padding": 1, "groups": 6, "padding_mode": "reflect"}, (shape,)),
        ({"in_channels": 6, "out_channels": 1, "kernel_size": 2, "padding": "valid"}, (shape,)),
    ]


def transposed(*shape: int) -> list[Case]:
    """Transposed convolutions over an input of 6 channels."""
    return [
        ({"out_channels": 4, "kernel_size": 3}, (shape,)),
        (
            {"out_channels": 9, "kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "groups": 3},
            (shape,),
        ),
        ({"out_channels": 2, "kernel_size": 2, "dilation": 2, "bias": False}, (shape,)),
    ]


def batch_norm(*shape: int) -> list[Case]:
    """With and without statistics, weights and bias."""
    return [
        ({}, (shape,)),
        ({"affine": False, "track_running_stats": False, "eps": 1e-3}, (shape,)),
        ({"num_features": 6, "momentum": None, "bias": False}, (shape,)),
    ]


def instance_norm(*shape: int) -> list[Case]:
    """With and without statistics and weights."""
    return [({}, (shape,)), ({"affine": True, "track_running_stats": True}, (shape,)), ({"eps": 1e-3}, (shape,))]


def windows(*shape: int, more: dict[str, object]) -> list[Case]:
    """A plain window, one that hangs over the end, and one with more arguments."""
    return [
        ({"kernel_size": 2}, (shape,)),
        ({"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}, (shape,)),
        ({"kernel_size": 3, "stride": 1, **more}, (shape,)),
    ]


def power(*shape: int) -> list[Case]:
    """Power means of whole and broken power."""
    return [
        ({"norm_type": 2, "kernel_size": 2}, (shape,)),
        ({"norm_type": 1.5, "kernel_size": 3, "stride": 2, "ceil_mode": True}, (shape,)),
    ]


def adaptive(*shape: int) -> list[Case]:
    """Sizes that divide the input, that do not, and that are larger; null where torch takes it."""
    sizes: list[int | None] = [1, None, 4]
    listed = [3] if len(shape) == 3 else sizes[: len(shape) - 2]
    return [({"output_size": 1}, (shape,)), ({"output_size": listed}, (shape,)), ({"output_size": 12}, (shape,))]


def padded(*shape: int, more: dict[str, object] | None = None) -> list[Case]:
    """One amount for all sides, one for each, and a negative one."""
    sides = list(range(2 * (len(shape) - 2)))
    sides[-1] = 2
    cropped = [-1, *sides[1:]]
    return [({"padding": amount, **(more or {})}, (shape,)) for amount in (1, sides[::-1], cropped)]


def anywhere(*written: dict[str, object]) -> list[Case]:
    """For layers that take any shape."""
    return [(w, (shape,)) for w in written or ({},) for shape in (VECTOR, IMAGE)]


def softmax() -> list[Case]:
    """Along a dimension, counted from either end, and the one that torch picks."""
    return anywhere({"dim": 1}, {"dim": -1}, {})


def recurrent(**more: object) -> list[Case]:
    """One layer, and stacks with everything that changes their shape."""
    return [
        ({"hidden_size": 5}, ((4, 2, 3),)),
        ({"hidden_size": 5, "num_layers": 3, "bidirectional": True, "bias": False}, ((4, 2, 3),)),
        ({"hidden_size": 5, "num_layers": 2, "batch_first": True, "dropout": 0.1, **more}, ((2, 4, 3),)),
    ]


INPLACE: dict[str, object] = {"inplace": True}

CASES: dict[str, list[Case]] = {
    "Conv1d": conv(*SIGNAL),
    "Conv2d": [*conv(*IMAGE), ({"out_channels": 4, "kernel_size": [3, 1], "padding": [1, 0]}, (IMAGE,))],
    "Conv3d": conv(*VOLUME),
    "ConvTranspose1d": transposed(*SIGNAL),
    "ConvTranspose2d": [*transposed(*IMAGE), ({"out_channels": 4, "kernel_size": [3, 1], "stride": [2, 1]}, (IMAGE,))],
    "ConvTranspose3d": transposed(*VOLUME),
    "Linear": [
        ({"out_features": 5}, (VECTOR,)),
        ({"out_features": 5, "in_features": 8, "bias": False}, (IMAGE,)),
    ],
    "Bilinear": [
        ({"out_features": 5}, ((2, 6), (2, 3))),
        ({"out_features": 5, "bias": False}, ((2, 4, 6), (2, 4, 3))),
    ],
    "Embedding": [
        ({"num_embeddings": 10, "embedding_dim": 3}, ((2, 7),)),
        ({"num_embeddings": 10, "embedding_dim": 3, "padding_idx": -1, "scale_grad_by_freq": True}, ((2,),)),
        ({"num_embeddings": 10, "embedding_dim": 3, "max_norm": 1, "norm_type": 1}, ((2, 7),)),
    ],
    "BatchNorm1d": [*batch_norm(*SIGNAL), *batch_norm(*VECTOR)],
    "BatchNorm2d": batch_norm(*IMAGE),
    "BatchNorm3d": batch_norm(*VOLUME),
    "GroupNorm": [
        ({"num_groups": 3}, (IMAGE,)),
        ({"num_groups": 1, "affine": False}, (VECTOR,)),
        ({"num_groups": 6, "num_channels": 6, "bias": False}, (SIGNAL,)),
    ],
    "LayerNorm": [
        ({}, (SIGNAL,)),
        ({"normalized_shape": 9, "bias": False}, (SIGNAL,)),
        ({"normalized_shape": [6, 9, 8]}, (IMAGE,)),
        ({"elementwise_affine": False}, (VECTOR,)),
    ],
    "InstanceNorm1d": instance_norm(*SIGNAL),
    "InstanceNorm2d": instance_norm(*IMAGE),
    "InstanceNorm3d": instance_norm(*VOLUME),
    "RMSNorm": [({}, (SIGNAL,)), ({"normalized_shape": [9, 8], "eps": 1e-6}, (IMAGE,))],
    "LocalResponseNorm": [({"size": 5}, (IMAGE,)), ({"size": 2, "k": 2, "alpha": 1e-3}, (SIGNAL,))],
    "ReLU": anywhere({}, INPLACE),
    "ReLU6": anywhere({}, INPLACE),
    "LeakyReLU": anywhere({}, {"negative_slope": 0.2}),
    "RReLU": anywhere({}, {"lower": 0.1, "upper": 0.1}),
    "ELU": anywhere({}, {"alpha": 2}),
    "CELU": anywhere({}, {"alpha": 2}),
    "SELU": anywhere({}, INPLACE),
    "GELU": anywhere({}, {"approximate": "tanh"}),
    "SiLU": anywhere({}, INPLACE),
    "Mish": anywhere({}, INPLACE),
    "Sigmoid": anywhere(),
    "LogSigmoid": anywhere(),
    "Hardsigmoid": anywhere({}, INPLACE),
    "Hardswish": anywhere({}, INPLACE),
    "Tanh": anywhere(),
    "Tanhshrink": anywhere(),
    "Hardtanh": anywhere({}, {"min_val": 0, "max_val": 6}),
    "Hardshrink": anywhere({}, {"lambd": 1}),
    "Softshrink": anywhere({}, {"lambd": 1}),
    "Softplus": anywhere({}, {"beta": 2, "threshold": 10}),
    "Softsign": anywhere(),
    "Threshold": anywhere({"threshold": 0.1, "value": 20}, {"threshold": 0, "value": 0, **INPLACE}),
    "PReLU": anywhere({}, {"num_parameters": 6, "init": 0.1}),
    "GLU": [({"dim": 1}, (IMAGE,)), ({}, (VECTOR,))],
    "Softmax": softmax(),
    "LogSoftmax": softmax(),
    "Softmin": softmax(),
    "Softmax2d": [({}, (IMAGE,)), ({}, ((1, 3, 1, 1),))],
    "MaxPool1d": windows(*SIGNAL, more={"dilation": 2}),
    "MaxPool2d": [*windows(*IMAGE, more={"dilation": 2}), ({"kernel_size": [3, 2], "stride": [2, 3]}, (IMAGE,))],
    "MaxPool3d": windows(*VOLUME, more={"dilation": 2}),
    "AvgPool1d": windows(*SIGNAL, more={"count_include_pad": False}),
    "AvgPool2d": windows(*IMAGE, more={"count_include_pad": False, "divisor_override": 2}),
    "AvgPool3d": windows(*VOLUME, more={"count_include_pad": False, "divisor_override": 2}),
    "AdaptiveAvgPool1d": adaptive(*SIGNAL),
    "AdaptiveAvgPool2d": [*adaptive(*IMAGE), ({"output_size": [None, None]}, (IMAGE,))],
    "AdaptiveAvgPool3d": adaptive(*VOLUME),
    "AdaptiveMaxPool1d": adaptive(*SIGNAL),
    "AdaptiveMaxPool2d": adaptive(*IMAGE),
    "AdaptiveMaxPool3d": adaptive(*VOLUME),
    "LPPool1d": power(*SIGNAL),
    "LPPool2d": power(*IMAGE),
    "LPPool3d": power(*VOLUME),
    "Upsample": [
        ({"scale_factor": 2}, (IMAGE,)),
        ({"size": 5}, (SIGNAL,)),
        ({"size": [5, 6, 7], "mode": "nearest-exact"}, (VOLUME,)),
        ({"scale_factor": [1.7, 0.4], "mode": "bilinear", "align_corners": True}, (IMAGE,)),
        ({"scale_factor": 2.5, "mode": "linear", "recompute_scale_factor": True}, (SIGNAL,)),
        ({"scale_factor": 3, "mode": "bicubic"}, (IMAGE,)),
        ({"scale_factor": 1.5, "mode": "trilinear"}, (VOLUME,)),
        ({"size": [5, 12], "mode": "area"}, (IMAGE,)),
    ],
    "PixelShuffle": [({"upscale_factor": 2}, ((1, 8, 3, 5),)), ({"upscale_factor": 3}, ((2, 9, 1, 1),))],
    "PixelUnshuffle": [({"downscale_factor": 2}, ((1, 3, 4, 6),)), ({"downscale_factor": 3}, ((2, 1, 3, 9),))],
    "ChannelShuffle": [({"groups": 3}, (IMAGE,)), ({"groups": 2}, (SIGNAL,))],
    "ZeroPad1d": [*padded(*SIGNAL), ({"padding": [0, 3]}, (VECTOR,))],
    "ZeroPad2d": padded(*IMAGE),
    "ZeroPad3d": padded(*VOLUME),
    "ConstantPad1d": padded(*SIGNAL, more={"value": 3.5}),
    "ConstantPad2d": padded(*IMAGE, more={"value": -1}),
    "ConstantPad3d": padded(*VOLUME, more={"value": 0}),
    "ReflectionPad1d": padded(*SIGNAL),
    "ReflectionPad2d": padded(*IMAGE),
    "ReflectionPad3d": padded(*VOLUME),
    "ReplicationPad1d": padded(*SIGNAL),
    "ReplicationPad2d": padded(*IMAGE),
    "ReplicationPad3d": padded(*VOLUME),
    "CircularPad1d": padded(*SIGNAL),
    "CircularPad2d": padded(*IMAGE),
    "CircularPad3d": padded(*VOLUME),
    "Crop": [
        ({"cropping": 1}, (IMAGE,)),
        ({"cropping": 2}, (SIGNAL,)),
        ({"cropping": [0, 0, 1, 2]}, (IMAGE,)),
        ({"cropping": [3, 0]}, (VOLUME,)),
    ],
    "Flatten": [*anywhere({}), ({"start_dim": 2}, (IMAGE,)), ({"start_dim": 0, "end_dim": 1}, (IMAGE,))],
    "Unflatten": [
        ({"dim": 1, "unflattened_size": [2, 3]}, (VECTOR,)),
        ({"dim": -1, "unflattened_size": [2, -1, 2]}, (IMAGE,)),
    ],
    "Reshape": [({"shape": [-1]}, (IMAGE,)), ({"shape": [3, 2, -1, 4]}, (IMAGE,)), ({"shape": [3, 2]}, (VECTOR,))],
    "Permute": [({"dims": [0, 2, 1]}, (SIGNAL,)), ({"dims": [-1, 1, 0, 2]}, (IMAGE,))],
    "Select": [({"dim": 1, "index": 0}, (SIGNAL,)), ({"dim": -1, "index": -2}, (IMAGE,))],
    "Identity": anywhere(),
    "Dropout": anywhere({}, {"p": 0.1, **INPLACE}),
    "Dropout1d": [({}, (SIGNAL,)), ({"p": 0}, (VECTOR,))],
    "Dropout2d": [({}, (IMAGE,)), ({"p": 1}, (IMAGE,))],
    "Dropout3d": [({}, (VOLUME,)), ({"p": 0.2}, (VOLUME,))],
    "AlphaDropout": anywhere({}, {"p": 0.1}),
    "FeatureAlphaDropout": anywhere({}, {"p": 0.1}),
    "MultiheadAttention": [
        ({"num_heads": 4}, ((5, 2, 8),)),
        ({"num_heads": 2, "batch_first": True, "bias": False}, ((2, 5, 8),)),
        ({"num_heads": 2, "dropout": 0.1, "need_weights": False}, ((5, 2, 8), (7, 2, 8))),
        (
            {"num_heads": 1, "kdim": 3, "vdim": 4, "batch_first": True, "add_bias_kv": True, "add_zero_attn": True},
            ((2, 5, 8), (2, 7, 3), (2, 7, 4)),
        ),
    ],
    "TransformerEncoderLayer": [
        ({"nhead": 4}, ((5, 2, 8),)),
        ({"nhead": 2, "dim_feedforward": 5, "batch_first": True, "bias": False, "norm_first": True}, ((2, 5, 8),)),
        ({"nhead": 1, "dim_feedforward": 5, "activation": "gelu", "d_model": 8}, ((5, 2, 8),)),
    ],
    "RNN": recurrent(nonlinearity="relu"),
    "GRU": recurrent(),
    "LSTM": recurrent(proj_size=2, bidirectional=True),
    "ClassToken": [({}, ((2, 5, 8),)), ({"embed_dim": 3}, ((1, 1, 3),))],
    "PositionalEmbedding": [({}, ((2, 5, 8),)), ({"num_positions": 1, "embed_dim": 3}, ((1, 1, 3),))],
    "LayerScale": [({}, (shape,)) for shape in (VECTOR, SIGNAL, IMAGE, VOLUME)] + [({"init_value": 1}, (IMAGE,))],
    "add": [({}, (IMAGE, IMAGE)), ({}, ((2, 6, 1, 1), IMAGE, IMAGE)), ({}, ((8,), IMAGE))],
    "mul": [({}, ((2, 6, 1, 1), IMAGE)), ({}, (SIGNAL, SIGNAL, SIGNAL)), ({}, ((2, 6, 1), (1, 9)))],
    "concat": [({}, (IMAGE, (2, 3, 9, 8))), ({"dim": -1}, (SIGNAL, SIGNAL, SIGNAL)), ({"dim": 0}, (SIGNAL, SIGNAL))],
}
