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

VERDICTS = ("convention", "defect", "blindness", "normalisation", "environment", "unexplained")

UNATTRIBUTED = "unattributed"

CAUSES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        # Work that is not multiply-accumulates, counted into the same sum.
        "other_data": (
            "environment",
            "runs on real values, by which other parts of the model run, or parts of another size, than were counted",
        ),
        "bias": ("convention", "counts one operation for each output element to which a bias is added"),
        "norm": ("convention", "counts normalisation: one operation an element, two with scale and shift"),
        "activation": ("convention", "counts one operation for each element of an activation"),
        "softmax": ("convention", "counts one operation for each element of a softmax"),
        "pool": ("convention", "counts one operation for each input element of a pooling"),
        "upsample": ("convention", "counts one operation for each output element of an upsampling"),
        "attention_scale": ("convention", "counts the scaling of the queries in attention"),
        "elementwise": ("convention", "counts additions and multiplications made with torch.add, torch.mul and such"),
        "rnn_elementwise": ("convention", "counts the element-wise work in the gates of recurrent layers"),
        "norm_fives": ("convention", "counts normalisation: four operations an element, five with scale and shift"),
        "norm_affine": ("convention", "counts normalisation with scale and shift: one operation an element"),
        "norm_steps": ("convention", "counts normalisation: two operations an element, four with scale and shift"),
        "softmax_steps": ("convention", "counts a softmax: an exponential, an addition and a division an element"),
        "pool_outputs": ("convention", "counts one operation for each output element of an average pooling or a mean"),
        "pool_steps": ("convention", "counts average pooling: an addition for each element of a window, a division"),
        "upsample_bilinear": ("convention", "counts four operations for each output element of a bilinear upsampling"),
        "grid_points": ("convention", "counts grid sampling: four operations an output element, more if bicubic"),
        "upsample_steps": ("convention", "counts upsampling by its mode: up to 259 operations an output element"),
        "pool_window": (
            "convention",
            "counts pooling: comparing or adding up each window, and averaging it",
        ),
        "padding_arithmetic": (
            "convention",
            "counts the arithmetic on sizes that precedes a transposed convolution",
        ),
        "pruned": ("convention", "counts of pruned weights only those that the mask keeps"),
        "param_reuse": ("convention", "counts the parameters of norms, embeddings and such once for each sample"),
        "deform_sampling": ("convention", "counts the interpolation of deformed sampling points"),
        "inside_operator": (
            "convention",
            "counts what a custom operator calls in Python; convstat counts such an operator by a rule for it, if any",
        ),
        "inside_ruled": (
            "convention",
            "counts what is inside a function that convstat counts by its own rule",
        ),
        # The same, a second time: by the hook of the module and by the patch of the function that it calls.
        "activation_twice": ("defect", "counts activations again: once as modules, once as the functions they call"),
        "softmax_twice": ("defect", "counts the softmax of attention again, as the function that the module calls"),
        "pool_twice": ("defect", "counts poolings again: once as modules, once as the functions they call"),
        "upsample_twice": ("defect", "counts upsamplings again: once as modules, once as the functions they call"),
        "attention_twice": ("defect", "counts the products of attention again, as the functions that the module calls"),
        "shared_parents": ("defect", "counts a module once for each module that holds it"),
        "bias_absent": ("defect", "counts the bias of the output projection of attention where there is none"),
        # Wrong prices.
        "broadcast": (
            "defect",
            "aligns the shapes of an addition or multiplication at the left; torch does at the right",
        ),
        "upsample_first_sample": ("defect", "counts only the first sample of a batch in upsampling modules"),
        "upsample_scale": (
            "defect",
            "prices an upsampling by its scale factors, cut or unrounded, and not by its output",
        ),
        "attention_projection": ("defect", "takes key and value projections of attention to be square"),
        "attention_added_keys": ("defect", "does not count the keys that attention adds by itself"),
        "rnn_projection": ("defect", "does not count the output projection of an LSTM"),
        "unbatched": ("defect", "takes the first size of an input without a batch to be the batch"),
        "functional_mispriced": ("defect", "prices a matrix product by the shape of its first operand alone"),
        "transposed_output": ("defect", "prices transposed convolutions at their outputs, and not at their inputs"),
        "transposed_groups": (
            "defect",
            "divides the channels of transposed convolutions by their groups once too often",
        ),
        "same_padding": ("defect", "pads a convolution of padding 'same' equally on both sides, also by odd numbers"),
        "einsum_no_macs": ("defect", "counts einsum in FLOPs only, and gives no MACs for it"),
        "rnn_no_macs": ("defect", "counts recurrent layers in FLOPs only, and gives no MACs for them"),
        "positions_ignored": ("defect", "prices a layer by its weights and the batch, whatever else its input holds"),
        "bilinear_once": ("defect", "prices the weights of a bilinear layer once, and not its second sum"),
        "cell_width": ("defect", "multiplies the weights of a recurrent cell by its width as well"),
        "weight_names": ("defect", "prices weights by what they are called, and these have other names"),
        "pool_kernel_side": ("defect", "takes an integer kernel size of a pooling for the size of its whole window"),
        "upsample_one_channel": ("defect", "leaves the channels out of the output elements of an upsampling"),
        "last_call": ("defect", "keeps of a module that is called several times the last call only"),
        "adaptive_window": ("defect", "guesses the windows of adaptive pooling from the remainder of their sizes"),
        "formula_fails": ("defect", "leaves out calls at which its own formula fails, as with two outputs or lists"),
        "size_products": ("defect", "counts products of the sizes of tensors, as if they were tensors"),
        "einsum_estimate": ("defect", "prices an einsum by NumPy's estimate of it, which is rounded to four digits"),
        "einsum_whole": ("defect", "prices an einsum as one product over all of its indices, or not at all"),
        "packed_steps": ("defect", "prices every step of packed sequences at the largest batch among them"),
        "packed_sequences": ("defect", "takes the width of packed sequences for their batch"),
        "projected_state": ("defect", "takes the width of an LSTM's projected output for that of its state"),
        "complex_products": (
            "convention",
            "counts the three products of real numbers that torch makes of one of complex numbers",
        ),
        # Not seen.
        "hook_unseen": ("blindness", "does not see what hooks of a layer multiply, such as those of spectral_norm"),
        "functional_unseen": ("blindness", "does not see products that are called as functions or operators"),
        "unpatched": ("blindness", "sees products in the functions that it replaces, and others make these"),
        "subclass_unseen": ("blindness", "does not see subclasses of torch's layers, parametrized ones among them"),
        "no_rule": ("blindness", "has no rule for layers of this kind"),
        "made_later": ("blindness", "looks for the parts of the model before its pass, in which these are made"),
        "generator_unread": ("blindness", "does not take what the model yields, and this runs when somebody does"),
        "unregistered": ("blindness", "does not see modules that are called without being part of the model"),
        "padding_word": ("blindness", "has no rule for convolutions whose padding is a word: 'same' or 'valid'"),
        "dead_code": ("blindness", "does not see work on which no output depends"),
        "derivative": ("blindness", "does not see the derivatives that torch multiplies along, in forward mode"),
        "higher_order": ("blindness", "does not see what runs in operators that take functions, as map and while_loop"),
        "inside_function": (
            "blindness",
            "does not look inside scripted functions, torch.autograd.Functions and what torch.jit.fork runs",
        ),
        "other_threads": ("blindness", "does not see what other threads do than the one that it runs in"),
        "kernel_unseen": ("blindness", "has no rule for the kernel that computes these products"),
        "holds_others": ("blindness", "prices only the innermost modules, and this one holds others"),
        "inside_counted": ("defect", "does not look inside a module for which it has a rule"),
        "uncalled": ("blindness", "does not see layers that are never called"),
        "packed_params": ("blindness", "does not see weights that are packed in a form of their kernel's own"),
        "outer_params": ("blindness", "sees only the parameters of modules that hold no others"),
        "not_weight_or_bias": ("blindness", "sees only the parameters that are called weight or bias"),
        "packed_unseen": ("blindness", "does not see the weights that quantized layers pack"),
        "no_rule_params": ("blindness", "sees only the parameters of layers for which it has a rule"),
        "root_unseen": ("blindness", "does not see the parameters that the model itself holds"),
        "container_unseen": ("blindness", "does not see parameters of Sequential and ModuleList"),
        "not_a_parameter": ("defect", "counts tensors called weight or bias that are not parameters"),
        "shared_per_call": ("defect", "counts a shared layer's parameters at every call"),
        "shared_again": ("defect", "counts the parameters of a shared or scripted module again in those that hold it"),
        "tied_subtracted": ("defect", "takes tied parameters, counted twice inside a module, from its own ones"),
        "tied_per_module": ("defect", "counts a parameter that several modules share in each of them"),
        # The same amounts, divided or selected in another way.
        "trainable_only": ("normalisation", "counts trainable parameters only"),
        "one_sample": ("normalisation", "runs the model on a batch of one, whatever the batch is"),
        "per_sample": ("normalisation", "divides what modules do by the first size of the first input, the batch"),
        "functional_batch": ("normalisation", "does not divide what functions do by the batch, unlike what modules do"),
        "rounding": ("normalisation", "divides in floating point and cuts the fraction"),
        # Memory, which convstat does not estimate: these come without an amount.
        "forward_backward": ("convention", "takes twice the outputs of all layers for forward and backward memory"),
        "containers_again": ("defect", "counts the outputs of modules that hold others again in its memory"),
        "tuple_product": ("defect", "multiplies the sizes of outputs that come as a tuple in its memory"),
        "input_product": ("defect", "multiplies the sizes of several inputs in its memory"),
        # This machine.
        "fused_kernel": ("environment", "has no rule for the fused kernel that this device takes for these products"),
        "other_when_traced": ("environment", "counts the way that the model takes when torch.jit.trace runs it"),
        UNATTRIBUTED: ("unexplained", "the counter prices these layers in a way that is not understood"),
    }
)
"""Code -> verdict, sentence; the sentence's subject is the counter."""
