"""Small video models and the layer-by-layer ruler of the GLSMamba paper."""

import torch
from torch import nn

# A GLSMamba or GLSFormer that runs in milliseconds; `patch` so that any multiple of 16 is a whole grid.
SMALL = {
    "frames": 3,
    "height": 32,
    "width": 48,
    "joints": 4,
    "vit_dim": 16,
    "vit_depth": 1,
    "vit_heads": 2,
    "decoder": 8,
    "frozen": "nothing",
    "dim": 8,
    "gsm": 1,
    "lrm": 1,
    "expand": 2,
    "mlp_ratio": 2,
    "window_height": 4,
    "window_width": 6,
}
SMALL_SCAN = {"state": 2, "deform_groups": 4}
SMALL_ATTENTION = {"attention_width": 8, "attention_heads": 2}


def on_meta(name: str, **overrides) -> nn.Module:
    from posescale.models import create_model

    with torch.device("meta"):
        return create_model(name, **overrides).eval()


def away_from_special_starts(model: nn.Module) -> nn.Module:
    """Zero offsets, zero biases and equal tables hide mistakes."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def layer_macs(model: nn.Module, x: torch.Tensor) -> int:
    """MACs of Linear and convolution layers alone: products of two activations, scans and their weights go unseen."""
    total = 0

    def add(layer, inputs, output):
        nonlocal total
        if isinstance(layer, nn.ConvTranspose2d):
            positions = inputs[0].numel() // layer.in_channels
        else:
            outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
            positions = output.numel() // outputs
        total += positions * layer.weight.numel()

    layers = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    hooks = [layer.register_forward_hook(add) for layer in model.modules() if isinstance(layer, layers)]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return total
