"""Sessions of onnxruntime: which execution provider runs a network, and with which options."""

import logging
from enum import StrEnum
from pathlib import Path

from derain.arrays import FloatArray
from derain.errors import ModelError, ProviderError

try:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as failures
except ModuleNotFoundError as error:
    wanted = "pip install 'derain[cpu]', or 'derain[gpu]' for NVIDIA GPUs"
    raise ModuleNotFoundError(f"onnxruntime is not installed: {wanted}", name="onnxruntime") from error

logger = logging.getLogger(__name__)


class Provider(StrEnum):
    """What the network runs on; `auto` takes CUDA where it works, else the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


_ORT_NAMES = {
    Provider.CPU: "CPUExecutionProvider",
    Provider.CUDA: "CUDAExecutionProvider",
    Provider.TENSORRT: "TensorrtExecutionProvider",
}

# Images come in all sizes, and an exhaustive search for the fastest convolution would start
# anew at each of them.
_GPU_OPTIONS = {Provider.CUDA: {"cudnn_conv_algo_search": "HEURISTIC"}}

_LOAD_ERRORS = (
    failures.EPFail,
    failures.Fail,
    failures.InvalidArgument,
    failures.InvalidGraph,
    failures.InvalidProtobuf,
    failures.NotImplemented,
    failures.RuntimeException,
)


def available_providers() -> list[Provider]:
    """What the installed onnxruntime was built for; a missing driver shows only at start."""
    built_in = ort.get_available_providers()
    return [provider for provider, name in _ORT_NAMES.items() if name in built_in]


def start_session(
    path: Path, provider: Provider, device: int | None, threads: int = 1
) -> tuple[Provider, ort.InferenceSession]:
    """A session on the provider asked for, or on the best there is; raises what `open_session` raises."""
    there = available_providers()
    if device is not None:
        if provider is Provider.CPU:
            raise ProviderError(f"device {device} was asked for, but the CPU has none: GPUs have numbers")
        provider = Provider.CUDA if provider is Provider.AUTO else provider
    if provider is not Provider.AUTO:
        if provider not in there:
            raise ProviderError(
                f"{provider} was asked for, but the installed onnxruntime has only: {', '.join(there)}"
            )
        return provider, open_session(path, provider, device, threads)
    if Provider.CUDA in there:
        # Built for CUDA, but that may be a machine without a GPU.
        try:
            return Provider.CUDA, open_session(path, Provider.CUDA, None, threads)
        except (ModelError, ProviderError) as error:
            logger.warning("running on the CPU: %s", error)
    return Provider.CPU, open_session(path, Provider.CPU, None, threads)


def open_session(
    path: Path, provider: Provider, device: int | None = None, threads: int = 1
) -> ort.InferenceSession:
    """A session with the provider in front; a run has so many threads. Raises ModelError or ProviderError."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # A pattern holds for one shape, and takes its memory a second time: 330 bytes a pixel, not 200.
    options.enable_mem_pattern = False
    names = [Provider.CPU]
    if provider is not Provider.CPU:
        ort.preload_dlls()  # CUDA and cuDNN may have come as Python packages
        # The CPU stays behind for what a GPU cannot run, and CUDA behind TensorRT.
        names = list(dict.fromkeys([provider, Provider.CUDA, Provider.CPU]))
    providers = [(_ORT_NAMES[name], _provider_options(name, device)) for name in names]
    try:
        session = ort.InferenceSession(path, options, providers=providers)
    except _LOAD_ERRORS as error:
        if device is not None:
            raise ProviderError(f"{provider} does not start on device {device}: {error}") from error
        raise ModelError(f"{path} cannot be loaded: {error}") from error
    session.disable_fallback()  # or a GPU that fails would make it quietly start anew on the CPU
    if _ORT_NAMES[provider] not in session.get_providers():
        raise ProviderError(f"{provider} does not start here: is there a GPU and its driver?")
    return session


def run_options(provider: Provider, gives_memory_back: bool) -> ort.RunOptions:
    """Of a run after which the memory it took goes back to the system, on the CPU, or stays for the next."""
    options = ort.RunOptions()
    if gives_memory_back and provider is Provider.CPU:
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def host_value(values: FloatArray) -> ort.OrtValue:
    """An array of ours as a place for a result."""
    return ort.OrtValue.ortvalue_from_numpy(values)


def _provider_options(name: Provider, device: int | None) -> dict[str, str]:
    """Options for onnxruntime. `device` is the number of a GPU, the same for all its providers."""
    chosen = {} if device is None or name is Provider.CPU else {"device_id": str(device)}
    return _GPU_OPTIONS.get(name, {}) | chosen
