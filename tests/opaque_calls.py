"""Forward passes that do a part of their work where torch's dispatcher does not see it, each in a way of its own.

All of them multiply by a matrix, somehow: ``x @ weight`` with 4x8 and 8x8 elements, so 4*8*8 products go unseen.
"""

from __future__ import annotations

import copy
import ctypes
import io
import multiprocessing
import pickle
import queue
import shutil
import struct
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from operator import mul
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy
import torch
from torch import nn
from torch.utils import dlpack

Product = Callable[[torch.Tensor, torch.Tensor], Any]

STYLES: dict[str, Product] = {}
"""What computes ``x @ w`` out of sight, by name."""


def style(function: Product) -> Product:
    """Enter a way of doing so under its name."""
    STYLES[function.__name__.strip("_")] = function
    return function


class Inner(nn.Module):
    """Calls one of them with a parameter, or with what a kernel made of it."""

    def __init__(self, product: Product, *, bare: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8))
        self.product = product
        self.bare = bare

    def forward(self, x: torch.Tensor) -> Any:
        """Call it."""
        return self.product(x, self.weight if self.bare else self.weight * 1)


class Opaque(nn.Module):
    """Calls it between two kernels that are seen, of which the first is a Linear; its input is 4x8."""

    def __init__(self, product: Product, *, bare: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.inner = Inner(product, bare=bare)

    def forward(self, x: torch.Tensor) -> Any:
        """Run them."""
        return self.inner(self.linear(x)) * 2


# Through numpy.


@style
def _numpy_and_back(x: torch.Tensor, w: torch.Tensor) -> Any:
    return torch.from_numpy(x.detach().numpy() @ w.detach().numpy())


@style
def _numpy_by_force(x: torch.Tensor, w: torch.Tensor) -> Any:
    return torch.as_tensor(x.numpy(force=True) @ w.numpy(force=True))


@style
def _numpy_asarray(x: torch.Tensor, w: torch.Tensor) -> Any:
    return torch.tensor(numpy.asarray(x.detach()) @ numpy.asarray(w.detach()))


@style
def _numpy_written_in_place(x: torch.Tensor, w: torch.Tensor) -> Any:
    y = torch.zeros(4, 8)
    y.numpy()[:] = x.detach().numpy() @ w.detach().numpy()
    return y


@style
def _numpy_out(x: torch.Tensor, w: torch.Tensor) -> Any:
    y = torch.empty(4, 8)
    numpy.matmul(x.detach().numpy(), w.detach().numpy(), out=y.numpy())
    return y


@style
def _numpy_by_dlpack(x: torch.Tensor, w: torch.Tensor) -> Any:
    return torch.from_dlpack(numpy.from_dlpack(x.detach()) @ numpy.from_dlpack(w.detach()))


@style
def _numpy_to_a_scalar(x: torch.Tensor, w: torch.Tensor) -> Any:
    return x * float((x.detach().numpy() @ w.detach().numpy()).sum())


@style
def _numpy_as_a_ufunc(x: torch.Tensor, w: torch.Tensor) -> Any:
    return torch.Tensor(numpy.vectorize(lambda a: a * 2)(x.detach().numpy()))


class _Numpy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy() @ w.numpy())

    @staticmethod
    def backward(ctx: Any, *grad: torch.Tensor) -> Any:
        return None, None


@style
def _autograd_function(x: torch.Tensor, w: torch.Tensor) -> Any:
    return _Numpy.apply(x, w)


@style
def _memory_view(x: torch.Tensor, w: torch.Tensor) -> Any:
    view = memoryview(x.detach().numpy()).cast("B").cast("f")
    return torch.frombuffer(bytearray(struct.pack("32f", *(2 * value for value in view))), dtype=torch.float32)


@style
def _numpy_memmap(x: torch.Tensor, w: torch.Tensor) -> Any:
    file = Path(mkdtemp()) / "y"
    (x.detach().numpy() @ w.detach().numpy()).tofile(file)
    return torch.from_file(str(file), size=32).reshape(4, 8)


# Through DLPack.


