"""ViTPose (Xu et al., NeurIPS 2022), classic decoder: heat maps of the key frame from that frame alone.

Names, shapes and order of the state_dict are the official ones.
"""

import torch
from torch import nn

from posescale.layers.attention import Kernel
from posescale.layers.clips import check_clip, check_frames
from posescale.layers.vit import FrameEncoder, Frozen, Stem, ViT

# Weights depend on the heads and on the image's height and width without showing it in a shape; files of models with
# other values than these (and 256 x 192) note them. Width of the transformer -> heads.
OFFICIAL_HEADS = {384: 12, 768: 12, 1024: 16, 1280: 16}


class ViTPose(FrameEncoder):
    """`(B, T, 3, H, W)` person crops to heat maps `(B, K, H/4, W/4)` of frame T // 2; no other frame is read.

    Args:
        frames: T; 1 unless the model stands beside one that reads clips.
        height: H, a multiple of 16.
        width: W, a multiple of 16.
        joints: K; 17 (COCO) in official files.
        vit_dim: width of the transformer.
        vit_depth: its blocks.
        vit_heads: its attention heads.
        stem: `patch` as published, or `conv`.
        decoder: width of the deconvolutions.
        frozen: which part is not trained: `nothing`, `vit`, `vit_and_deconv`.
        drop_path: stochastic depth of the last block; the rates rise linearly from 0.
        attention: kernel, `fused` or `naive`.

    Raises:
        ConfigError: an argument is not one of these.
    """

    def __init__(
        self,
        frames: int = 1,
        height: int = 256,
        width: int = 192,
        joints: int = 17,
        vit_dim: int = 768,
        vit_depth: int = 12,
        vit_heads: int = 12,
        stem: Stem = "patch",
        decoder: int = 256,
        frozen: Frozen = "nothing",
        drop_path: float = 0.3,
        attention: Kernel = "fused",
    ) -> None:
        check_frames(frames)
        vit = ViT(height, width, vit_dim, vit_depth, vit_heads, stem, drop_path, attention)
        super().__init__(vit, vit_dim, decoder, frozen)
        self.clip = (frames, height, width)
        settings = {"height": height, "width": width, "vit_heads": vit_heads}
        published = {"height": 256, "width": 192, "vit_heads": OFFICIAL_HEADS.get(vit_dim)}
        self.hidden_settings = {key: value for key, value in settings.items() if value != published[key]}
        final = nn.Conv2d(decoder, joints, kernel_size=1)
        nn.init.normal_(final.weight, std=0.001)
        nn.init.zeros_(final.bias)
        self.keypoint_head.add_module("final_layer", final)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, T, 3, H, W)` to heat maps `(B, K, H / 4, W / 4)` of the key frame, T // 2.

        Raises:
            ShapeError: not a clip of the length and resolution that the model was built for.
        """
        check_clip(x, *self.clip, "ViTPose")
        return super().forward(x[:, x.shape[1] // 2])
