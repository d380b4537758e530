"""The little of CUDA that running an engine needs: is there a GPU, and memory on it (device side).

Through pycuda, or through cuda-bindings where pycuda is absent; where neither is, as on a Jetson as it comes, through
the driver's own library. Whether there is a GPU is asked of the driver itself, before anything is imported that would
end the process without one.
"""

from __future__ import annotations

import abc
import ctypes
import importlib
from typing import TYPE_CHECKING, Any

from targets.errors import TargetError

if TYPE_CHECKING:
    import numpy as np

DRIVER = "libcuda.so.1"
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


def require_gpu(runtime: str) -> None:
    """`TargetError` unless the driver says that there is a GPU."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError as failure:
        raise TargetError(
            f"{runtime} needs an NVIDIA GPU, and this machine has no driver for one ({DRIVER} cannot be loaded). Run "
            "it on the GPU's own machine."
        ) from failure
    status, count = driver.cuInit(0), ctypes.c_int(0)
    if status == 0:
        status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status not in (0, NO_DEVICE):
        raise TargetError(f"{runtime} needs an NVIDIA GPU; the driver here fails with CUDA error {status}.")
    if status == NO_DEVICE or count.value == 0:
        raise TargetError(f"{runtime} needs an NVIDIA GPU, and the driver finds none here.")


def pci_address() -> str:
    """Of the first GPU, as the driver numbers them; "" where it does not tell."""
    device, address = ctypes.c_int(), ctypes.create_string_buffer(32)
    try:
        driver = ctypes.CDLL(DRIVER)
        asked = (
            driver.cuInit(0),
            driver.cuDeviceGet(ctypes.byref(device), 0),
            driver.cuDeviceGetPCIBusId(address, len(address), device),
        )
    except (OSError, AttributeError):
        return ""
    return "" if any(asked) else address.value.decode(errors="replace")


class Gpu(abc.ABC):
    """The first GPU, its primary context, and one stream. Everything on it is freed with the process."""

    name: str
    capability: str  # such as "8.7"
    stream: int  # its handle

    @abc.abstractmethod
    def allocate(self, nbytes: int) -> int:
        """The address of so many bytes."""

    @abc.abstractmethod
    def upload(self, address: int, values: np.ndarray[Any, Any]) -> None: ...

    @abc.abstractmethod
    def download(self, values: np.ndarray[Any, Any], address: int) -> None: ...

    @abc.abstractmethod
    def wait(self) -> None:
        """Until the stream is empty."""


class WithPycuda(Gpu):
    def __init__(self, driver: Any) -> None:
        driver.init()
        device = driver.Device(0)
        self._driver = driver
        self._context = device.retain_primary_context()
        self._context.push()
        self._stream = driver.Stream()
        self._held: list[Any] = []
        self.name = device.name()
        self.capability = ".".join(map(str, device.compute_capability()))
        self.stream = self._stream.handle

    def allocate(self, nbytes: int) -> int:
        self._held.append(self._driver.mem_alloc(nbytes))
        return int(self._held[-1])

    def upload(self, address: int, values: np.ndarray[Any, Any]) -> None:
        self._driver.memcpy_htod(address, values)

    def download(self, values: np.ndarray[Any, Any], address: int) -> None:
        self._driver.memcpy_dtoh(values, address)

    def wait(self) -> None:
        self._stream.synchronize()


class WithBindings(Gpu):
    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._ask(driver.cuInit(0))
        (device,) = self._ask(driver.cuDeviceGet(0))
        (context,) = self._ask(driver.cuDevicePrimaryCtxRetain(device))
        self._ask(driver.cuCtxSetCurrent(context))
        (self._stream,) = self._ask(driver.cuStreamCreate(0))
        (name,) = self._ask(driver.cuDeviceGetName(256, device))
        kinds = driver.CUdevice_attribute
        parts = (
            kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
        self.name = name.split(b"\0")[0].decode()
        self.capability = ".".join(str(self._ask(driver.cuDeviceGetAttribute(part, device))[0]) for part in parts)
        self.stream = int(self._stream)

    def allocate(self, nbytes: int) -> int:
        (address,) = self._ask(self._driver.cuMemAlloc(nbytes))
        return int(address)

    def upload(self, address: int, values: np.ndarray[Any, Any]) -> None:
        self._ask(self._driver.cuMemcpyHtoD(address, values.ctypes.data, values.nbytes))

    def download(self, values: np.ndarray[Any, Any], address: int) -> None:
        self._ask(self._driver.cuMemcpyDtoH(values.ctypes.data, address, values.nbytes))

    def wait(self) -> None:
        self._ask(self._driver.cuStreamSynchronize(self._stream))

    def _ask(self, answer: tuple[Any, ...]) -> tuple[Any, ...]:
        status, *found = answer
        if int(status) != 0:
            raise TargetError(f"The GPU fails: {status.name}. See nvidia-smi there.")
        return tuple(found)


class WithDriver(Gpu):
    """With nothing but the driver: every pointer is 64 bits wide, every call answers with a status."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(DRIVER)
        device, context, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        name = ctypes.create_string_buffer(256)
        self._call("cuInit", ctypes.c_uint(0))
        self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)
        self._call("cuStreamCreate", ctypes.byref(stream), ctypes.c_uint(0))
        self._call("cuDeviceGetName", name, ctypes.c_int(len(name)), device)
        self.name = name.value.decode(errors="replace")
        self.capability = ".".join(
            str(self._attribute(number, device)) for number in (CAPABILITY_MAJOR, CAPABILITY_MINOR)
        )
        self.stream = stream.value or 0

    def allocate(self, nbytes: int) -> int:
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(nbytes))
        return address.value

    def upload(self, address: int, values: np.ndarray[Any, Any]) -> None:
        host = ctypes.c_void_p(values.ctypes.data)
        self._call("cuMemcpyHtoD_v2", ctypes.c_uint64(address), host, ctypes.c_size_t(values.nbytes))

    def download(self, values: np.ndarray[Any, Any], address: int) -> None:
        host = ctypes.c_void_p(values.ctypes.data)
        self._call("cuMemcpyDtoH_v2", host, ctypes.c_uint64(address), ctypes.c_size_t(values.nbytes))

    def wait(self) -> None:
        self._call("cuStreamSynchronize", ctypes.c_void_p(self.stream))

    def _attribute(self, number: int, device: ctypes.c_int) -> int:
        found = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(found), ctypes.c_int(number), device)
        return found.value

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status != 0:
            raise TargetError(
                f"The GPU fails: {function} answers with CUDA error {status}. Look at the driver's log there."
            )


WAYS = (("pycuda.driver", WithPycuda), ("cuda.bindings.driver", WithBindings))


def open_gpu(runtime: str) -> Gpu:
    require_gpu(runtime)
    for module, way in WAYS:
        try:
            return way(importlib.import_module(module))
        except ImportError:
            continue
    return WithDriver()
