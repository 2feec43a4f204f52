"""The GPUs: memory, links among them, and a matrix product on each."""

import time
from dataclasses import dataclass
from typing import Any

from golf.doctor.finding import Finding, failed, ok, size_words, warning

FREE_SHARE = 0.95
"""Share of a GPU's memory that is free while nobody uses it."""
SLOW_SHARE = 0.8
"""Of the fastest GPU's rate: one below is throttled or shared."""
BF16_CAPABILITY = (8, 0)
_EXACT_SIZE = 512
_PRODUCTS = 10


@dataclass(frozen=True)
class Product:
    """What a matrix product on a device showed."""

    exact: bool
    """Whether it was right, bit for bit."""
    teraflops: float
    """Multiplications and additions a second / 1e12, bfloat16."""


def multiply(torch: Any, device: str, size: int) -> Product:
    """Multiplies on a device: small integers, whose product is exact in any order, then `size` x `size` for the rate.

    Raises: RuntimeError as torch does when the device is faulty or its memory is taken.
    """
    whole = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-2, 3, (_EXACT_SIZE, _EXACT_SIZE), generator=whole).float() for _ in range(2))
    exact = bool(torch.equal((a.to(device) @ b.to(device)).cpu(), (a.double() @ b.double()).float()))
    matrix = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    matrix @ matrix
    _wait(torch, device)
    began = time.perf_counter()
    for _ in range(_PRODUCTS):
        matrix @ matrix
    _wait(torch, device)
    return Product(exact, _PRODUCTS * 2 * size**3 / (time.perf_counter() - began) / 1e12)


def _wait(torch: Any, device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def check_gpus(torch: Any) -> list[Finding]:
    """Returns the findings on all GPUs; on the CPU's product where there is none."""
    if not torch.cuda.is_available():
        return check_products({"CPU": _product(torch, "cpu", 256)})
    count = torch.cuda.device_count()
    findings = [check_gpu(torch, number) for number in range(count)]
    findings += check_products({f"GPU {number}": _product(torch, f"cuda:{number}", 4096) for number in range(count)})
    return [*findings, *([check_links(torch, count)] if count > 1 else [])]


def check_gpu(torch: Any, number: int) -> Finding:
    """Returns what a GPU is, and whether its memory is free."""
    check, properties = f"GPU {number}", torch.cuda.get_device_properties(number)
    try:
        free, total = torch.cuda.mem_get_info(number)
    except RuntimeError as error:
        remedy = "run nvidia-smi: a fault (Xid) needs a reset or another machine"
        return failed(check, f"{properties.name}: {_first_line(error)}", remedy)
    text = f"{properties.name}, {size_words(free)} of {size_words(total)} free"
    if (properties.major, properties.minor) < BF16_CAPABILITY:
        remedy = "bfloat16 is slow on it: take one of compute capability 8.0 (A100) or later"
        return warning(check, f"{text}, compute capability {properties.major}.{properties.minor}", remedy)
    if free < FREE_SHARE * total:
        return warning(check, text, "another process uses it: nvidia-smi lists which")
    return ok(check, text)


def _product(torch: Any, device: str, size: int) -> Product | str:
    """Returns what a product showed, or the error's message."""
    try:
        return multiply(torch, device, size)
    except RuntimeError as error:
        return _first_line(error)


def check_products(products: dict[str, Product | str]) -> list[Finding]:
    """Returns one finding for each device's product or error."""
    fastest = max((product.teraflops for product in products.values() if isinstance(product, Product)), default=0.0)
    findings = []
    for device, product in products.items():
        check = f"product on {device}"
        if isinstance(product, str):
            findings.append(failed(check, product, "run nvidia-smi: a fault (Xid) needs a reset or another machine"))
        elif not product.exact:
            findings.append(failed(check, "a product of integers is wrong", "the device is faulty: take another"))
        elif product.teraflops < SLOW_SHARE * fastest:
            text = f"{product.teraflops:.3g} TFLOPS in bfloat16, the fastest makes {fastest:.3g}"
            remedy = "all wait for the slowest: see its clocks and heat with nvidia-smi -q -d PERFORMANCE,TEMPERATURE"
            findings.append(warning(check, text, remedy))
        else:
            findings.append(ok(check, f"right, {product.teraflops:.3g} TFLOPS in bfloat16"))
    return findings


def check_links(torch: Any, count: int) -> Finding:
    """Returns whether the GPUs reach each other's memory, and NCCL's version."""
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
    apart = [f"{a}-{b}" for a, b in pairs if a < b and not torch.cuda.can_device_access_peer(a, b)]
    if not torch.distributed.is_available() or not torch.distributed.is_nccl_available():
        return failed("GPU links", "torch has no NCCL", "install torch's CUDA build for Linux")
    nccl = ".".join(map(str, torch.cuda.nccl.version()))
    if apart:
        text = f"NCCL {nccl}; no direct access between {', '.join(apart)}"
        return warning(
            "GPU links", text, "gradients go through the host's memory, which is slower: see nvidia-smi topo -m"
        )
    return ok("GPU links", f"NCCL {nccl}; direct access between all {len(pairs) // 2} pairs")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