class _Foreign:
    """An array of another library."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **_: Any) -> Any:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


@style
def _dlpack_of_torch(x: torch.Tensor, w: torch.Tensor) -> Any:
    capsules = dlpack.to_dlpack(x.detach()), dlpack.to_dlpack(w.detach())
    left, right = (numpy.from_dlpack(_Capsule(capsule)) for capsule in capsules)
    return dlpack.from_dlpack(left @ right)


@style
def _dlpack_written_in_place(x: torch.Tensor, w: torch.Tensor) -> Any:
    y = x.detach() * 1
    array = numpy.from_dlpack(y)
    array *= 2
    return y


class _Capsule(_Foreign):
    def __dlpack__(self, **_: Any) -> Any:
        return self.array

    def __dlpack_device__(self) -> Any:
        return 1, 0


@style
def _dlpack_of_another_library(x: torch.Tensor, w: torch.Tensor) -> Any:
    return torch.from_dlpack(_Foreign(numpy.from_dlpack(x.detach()) * 2))


# Through addresses.


@cache
def library() -> ctypes.CDLL:
    """A product of matrices in C, compiled for the test."""
    folder = Path(mkdtemp())
    (folder / "product.c").write_text(
        """
        void product(const float *x, const float *w, float *y) {
            for (int i = 0; i < 4; i++) for (int j = 0; j < 8; j++) {
                float sum = 0;
                for (int k = 0; k < 8; k++) sum += x[8 * i + k] * w[8 * k + j];
                y[8 * i + j] = sum;
            }
        }
        """
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "product.so", folder / "product.c"], check=True)
    found = ctypes.CDLL(str(folder / "product.so"))
    found.product.argtypes = [ctypes.c_void_p] * 3
    return found


HAS_COMPILER = shutil.which("cc") is not None
COMPILED = {"ctypes_product", "ctypes_into_zeros", "extension_that_asks_for_the_address", "launcher"}
"""The styles that are compiled."""


@style
def _ctypes_product(x: torch.Tensor, w: torch.Tensor) -> Any:
    y = torch.empty(4, 8)
    library().product(x.data_ptr(), w.data_ptr(), y.data_ptr())
    return y


@style
def _ctypes_into_zeros(x: torch.Tensor, w: torch.Tensor) -> Any:
    y = torch.zeros_like(x)
    library().product(x.data_ptr(), w.data_ptr(), y.data_ptr())
    return y


@style
def _ctypes_memmove(x: torch.Tensor, w: torch.Tensor) -> Any:
    y = torch.empty(4, 8)
    ctypes.memmove(y.data_ptr(), x.data_ptr(), 4 * 8 * 4)
    return y


@style
def _ctypes_array(x: torch.Tensor, w: torch.Tensor) -> Any:
    values = (ctypes.c_float * 32).from_address(x.data_ptr())
    return torch.tensor([2 * value for value in values])


@style
def _storage_address(x: torch.Tensor, w: torch.Tensor) -> Any:
    y = torch.zeros(4, 8)
    ctypes.memmove(y.untyped_storage().data_ptr(), x.untyped_storage().data_ptr(), 4 * 8 * 4)
    return y


@cache
def extension() -> Any:
    """A module of C that takes tensors and asks them for their addresses, as launchers of Triton's do."""
    import importlib.util

    folder = Path(mkdtemp())
    (folder / "opaque_ext.c").write_text(
        """
        #include <Python.h>
        static PyObject *twice(PyObject *self, PyObject *args) {
            PyObject *x, *y;
            if (!PyArg_ParseTuple(args, "OO", &x, &y)) return NULL;
            PyObject *from = PyObject_CallMethod(x, "data_ptr", NULL);
            if (!from) return NULL;
            PyObject *to = PyObject_CallMethod(y, "data_ptr", NULL);
            if (!to) return NULL;
            float *source = PyLong_AsVoidPtr(from), *target = PyLong_AsVoidPtr(to);
            for (int i = 0; i < 32; i++) target[i] = 2 * source[i];
            Py_RETURN_NONE;
        }
        static PyObject *take(PyObject *self, PyObject *args) { Py_RETURN_NONE; }
        static PyMethodDef methods[] = {
            {"twice", twice, METH_VARARGS, "twice(Tensor x, Tensor y)"},
            {"take", take, METH_VARARGS, "take(Tensor x, Tensor y)"},
            {NULL}};
        static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "opaque_ext", NULL, -1, methods};
        PyMODINIT_FUNC PyInit_opaque_ext(void) { return PyModule_Create(&module); }
        """
    )
    target = folder / f"opaque_ext{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = f"-I{sysconfig.get_paths()['include']}"
    subprocess.run(["cc", "-shared", "-fPIC", include, "-o", target, folder / "opaque_ext.c"], check=True)
    spec = importlib.util.spec_from_file_location("opaque_ext", target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@style
def _extension_that_asks_for_the_address(x: torch.Tensor, w: torch.Tensor) -> Any:
    y = torch.zeros(4, 8)
    extension().twice(x, y)
    return y


class _Kernel:
    """Is launched on a grid, as kernels of Triton are."""

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*tensors: torch.Tensor) -> None:
            for _ in range(grid[0]):
                library().product(*(tensor.data_ptr() for tensor in tensors))

        return launch


@style
def _launcher(x: torch.Tensor, w: torch.Tensor) -> Any:
    y = torch.empty_like(x)
    _Kernel()[1,](x, w, y)
    return y


@style
def _launcher_without_a_device(x: torch.Tensor, w: torch.Tensor) -> Any:
    """What such a launcher does when it is asked about shapes alone."""
    return torch.empty_like(x)


@style
def _meta_branch_of_zeros(x: torch.Tensor, w: torch.Tensor) -> Any:
    if x.is_meta:
        return x.new_zeros(4, 8)
    return torch.from_numpy(x.detach().numpy() @ w.detach().numpy())


