"""Does this machine compute in bfloat16, or only imitate it?"""

import torch


def computes_bfloat16(*, gpu: bool) -> bool:
    """Whether bfloat16 is faster than float32 here.

    A CPU without the instructions (AVX-512 on x86) only imitates it: on one with AVX2 alone, a
    3 x 3 convolution took 25 times as long as in float32, and a language model of 135 M parameters
    six times as long.

    Args:
        gpu: ask of the GPU, not of the processor.
    """
    if gpu:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
