"""Operators of torch that have no rule, each with the reason: shapes do not say what they do, or no pass calls them.

A call of one is *uncounted*, and said to be. A test goes through all of torch's operators: each has a rule, costs
nothing (:mod:`convstat.count.ops.free`), or stands here.
"""

from __future__ import annotations

CONVERGES = "goes on until it converges: how long depends on the values"
RANK = "what it does depends on the rank or the norm of the values"
SPARSE = "works on what a sparse tensor stores: how much that is, its shape does not say"
LENGTHS = "sequences of unequal lengths in one tensor: how long each is, is in another one"
PACKED = "the sizes of its weights are packed into objects of their own"
ELSEWHERE = "a kernel of hardware on which convstat does not run models"
TRAINS = "a step of an optimiser or of a gradient scaler, which is no part of a pass"
NEW = "torch has it since 2.15, and the rules were written for 2.13"
INTERNAL = "a helper of torch's own, its tests or its compiler, that no model calls"

_BY_REASON = {
    CONVERGES: "_linalg_svd _linalg_eigh linalg_eig _linalg_eigvals linalg_polar linalg_matrix_sqrth",
    RANK: "linalg_lstsq linalg_pinv linalg_matrix_exp _compute_linear_combination",
    SPARSE: """
        _coalesce _coalesced _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo _cslt_compress
        _cslt_sparse_mm _cslt_sparse_mm_search _dimI _dimV _nnz _sparse_addmm _sparse_broadcast_to_copy
        _sparse_compressed_tensor_with_dims _sparse_coo_tensor_with_dims _sparse_coo_tensor_with_dims_and_tensors
        _sparse_csr_prod _sparse_csr_sum _sparse_log_softmax _sparse_log_softmax_backward_data
        _sparse_mask_projection _sparse_mm_reduce_impl _sparse_mm_reduce_impl_backward _sparse_semi_structured_addmm
        _sparse_semi_structured_apply _sparse_semi_structured_apply_dense _sparse_semi_structured_linear
        _sparse_semi_structured_mm _sparse_semi_structured_tile _sparse_softmax _sparse_softmax_backward_data
        _sparse_sparse_matmul _sparse_sum _sparse_sum_backward _spdiags _spsolve _to_sparse_bsc _to_sparse_bsr
        _to_sparse_csc _to_sparse_csr _to_sparse_semi_structured _validate_compressed_sparse_indices
        copy_sparse_to_sparse dense_dim hspmm is_coalesced resize_as_sparse sparse_compressed_tensor
        sparse_coo_tensor sparse_dim sparse_mask sparse_resize sparse_resize_and_clear sparse_sampled_addmm
        ccol_indices_copy col_indices_copy crow_indices_copy row_indices_copy indices_copy values_copy _indices_copy
        _values_copy
    """,
    LENGTHS: """
        _efficient_attention_backward _flash_attention_backward _cudnn_attention_forward _cudnn_attention_backward
        _flash_attention_forward_no_dropout_inplace _cudnn_attention_forward_no_dropout_inplace
        _nested_sum_backward _nested_tensor_softmax_with_shape
        _ctc_loss _ctc_loss_backward _cudnn_ctc_loss _use_cudnn_ctc_loss _use_miopen_ctc_loss miopen_ctc_loss
    """,
    PACKED: "quantized_lstm quantized_gru",
    ELSEWHERE: """
        _lstm_mps lstm_mps_backward _mps_convolution _mps_convolution_transpose mps_convolution_backward
        mps_convolution_transpose_backward _scaled_dot_product_attention_math_for_mps miopen_batch_norm_backward
        miopen_rnn_backward _triton_multi_head_attention _triton_scaled_dot_attention
    """,
    TRAINS: """
        _amp_foreach_non_finite_check_and_unscale _amp_update_scale _fused_adagrad _fused_adam _fused_adamw _fused_sgd
    """,
    NEW: "_scaled_addmm",
    INTERNAL: """
        _copy_from _copy_from_and_resize _foobar _lazy_clone _make_dep_token _print _test_autograd_multiple_dispatch
        _test_autograd_multiple_dispatch_view_copy _test_functorch_fallback _test_optional_filled_intlist
        _test_optional_floatlist _test_optional_intlist _test_parallel_materialize _test_warn_in_autograd
        _cudnn_init_dropout_state _cudnn_rnn_flatten_weight _fill_mem_eff_dropout_mask_ record_stream
    """,
}

UNPRICED: dict[str, str] = {f"aten.{name}": reason for reason, names in _BY_REASON.items() for name in names.split()}
UNPRICED |= {"prims.svd": CONVERGES, "prims._make_token": INTERNAL, "prims._sink_tokens": INTERNAL}
"""Every operator of torch without a rule, and why."""
