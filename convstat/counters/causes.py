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
            "bias": "counts one operation for each output element to which a bias is added",
            "norm": "counts normalisation: one operation an element, two with scale and shift",
            "activation": "counts one operation for each element of an activation",
            "softmax": "counts one operation for each element of a softmax",
            "pool": "counts one operation for each input element of a pooling",
            "upsample": "counts one operation for each output element of an upsampling",
            "attention_scale": "counts the scaling of the queries in attention",
            "elementwise": "counts additions and multiplications made with torch.add, torch.mul and such",
            "rnn_elementwise": "counts the element-wise work in the gates of recurrent layers",
            "norm_fives": "counts normalisation: four operations an element, five with scale and shift",
            "norm_affine": "counts normalisation with scale and shift: one operation an element",
            "norm_steps": "counts normalisation: two operations an element, four with scale and shift",
            "softmax_steps": "counts a softmax: an exponential, an addition and a division an element",
            "pool_outputs": "counts one operation for each output element of an average pooling or a mean",
            "pool_steps": "counts average pooling: an addition for each element of a window, a division",
            "upsample_bilinear": "counts four operations for each output element of a bilinear upsampling",
            "grid_points": "counts grid sampling: four operations an output element, more if bicubic",
            "upsample_steps": "counts upsampling by its mode: up to 259 operations an output element",
            "pool_window": "counts pooling: comparing or adding up each window, and averaging it",
            "padding_arithmetic": "counts the arithmetic on sizes that precedes a transposed convolution",
            "pruned": "counts of pruned weights only those that the mask keeps",
            "param_reuse": "counts the parameters of norms, embeddings and such once for each sample",
            "deform_sampling": "counts the interpolation of deformed sampling points",
            "inside_operator": (
                "counts what a custom operator calls in Python; convstat counts such an operator by a rule for it, if "
                "any"
            ),
            "inside_ruled": "counts what is inside a function that convstat counts by its own rule",
            "complex_products": "counts the three products of real numbers that torch makes of one of complex numbers",
            # Memory, which convstat does not estimate: these come without an amount.
            "forward_backward": "takes twice the outputs of all layers for forward and backward memory",
        },
        "defect": {
            # The same, a second time: by the hook of the module and by the patch of the function that it calls.
            "activation_twice": "counts activations again: once as modules, once as the functions they call",
            "softmax_twice": "counts the softmax of attention again, as the function that the module calls",
            "pool_twice": "counts poolings again: once as modules, once as the functions they call",
            "upsample_twice": "counts upsamplings again: once as modules, once as the functions they call",
            "attention_twice": "counts the products of attention again, as the functions that the module calls",
            "shared_parents": "counts a module once for each module that holds it",
            "bias_absent": "counts the bias of the output projection of attention where there is none",
            # Wrong prices.
            "broadcast": "aligns the shapes of an addition or multiplication at the left; torch does at the right",
            "upsample_first_sample": "counts only the first sample of a batch in upsampling modules",
            "upsample_scale": "prices an upsampling by its scale factors, cut or unrounded, and not by its output",
            "attention_projection": "takes key and value projections of attention to be square",
            "attention_added_keys": "does not count the keys that attention adds by itself",
            "rnn_projection": "does not count the output projection of an LSTM",
            "unbatched": "takes the first size of an input without a batch to be the batch",
            "functional_mispriced": "prices a matrix product by the shape of its first operand alone",
            "transposed_output": "prices transposed convolutions at their outputs, and not at their inputs",
            "transposed_groups": "divides the channels of transposed convolutions by their groups once too often",
            "same_padding": "pads a convolution of padding 'same' equally on both sides, also by odd numbers",
            "einsum_no_macs": "counts einsum in FLOPs only, and gives no MACs for it",
            "rnn_no_macs": "counts recurrent layers in FLOPs only, and gives no MACs for them",
            "positions_ignored": "prices a layer by its weights and the batch, whatever else its input holds",
            "bilinear_once": "prices the weights of a bilinear layer once, and not its second sum",
            "cell_width": "multiplies the weights of a recurrent cell by its width as well",
            "weight_names": "prices weights by what they are called, and these have other names",
            "pool_kernel_side": "takes an integer kernel size of a pooling for the size of its whole window",
            "upsample_one_channel": "leaves the channels out of the output elements of an upsampling",
            "last_call": "keeps of a module that is called several times the last call only",
            "adaptive_window": "guesses the windows of adaptive pooling from the remainder of their sizes",
            "formula_fails": "leaves out calls at which its own formula fails, as with two outputs or lists",
            "size_products": "counts products of the sizes of tensors, as if they were tensors",
            "einsum_estimate": "prices an einsum by NumPy's estimate of it, which is rounded to four digits",
            "einsum_whole": "prices an einsum as one product over all of its indices, or not at all",
            "packed_steps": "prices every step of packed sequences at the largest batch among them",
            "packed_sequences": "takes the width of packed sequences for their batch",
            "projected_state": "takes the width of an LSTM's projected output for that of its state",
            # Parameters, and what is inside.
            "inside_counted": "does not look inside a module for which it has a rule",
            "not_a_parameter": "counts tensors called weight or bias that are not parameters",
            "shared_per_call": "counts a shared layer's parameters at every call",
            "shared_again": "counts the parameters of a shared or scripted module again in those that hold it",
            "tied_subtracted": "takes tied parameters, counted twice inside a module, from its own ones",
            "tied_per_module": "counts a parameter that several modules share in each of them",
            # Memory, which convstat does not estimate: these come without an amount.
            "containers_again": "counts the outputs of modules that hold others again in its memory",
            "tuple_product": "multiplies the sizes of outputs that come as a tuple in its memory",
            "input_product": "multiplies the sizes of several inputs in its memory",
        },
        "blindness": {
            "hook_unseen": "does not see what hooks of a layer multiply, such as those of spectral_norm",
            "functional_unseen": "does not see products that are called as functions or operators",
            "unpatched": "sees products in the functions that it replaces, and others make these",
            "subclass_unseen": "does not see subclasses of torch's layers, parametrized ones among them",
            "no_rule": "has no rule for layers of this kind",
            "made_later": "looks for the parts of the model before its pass, in which these are made",
            "generator_unread": "does not take what the model yields, and this runs when somebody does",
            "unregistered": "does not see modules that are called without being part of the model",
            "padding_word": "has no rule for convolutions whose padding is a word: 'same' or 'valid'",
            "dead_code": "does not see work on which no output depends",
            "derivative": "does not see the derivatives that torch multiplies along, in forward mode",
            "higher_order": "does not see what runs in operators that take functions, as map and while_loop",
            "inside_function": (
                "does not look inside scripted functions, torch.autograd.Functions and what torch.jit.fork runs"
            ),
            "other_threads": "does not see what other threads do than the one that it runs in",
            "kernel_unseen": "has no rule for the kernel that computes these products",
            "holds_others": "prices only the innermost modules, and this one holds others",
            "uncalled": "does not see layers that are never called",
            "packed_params": "does not see weights that are packed in a form of their kernel's own",
            "outer_params": "sees only the parameters of modules that hold no others",
            "not_weight_or_bias": "sees only the parameters that are called weight or bias",
            "packed_unseen": "does not see the weights that quantized layers pack",
            "no_rule_params": "sees only the parameters of layers for which it has a rule",
            "root_unseen": "does not see the parameters that the model itself holds",
            "container_unseen": "does not see parameters of Sequential and ModuleList",
        },
        "normalisation": {
            "trainable_only": "counts trainable parameters only",
            "one_sample": "runs the model on a batch of one, whatever the batch is",
            "per_sample": "divides what modules do by the first size of the first input, the batch",
            "functional_batch": "does not divide what functions do by the batch, unlike what modules do",
            "rounding": "divides in floating point and cuts the fraction",
        },
        "environment": {
            "other_data": (
                "runs on real values, by which other parts of the model run, or parts of another size, than were "
                "counted"
            ),
            "fused_kernel": "has no rule for the fused kernel that this device takes for these products",
            "other_when_traced": "counts the way that the model takes when torch.jit.trace runs it",
        },
        "unexplained": {
            UNATTRIBUTED: "the counter prices these layers in a way that is not understood",
        },
    }
)
"""Verdict -> its causes, by code; the subject of each sentence is the counter."""

VERDICTS = tuple(_SENTENCES)

CAUSES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {code: (verdict, said) for verdict, causes in _SENTENCES.items() for code, said in causes.items()}
)
"""Code -> verdict, sentence."""
