"""Matrix products with learned weights."""

from __future__ import annotations


def linear_macs(in_features: int, out_features: int, positions: int = 1) -> int:
    """The multiply-accumulates of a linear map, applied at every position of its input.

    Every one of ``positions * out_features`` outputs is a dot product of length ``in_features``.

    >>> linear_macs(768, 3072, positions=197) == 197 * 3072 * 768
    True
    """
    return positions * out_features * in_features


def bilinear_macs(in1_features: int, in2_features: int, out_features: int, positions: int = 1) -> int:
    """The multiply-accumulates of ``y[k] = sum over i, j of x1[i] * W[k, i, j] * x2[j]``.

    A term has three factors, so it is no single multiply-accumulate.
    The sum is contracted in two steps: ``x1`` with every matrix ``W[k]``, ``in1 * in2`` each,
    which leaves a vector of length ``in2`` for each output, and that with ``x2``.
    This is what torch does: ``at::bilinear`` calls ``at::_trilinear``, which is two ``sumproduct_pair``,
    the input first (pytorch, aten/src/ATen/native/Linear.cpp).
    Multiplying term by term would take ``2 * in1 * in2`` multiplications for each output instead.

    >>> bilinear_macs(20, 30, 40) == 40 * 20 * 30 + 40 * 30
    True
    """
    return positions * out_features * (in1_features * in2_features + in2_features)
