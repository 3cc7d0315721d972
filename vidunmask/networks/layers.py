"""Building blocks of the two networks; one class for each box of the paper's Fig. 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ConvBlock(nn.Sequential):
    """Convolution, batch normalisation, ReLU (§3.1): (B, C_in, H, W) to (B, C_out, H, W)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        )


def fold_norms(network: nn.Module) -> nn.Module:
    """Folds every `ConvBlock`'s normalisation into its convolution, in place, for networks that will only run.

    The values are the same but for rounding; the compact segmenter takes a tenth less time on a CPU.
    """
    for block in network.modules():
        if isinstance(block, ConvBlock):
            conv, norm, _ = block
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            block[0] = fuse_conv_bn_eval(conv, norm)
            del block[1]
    return network


class GatedConv2d(nn.Module):
    """Gated convolution (Yu et al., Free-form image inpainting with gated convolution, ICCV 2019, eq. 3).

    Features and gates come from one convolution of twice the width: ``act(features) * sigmoid(gates)``. Input
    (B, C_in, H, W), output (B, C_out, ceil(H / stride), ceil(W / stride)) for even H and W. ``normalise`` is put on the
    features before their activation, and nothing where it is None, as in the paper.
    """

    def __init__(
        self, channels_in: int, channels_out: int, *, kernel: int, stride: int = 1, normalise: nn.Module | None = None
    ) -> None:
        super().__init__()
        # an even kernel only ever comes with stride 2, as in pix2pix's 4x4 layers, where one pixel of padding halves exactly
        self.conv = nn.Conv2d(channels_in, 2 * channels_out, kernel, stride=stride, padding=(kernel - 1) // 2)
        nn.init.kaiming_normal_(self.conv.weight, a=0.2)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)
        self.normalise = normalise

    def forward(self, x: Tensor) -> Tensor:
        if self.training or not x.is_cpu:
            features, gates = self.conv(x).chunk(2, dim=1)  # 2 x (B, C_out, H', W')
        else:
            # Channels-last halves of one result are strided, and CPU kernels do not vectorise over them: by two convolutions
            # the compact inpainter takes 18.0 ms instead of 21.9 for the same values.
            conv, half = self.conv, self.conv.out_channels // 2
            assert conv.bias is not None
            features, gates = (
                F.conv2d(x, weight, bias, conv.stride, conv.padding)
                for weight, bias in zip(conv.weight.split(half), conv.bias.split(half), strict=True)
            )
        if self.normalise is not None:
            features = self.normalise(features)
        if torch.is_grad_enabled():
            return F.leaky_relu(features, 0.2) * torch.sigmoid(gates)
        return F.leaky_relu_(features, 0.2).mul_(gates.sigmoid_())  # in place: a twelfth of the inpainter's time


class ChannelSpatialAttention(nn.Module):
    """CSAM (eq. 2 and 3): ``beta * sigmoid(conv3d(x)) * x + x``, shape kept.

    The 3 x 3 x 3 convolution runs over channels, rows and columns as one volume (Niu et al., HAN, ECCV 2020). The learned beta
    starts at 0, so that the module starts as the identity.

    Libraries have a good kernel for volumes of a single channel only for float32 on CPUs, and none for its gradients. Elsewhere
    it runs as a 3 x 3 convolution from all channels to all, whose weights are zero but for a channel and its two neighbours:
    more arithmetic, of a kind that matrix units do (bfloat16 on AMX: 0.4 instead of 1.5 ms a face).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 1, 3, padding=1)
        self.beta = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if x.is_meta or (x.is_cpu and x.dtype == torch.float32 and not torch.is_grad_enabled()):
            attention = self.conv(x.unsqueeze(1)).squeeze(1)  # (B, 1, C, H, W) -> (B, C, H, W)
        else:
            assert self.conv.bias is not None
            attention = F.conv2d(x, self.banded(x.shape[1]), self.conv.bias.expand(x.shape[1]), padding=1)
        return self.beta * torch.sigmoid(attention) * x + x

    def banded(self, channels: int) -> Tensor:
        """The weights (C, C, 3, 3) of the convolution over rows and columns that is the same as the one over the volume."""
        kernel = self.conv.weight[0, 0]  # (3, 3, 3), the first axis from the channel before to the one behind
        ones = kernel.new_ones(channels)
        near = torch.stack([torch.diag(ones[1:], -1), torch.diag(ones), torch.diag(ones[1:], 1)])  # (3, C, C)
        return torch.einsum("doi,dhw->oihw", near, kernel)


class PlainAttention(nn.Module):
    """What stands in for CSAM in the ablation of Table 3: a conventional 3 x 3 convolution, shape kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class MultiScaleCSAM(nn.Module):
    """M-CSAM (eq. 4 and 5): parallel dilated convolutions, concatenated, attended to, added to the input; shape kept.

    ``channels`` must be divisible by the number of dilations; each dilated convolution gives an equal share.
    """

    def __init__(self, channels: int, dilations: Sequence[int], *, attention: nn.Module) -> None:
        super().__init__()
        if channels % len(dilations):
            raise ValueError(f"{channels} channels cannot be shared equally by {len(dilations)} dilated convolutions")
        share = channels // len(dilations)
        self.branches = nn.ModuleList(nn.Conv2d(channels, share, 3, padding=rate, dilation=rate) for rate in dilations)
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        multi_scale = torch.cat([branch(x) for branch in self.branches], dim=1)  # eq. 4: (B, C, H, W)
        return x + self.attention(F.leaky_relu(multi_scale, 0.2))  # eq. 5
