"""Attention: four projections and two products."""

from __future__ import annotations


def attention_macs(
    embed_dim: int,
    queries: int,
    keys: int,
    *,
    kdim: int | None = None,
    vdim: int | None = None,
    attended: int | None = None,
) -> int:
    """The multiply-accumulates of multi-head attention, for one sample.

    The projections of the queries and of the output are ``embed_dim x embed_dim`` at each of ``queries`` positions;
    those of keys and values are ``kdim x embed_dim`` and ``vdim x embed_dim`` at each of ``keys`` positions.
    Each head then multiplies ``queries x d`` by ``d x attended`` for the scores
    and ``queries x attended`` by ``attended x d`` for the weighted sum.
    The heads share out ``embed_dim``, so their number cancels: ``2 * queries * attended * embed_dim``.
    ``attended`` is ``keys`` and what ``add_bias_kv`` and ``add_zero_attn`` append, which is attended but not projected.

    >>> attention_macs(768, 197, 197) == 4 * 197 * 768 * 768 + 2 * 197 * 197 * 768
    True
    """
    kdim = embed_dim if kdim is None else kdim
    vdim = embed_dim if vdim is None else vdim
    attended = keys if attended is None else attended
    projections = 2 * queries * embed_dim * embed_dim + keys * (kdim + vdim) * embed_dim
    return projections + 2 * queries * attended * embed_dim
