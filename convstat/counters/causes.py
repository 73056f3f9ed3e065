"""The named causes of differences: what kind each is, and one plain sentence.

``convention``      the counter counts this, convstat keeps it apart; both are right in their own unit
``defect``          the counter's rule is wrong, or is applied twice
``blindness``       the counter cannot see this call
``normalisation``   the same amounts, divided or selected in another way
``environment``     it depends on what is installed or on the kernels that this machine picks
``unexplained``     no cause is known: report it
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

UNATTRIBUTED = "unattributed"

_SENTENCES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "convention": {
            # Work that is not multiply-accumulates, counted into the same sum.
            "bias": "counts one operation per output element to which a bias is added",
            "bias_channels": "counts one operation per output channel to which a bias is added",
            "norm": "counts normalisation: one operation per element, two with scale and shift",
            "activation": "counts one operation per element of an activation",
            "softmax": "counts one operation per element of a softmax",
            "pool": "counts one operation per input element of a pooling",
            "upsample": "counts one operation per output element of an upsampling",
            "attention_scale": "counts the scaling of the queries in attention",
            "elementwise": "counts additions and multiplications by torch.add, torch.mul and similar functions",
            "rnn_elementwise": "counts the element-wise work in the gates of recurrent layers",
            "norm_fives": "counts normalisation: four operations per element, five with scale and shift",
            "norm_affine": "counts normalisation with scale and shift: one operation per element",
            "norm_affine_two": "counts normalisation: two operations per element, with scale and shift or without",
            "norm_steps": "counts normalisation: two operations per element, four with scale and shift",
            "softmax_steps": "counts a softmax: an exponential, an addition and a division per element",
            "pool_outputs": "counts one operation per output element of an average pooling or a mean",
            "pool_steps": "counts average pooling: an addition per element of a window, and a division",
            "upsample_bilinear": "counts four operations per output element of a bilinear upsampling",
            "upsample_bicubic": "counts the operations of a bicubic upsampling, 8 or 16 per output element",
            "activation_steps": "counts the operations of activations and softmax by a price per element",
            "norm_priced": "counts the operations of normalisation by a price per element",
            "elementwise_priced": "counts element-wise functions by a price per element",
            "reduction": "counts one operation per input element of a sum, a mean or a maximum",
            "multiplications": "counts one operation per element of a multiplication",
            "padding_taps": "leaves out the taps of convolutions that fall on zero padding",
            "cropped_taps": "leaves out the taps of transposed convolutions that fall outside of the output",
            "grid_points": "counts grid sampling: four operations per output element, more if bicubic",
            "upsample_steps": "counts upsampling by its mode: up to 259 operations per output element",
            "pool_window": "counts pooling: comparing or summing each window, and averaging it",
            "padding_arithmetic": "counts the arithmetic on sizes that precedes a transposed convolution",
            "pruned": "counts only the weights that the pruning mask keeps",
            "param_reuse": "counts the parameters of norms, embeddings and similar layers once per sample",
            "deform_sampling": "counts the interpolation at deformed sampling points",
            "inside_operator": (
                "counts what a custom operator calls in Python; convstat counts the operator by its own rule, if it "
                "has one"
            ),
            "inside_ruled": "looks inside a function that convstat counts by its own rule",
            "complex_products": "counts the three real products by which torch computes a complex product",
            # Formulas for language models: of what a step of training, or of serving, costs.
            "backward_pass": "counts the backward pass too, as twice the forward pass",
            "recomputation": "counts the forward pass of the layers again, as activation checkpointing recomputes it",
            "causal_half": "counts half of the products of attention: tokens look back only",
            "sliding_window": "counts the positions in a sliding window instead of all",
            "cached_keys": "counts the sequence that goes in, and not the keys that are in a cache",
            "last_logits": "counts the logits of the last token of each sequence alone",
            "all_logits": "counts the logits of every token, and the model computes those of fewer",
            "absent_head": "counts logits, which the model does not compute",
            "padded_vocabulary": "pads the vocabulary to a multiple of 128",
            "embedding_params": "counts a multiply-accumulate per token for each parameter of the embedding, which is "
            "looked up",
            "embedding_ops": "counts four operations per token for each channel of the embedding",
            "position_params": "counts a multiply-accumulate per token for each parameter of position embeddings",
            "norm_params": "counts a multiply-accumulate per token for each parameter of a norm",
            "bias_params": "counts a multiply-accumulate per token for each parameter of a bias",
            "idle_params": "counts a multiply-accumulate per token for each parameter that multiplies nothing",
            "all_experts": "counts every expert for every token, and not those that it is sent to",
            "frozen_params": "counts one backward pass instead of two for frozen parameters",
            "positions_left_out": "leaves out the parameters of position embeddings",
            "biases_left_out": "leaves out biases",
            "attention_left_out": "leaves out the two products of attention",
            "router": "leaves out the router of a mixture of experts",
            "adapters": "leaves out low-rank adapters",
            "outside_layers": "leaves out products before and after the layers, other than the head's",
            "mixers": "leaves out what layers have in the place of attention",
            "activation_products": "leaves out products of activations other than those of attention",
            "shared_layers": "counts a parameter once, and several layers use it",
            # Memory, which convstat does not estimate: these come without an amount.
            "forward_backward": "counts the outputs of all layers twice as forward and backward memory",
        },
        "defect": {
            # The same, a second time: by the hook of the module and by the patch of the function that it calls.
            "activation_twice": "counts activations again: once as modules, once as the functions they call",
            "softmax_twice": "counts the softmax of attention again, as the function that the module calls",
            "pool_twice": "counts poolings again: once as modules, once as the functions they call",
            "upsample_twice": "counts upsamplings again: once as modules, once as the functions they call",
            "attention_twice": "counts the products of attention again, as the functions that the module calls",
            "shared_parents": "counts a module once per module that contains it",
            "bias_absent": "counts a bias of the output projection of attention, which has none",
            # Wrong prices.
            "broadcast": "aligns the shapes of an addition or multiplication on the left; torch aligns them on the "
            "right",
            "upsample_first_sample": "counts only the first sample of a batch in upsampling modules",
            "upsample_scale": "prices an upsampling by its scale factors, truncated or unrounded, instead of by its "
            "output",
            "attention_projection": "assumes that the key and value projections of attention are square",
            "attention_added_keys": "does not count the keys that attention itself appends",
            "rnn_projection": "does not count the output projection of an LSTM",
            "unbatched": "takes the first dimension of an unbatched input for the batch",
            "functional_mispriced": "prices a matrix product by the shape of its first operand alone",
            "transposed_output": "prices transposed convolutions at their output positions instead of their input "
            "positions",
            "transposed_groups": "divides the channels of transposed convolutions by their groups once too often",
            "same_padding": "pads a convolution with padding='same' equally on both sides, even if the total is odd",
            "einsum_no_macs": "counts einsum in FLOPs, but not in MACs",
            "rnn_no_macs": "counts recurrent layers in FLOPs, but not in MACs",
            "positions_ignored": "prices a layer by its weights and the batch only, ignoring other dimensions of the "
            "input",
            "bilinear_once": "prices the weights of a bilinear layer once, without its second sum",
            "cell_width": "multiplies the weights of a recurrent cell by its width as well",
            "weight_names": "prices weights by their names, and these have other names",
            "pool_kernel_side": "takes the integer kernel size of a pooling for the size of the whole window",
            "upsample_one_channel": "does not multiply the output elements of an upsampling by its channels",
            "last_call": "keeps only the last call of a module that is called several times",
            "adaptive_window": "estimates the windows of adaptive pooling from the remainder of their sizes",
            "formula_fails": "omits calls for which its own formula fails, such as two outputs or lists",
            "size_products": "counts products of tensor sizes as if they were products of tensors",
            "einsum_estimate": "prices an einsum by NumPy's estimate, rounded to four digits",
            "einsum_whole": "prices an einsum as one product over all its indices, or not at all",
            "packed_steps": "prices every step of packed sequences at the largest batch among them",
            "packed_sequences": "takes the width of packed sequences for their batch",
            "projected_state": "takes the width of an LSTM's projected output for that of its state",
            "loop_once": "counts one step of a recurrent layer, as the body of a loop",
            "area_scaled": "multiplies what it counts on a small picture by the ratio of the areas",
            "failed_run": "prints nothing where its own run of the model fails",
            # Formulas for language models, on a model that they were not made for.
            "tied_head": "leaves out the head, which shares its matrix with the embedding",
            "attention_again": "counts attention twice more, for frozen parameters, whether there are any or not",
            "attention_width": "prices attention at another width than its heads have",
            "grouped_queries": "prices keys and values at every head, and several share them",
            "latent_attention": "prices latent attention as projections of every head",
            "latent_norms": "counts a multiply-accumulate per token for each channel of a latent that is normalised",
            "gated_mlp": "prices an MLP of two matrices as one of three, or one of three as one of two",
            "mlp_width": "prices an MLP at another width than it has",
            "dense_layers": "prices layers without a dense MLP as if they had one",
            "dense_layers_left_out": "leaves out the MLPs of layers without experts",
            "experts_left_out": "leaves out experts",
            "shared_experts": "leaves out shared experts",
            "shared_gate": "leaves out the gate of shared experts",
            "expert_layers": "takes other layers for those with experts",
            "layers_without_attention": "prices attention in every layer, and some have none",
            # Parameters, and what is inside.
            "inside_counted": "does not look inside a module for which it has a rule",
            "not_a_parameter": "counts tensors named weight or bias that are not parameters",
            "shared_per_call": "counts a shared layer's parameters at every call",
            "shared_again": "counts the parameters of a shared or scripted module again in each module that contains "
            "it",
            "tied_subtracted": "subtracts tied parameters, which it counted twice inside a module, from the module's "
            "own",
            "tied_per_module": "counts a parameter that several modules share once per module",
            # Memory, which convstat does not estimate: these come without an amount.
            "containers_again": "counts the outputs of modules that contain others again in its memory",
            "tuple_product": "multiplies the sizes of tuple outputs in its memory",
            "input_product": "multiplies the sizes of several inputs in its memory",
        },
        "blindness": {
            "hook_unseen": "does not see the products in hooks of a layer, such as those of spectral_norm",
            "functional_unseen": "does not see products called as functions or operators",
            "unpatched": "sees products only in the functions that it patches, and other functions compute these",
            "subclass_unseen": "does not see subclasses of torch's layers, including parametrized layers",
            "no_rule": "has no rule for layers of this kind",
            "made_later": "collects the modules before the forward pass, and these are created during it",
            "generator_unread": "does not consume the generator that the model returns, and this runs when it is "
            "consumed",
            "unregistered": "does not see modules that are called but not registered in the model",
            "padding_word": "has no rule for convolutions with a string as padding: 'same' or 'valid'",
            "dead_code": "does not see work on which no output depends",
            "derivative": "does not see the derivatives that torch computes in forward mode",
            "higher_order": "does not see what runs in operators that take functions, such as map and while_loop",
            "inside_function": ("does not look inside scripted functions, torch.autograd.Functions and torch.jit.fork"),
            "other_threads": "does not see what other threads do",
            "kernel_unseen": "has no rule for the kernel that computes these products",
            "holds_others": "prices only the innermost modules, and this one contains others",
            "uncalled": "does not see layers that are never called",
            "packed_elements": "counts the elements that packed weights of a few bits are stored in, if these are "
            "parameters, and not the weights",
            "packed_params": "does not see weights that are packed in a kernel-specific format",
            "outer_params": "sees only the parameters of modules that contain no others",
            "not_weight_or_bias": "sees only the parameters named weight or bias",
            "packed_unseen": "does not see the weights that quantized layers pack",
            "no_rule_params": "sees only the parameters of layers for which it has a rule",
            "root_itself": "does not look at a model that is a single layer",
            "root_unseen": "does not see the parameters of the root module",
            "container_unseen": "does not see parameters of Sequential and ModuleList",
        },
        "normalisation": {
            "trainable_only": "counts trainable parameters only",
            "one_sample": "runs the model on a batch of one, whatever the batch size",
            "per_sample": "divides the work of modules by the first dimension of the first input, the batch",
            "functional_batch": "does not divide the work of functions by the batch, unlike the work of modules",
            "rounding": "divides in floating point and truncates the result",
            "half_operations": "counts single operations, two of which are a MAC, in several layers",
        },
        "environment": {
            "other_data": ("runs on real values, for which the model takes other branches or sizes than were counted"),
            "fused_kernel": "has no rule for the fused kernel that computes these products on this device",
            "other_when_traced": "counts the branch that the model takes under torch.jit.trace",
        },
        "unexplained": {
            UNATTRIBUTED: "prices these layers in a way that is not understood",
        },
    }
)
"""Verdict -> its causes, by code; the subject of each sentence is the counter."""

VERDICTS = tuple(_SENTENCES)

CAUSES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {code: (verdict, said) for verdict, causes in _SENTENCES.items() for code, said in causes.items()}
)
"""Code -> verdict, sentence."""