@style
def _address_as_an_array(x: torch.Tensor, w: torch.Tensor) -> Any:
    y = numpy.ctypeslib.as_array(ctypes.cast(x.data_ptr(), ctypes.POINTER(ctypes.c_float)), (4, 8)) * 2
    return torch.from_numpy(y)


# Through Python.


@style
def _lists(x: torch.Tensor, w: torch.Tensor) -> Any:
    rows, columns = x.tolist(), w.t().tolist()
    return torch.tensor([[sum(map(mul, row, column)) for column in columns] for row in rows])


@style
def _list_by_new_tensor(x: torch.Tensor, w: torch.Tensor) -> Any:
    return x.new_tensor([2 * value for row in x.tolist() for value in row])


@style
def _number_by_number(x: torch.Tensor, w: torch.Tensor) -> Any:
    return torch.tensor([2 * value.item() for value in x.flatten()])


@style
def _storage_as_a_list(x: torch.Tensor, w: torch.Tensor) -> Any:
    return torch.tensor(x.untyped_storage().tolist(), dtype=torch.uint8)


@style
def _frombuffer(x: torch.Tensor, w: torch.Tensor) -> Any:
    packed = struct.pack("32f", *(2 * value for row in x.tolist() for value in row))
    return torch.frombuffer(bytearray(packed), dtype=torch.float32)


# Through other threads and processes.


def _pickled(*tensors: torch.Tensor) -> bytes:
    return pickle.dumps([tensor.detach() for tensor in tensors])


@style
def _pickle_round_trip(x: torch.Tensor, w: torch.Tensor) -> Any:
    return pickle.loads(_pickled(x))


@style
def _saved_and_loaded(x: torch.Tensor, w: torch.Tensor) -> Any:
    file = io.BytesIO()
    torch.save(x.detach(), file)
    file.seek(0)
    return torch.load(file)


@style
def _subprocess_by_pipe(x: torch.Tensor, w: torch.Tensor) -> Any:
    code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
    sent = x.detach().numpy().tobytes()
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    return torch.frombuffer(bytearray(done.stdout), dtype=torch.float32).reshape(4, 8)


@style
def _shared_memory(x: torch.Tensor, w: torch.Tensor) -> Any:
    y = torch.zeros(4, 8).share_memory_()
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=_multiply_into, args=(x.detach(), w.detach(), y))
    child.start()
    child.join()
    return y


def _multiply_into(x: torch.Tensor, w: torch.Tensor, y: torch.Tensor) -> None:
    y.numpy()[:] = _multiplied(x, w)


@style
def _another_thread(x: torch.Tensor, w: torch.Tensor) -> Any:
    jobs: queue.Queue[Any] = queue.Queue()
    found: list[Any] = []
    jobs.put((x.detach(), w.detach()))
    worker = threading.Thread(target=lambda: found.append(_multiplied(*jobs.get())))
    worker.start()
    worker.join()
    return torch.from_numpy(found[0])


def _multiplied(x: torch.Tensor, w: torch.Tensor) -> Any:
    return None if x.is_meta else x.numpy() @ w.numpy()


@style
def _pool_of_threads(x: torch.Tensor, w: torch.Tensor) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_numpy_and_back, x, w).result()


# What torch itself offers.


@style
def _set_to_foreign_storage(x: torch.Tensor, w: torch.Tensor) -> Any:
    foreign = torch.UntypedStorage.from_buffer(x.detach().numpy().tobytes(), "little", dtype=torch.float32)
    return torch.empty(0).set_(foreign, 0, (4, 8))


@style
def _data_set_to_an_array(x: torch.Tensor, w: torch.Tensor) -> Any:
    y = torch.zeros(4, 8)
    y.data = torch.from_numpy(x.detach().numpy() * 2)
    return y


@torch.library.custom_op("convstat_opaque::product", mutates_args=())
def _product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(x.numpy() @ w.numpy())


@style
def _custom_operator(x: torch.Tensor, w: torch.Tensor) -> Any:
    return _product(x.detach(), w.detach())


_LIBRARY = torch.library.Library("convstat_opaque_lib", "DEF")
_LIBRARY.define("product(Tensor x, Tensor w) -> Tensor")
_LIBRARY.impl("product", lambda x, w: torch.empty(4, 8), "CPU")
_LIBRARY.impl("product", lambda x, w: x.new_empty(4, 8), "Meta")


@style
def _operator_of_a_library(x: torch.Tensor, w: torch.Tensor) -> Any:
    return torch.ops.convstat_opaque_lib.product(x, w)


@torch.jit.ignore  # type: ignore[untyped-decorator]
def _ignored(x, w):  # type: ignore[no-untyped-def]
    return torch.from_numpy(x.detach().numpy() @ w.detach().numpy())


def _script(x, w):  # type: ignore[no-untyped-def]
    return _ignored(x, w)


@style
def _scripted(x: torch.Tensor, w: torch.Tensor) -> Any:
    return torch.jit.script(_script)(x, w)


@style
def _copied_array(x: torch.Tensor, w: torch.Tensor) -> Any:
    return torch.from_numpy(copy.deepcopy(x.detach().numpy()))
