"""Kernels that cost nothing that convstat counts, each with its reason.

The list is explicit: a kernel that stands neither here nor among the rules is *uncounted*, and said to be.
"""

from __future__ import annotations

VIEW = "only renames elements: a view"
MOVE = "only moves elements"
MAKE = "makes constants or empty memory"
LOOK_UP = "looks rows up"
SELECT = "selects or orders elements by comparing them"
CONVERT = "changes the dtype or the memory format"
CHECK = "asks or asserts something"

_BY_REASON = {
    VIEW: """
        view _unsafe_view reshape _reshape_alias transpose t permute expand squeeze unsqueeze select slice narrow
        split split_with_sizes unbind chunk alias detach _nested_view_from_buffer _nested_view_from_jagged
        _nested_get_values as_strided diagonal unfold view_as_real view_as_complex
        movedim unsafe_split unsafe_split_with_sizes unsafe_chunk flatten unflatten lift_fresh lift _conj _neg_view
        resolve_conj resolve_neg view_as expand_as swapaxes adjoint tensor_split hsplit vsplit dsplit mT _fw_primal
        _make_dual values indices crow_indices col_indices _mkldnn_reshape _mkldnn_transpose
    """,
    MOVE: """
        cat stack clone copy contiguous constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d
        replication_pad1d replication_pad2d replication_pad3d pixel_shuffle pixel_unshuffle channel_shuffle im2col
        col2im roll flip rot90 repeat repeat_interleave index_select gather scatter index_copy index_fill
        slice_scatter select_scatter diagonal_scatter as_strided_scatter tile hstack vstack pad index index_put
        _index_put_impl take take_along_dim masked_select fill zero resize resize_as set block_diag diag diag_embed
        diagonal_copy unfold_backward slice_backward select_backward diagonal_backward index_select_backward
        value_selecting_reduction_backward reflection_pad1d_backward reflection_pad2d_backward
        reflection_pad3d_backward replication_pad1d_backward replication_pad2d_backward replication_pad3d_backward
        nll_loss_backward nll_loss2d_backward max_unpool2d max_unpool3d _unsafe_index _unsafe_index_put
        _unsafe_masked_index _unsafe_masked_index_put_accumulate lift_fresh_copy _pin_memory embedding_backward
        _embedding_bag_dense_backward _embedding_bag_backward alias_copy as_strided_copy detach_copy expand_copy
        narrow_copy permute_copy select_copy slice_copy split_copy split_with_sizes_copy squeeze_copy t_copy
        transpose_copy unbind_copy unsqueeze_copy view_copy lu_unpack native_channel_shuffle shallow_copy_data
        _pad_packed_sequence
        _pack_padded_sequence combinations cartesian_prod meshgrid _chunk_cat unfold_copy put embedding_dense_backward
        _nested_tensor_from_tensor_list _nested_view_from_buffer_copy _nested_view_from_jagged_copy
        _nested_get_values_copy _nested_from_padded _nested_from_padded_and_nested_example to_padded_tensor
        _nested_from_padded_tensor _nested_select_backward _jagged_to_padded_dense_forward
        _padded_dense_to_jagged_forward _stack _conj_copy _neg_view_copy _fw_primal_copy _make_dual_copy
        _reshape_alias_copy _reshape_copy view_as_complex_copy view_as_real_copy masked_scatter_backward
        _foreach_clone _foreach_copy _foreach_zero _resize_output
    """,
    MAKE: """
        empty empty_like empty_strided empty_permuted new_empty new_empty_strided zeros zeros_like new_zeros ones
        ones_like new_ones full full_like new_full arange linspace logspace eye scalar_tensor rand randn rand_like
        randn_like randint randint_like randperm normal uniform random exponential tril_indices triu_indices
        _efficientzerotensor _empty_affine_quantized bernoulli bernoulli_ cauchy geometric log_normal multinomial
        range fft_fftfreq fft_rfftfreq from_file normal_functional binomial poisson _standard_gamma _sample_dirichlet
        _philox_key_fold_in _philox_key_split _philox_normal _philox_randint _philox_uniform
        _new_zeros_with_same_feature_meta
        _empty_per_channel_affine_quantized empty_quantized hann_window hamming_window
        blackman_window bartlett_window kaiser_window
    """,
    LOOK_UP: "embedding one_hot bucketize searchsorted",
    SELECT: """
        topk sort argsort msort kthvalue nonzero nonzero_static nonzero_numpy _unique _unique2 unique_consecutive
        unique_dim unique_dim_consecutive _histogramdd_bin_edges _histogramdd_from_bin_cts
        _histogramdd_from_bin_tensors bincount histc histogram isin
    """,
    CONVERT: """
        _to_copy to type_as dequantize quantize_per_tensor quantize_per_tensor_dynamic quantize_per_channel int_repr
        q_scale q_zero_point q_per_channel_scales q_per_channel_zero_points _to_dense to_dense _to_sparse to_mkldnn
        _nested_tensor_from_mask _make_per_tensor_quantized_tensor _make_per_channel_quantized_tensor
        fake_quantize_per_tensor_affine fake_quantize_per_tensor_affine_cachemask
        fake_quantize_per_channel_affine_cachemask _fake_quantize_per_tensor_affine_cachemask_tensor_qparams
        _fake_quantize_learnable_per_tensor_affine _fake_quantize_learnable_per_channel_affine
        _fake_quantize_learnable_per_tensor_affine_backward _fake_quantize_learnable_per_channel_affine_backward
        _fused_moving_avg_obs_fq_helper _fused_moving_avg_obs_fq_helper_functional _convert_weight_to_int4pack
        _convert_weight_to_int4pack_for_cpu _dyn_quant_pack_4bit_weight mkldnn_reorder_conv2d_weight
        mkldnn_reorder_conv3d_weight
    """,
    CHECK: """
        _local_scalar_dense item equal is_same_size size stride numel dim sym_size sym_stride sym_numel
        sym_storage_offset is_pinned _assert_async _assert_tensor_metadata _has_compatible_shallow_copy_type
        _nested_tensor_size _nested_tensor_strides _nested_tensor_storage_offsets _nested_get_offsets
        _nested_get_lengths _nested_get_ragged_idx _nested_get_jagged_dummy _nested_get_min_seqlen
        _nested_get_max_seqlen _nested_compute_contiguous_strides_offsets
        _assert_scalar _functional_assert_async _functional_assert_scalar _functional_sym_constrain_range
        _functional_sym_constrain_range_for_size _has_same_storage_numel is_set_to q_per_channel_axis qscheme
        sym_constrain_range is_nonzero _is_zerotensor _version allclose _linalg_check_errors _fused_sdp_choice
        sym_constrain_range_for_size _nested_tensor_from_mask_left_aligned _is_all_true _is_any_true
    """,
}

_PRIMS = {
    VIEW: "as_strided broadcast_in_dim collapse_view conj split_dim squeeze transpose view_of view_of_dtype",
    MOVE: "as_strided_scatter cat clone collapse copy_strided copy_to device_put fill reshape resize rev",
    MAKE: """
        empty empty_permuted empty_strided full full_like iota maximum_value minimum_value normal scalar_tensor uniform
    """,
    CONVERT: "convert_element_type",
    CHECK: "item",
}

FREE: dict[str, str] = {f"aten.{name}": reason for reason, names in _BY_REASON.items() for name in names.split()}
FREE.update({f"prims.{name}": reason for reason, names in _PRIMS.items() for name in names.split()})
FREE.update(
    {
        "prim.device": CHECK,
        "prim.layout": CHECK,
        "profiler._record_function_enter_new": CHECK,
        "profiler._record_function_exit": CHECK,
        "torchvision.nms": SELECT,
        "quantized.cat": MOVE,
        "quantized.embedding_byte": LOOK_UP,
        "quantized.embedding_4bit": LOOK_UP,
    }
)
"""Every kernel that costs nothing, and why."""
