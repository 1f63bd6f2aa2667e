"""BatchNorm over the images of all processes, which a compiler takes whole and which waits for nothing.

torch's ``SyncBatchNorm`` leaves out processes without images by a mask, whose size the host has to wait for, once a
layer and step; a compiler stops there. Here every process has images, and none is left out.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["SyncedBatchNorm", "synchronised"]


class SyncedBatchNorm(nn.SyncBatchNorm):
    """``nn.SyncBatchNorm`` for processes that each have images: (N, C, ...) -> (N, C, ...), on any device.

    Mean and variance are those of all images; the gradients of weight and bias those of this process, as
    DistributedDataParallel expects them.
    """

    @classmethod
    def of(cls, plain: _BatchNorm) -> SyncedBatchNorm:
        """Take the place of ``plain``, with its parameters and buffers."""
        made = cls(plain.num_features, plain.eps, plain.momentum, plain.affine, plain.track_running_stats)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            setattr(made, name, getattr(plain, name))
        return made.train(plain.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        out, mean, var, count = _Normalise.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((var * (count / (count - 1))).to(self.running_var.dtype), self.momentum)
        return out


def synchronised(model: nn.Module) -> nn.Module:
    """Replace every BatchNorm below ``model``, in place, and return it."""
    for name, child in model.named_children():
        if isinstance(child, _BatchNorm):
            setattr(model, name, SyncedBatchNorm.of(child))
        else:
            synchronised(child)
    return model


class _Normalise(torch.autograd.Function):
    """One exchange each way: means, variances and counts forward, two sums a channel backward."""

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        channels, dims = x.shape[1], _others(x)
        var, mean = torch.var_mean(wide, dims, correction=0)
        own = torch.cat([mean, var, mean.new_full((1,), x.numel() // channels)])
        every = own.new_zeros(dist.get_world_size(), len(own))  # a sum over rows of zeros gathers, and compilers see it
        every[dist.get_rank()] = own
        dist.all_reduce(every)
        means, variances, counts = every.split([channels, channels, 1], dim=1)
        count = counts.sum()
        share = counts / count
        mean = (share * means).sum(0)
        var = (share * (variances + (means - mean).square())).sum(0)
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + eps), count)
        ctx.mark_non_differentiable(mean, var, count)
        return F.batch_norm(x, mean, var, weight, bias, eps=eps), mean, var, count

    @staticmethod
    def backward(ctx, grad, *unused):
        x, weight, mean, scale, count = ctx.saved_tensors
        dims, shape = _others(x), (1, -1, *(1 for _ in x.shape[2:]))
        wide = grad.to(mean.dtype)
        centred = x.to(mean.dtype) - mean.view(shape)
        own = torch.stack([wide.sum(dims), (wide * centred).sum(dims)])
        total = own.clone()
        dist.all_reduce(total)
        first, second = total / count
        slope = wide - first.view(shape) - centred * (scale.square() * second).view(shape)
        grad_x = slope * (scale * weight).view(shape)
        return grad_x.to(x.dtype), (own[1] * scale).to(weight.dtype), own[0].to(weight.dtype), None


def _others(x: Tensor) -> list[int]:
    """All dimensions but that of channels."""
    return [0, *range(2, x.dim())]
