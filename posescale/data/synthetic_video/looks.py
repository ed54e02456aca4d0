"""How a person looks: garments as small textures with their shade, skin, hair. Drawn anew for every person.

Left and right limbs get the same garments, or differ at random: no colour tells left from right across videos.
"""

from dataclasses import dataclass

import cv2
import numpy as np

HEIGHT, WIDTH = 40, 24  # texels along and across a limb
SKINS = ((236, 188, 155), (224, 172, 130), (198, 134, 96), (150, 98, 66), (104, 66, 44), (246, 208, 180))
HAIRS = ((30, 24, 20), (62, 42, 28), (110, 78, 44), (196, 160, 96), (120, 118, 116), (140, 54, 30))


@dataclass(frozen=True)
class Look:
    """Textures by garment name, and the colours of a face.

    `sides` gives a garment of its own to some limbs: ("l_arm", "sleeves 2"). `mask` covers the face, so that front and
    back of the head look alike but for the eyes.
    """

    textures: dict[str, np.ndarray]
    sides: dict[str, str]
    skin: tuple[int, int, int]
    mask: bool

    def texture(self, part: str, garment: str) -> np.ndarray:
        """The texture of a part."""
        return self.textures[self.sides.get(part, garment)]


def draw_look(rng: np.random.Generator) -> Look:
    """A person's looks."""
    skin = SKINS[int(rng.integers(len(SKINS)))]
    shirt, trousers = _cloth(rng), _cloth(rng, bold=0.35)
    textures = {
        "shirt": shirt, "sleeves": shirt if rng.random() < 0.75 else _cloth(rng),
        "thighs": trousers, "shoes": _cloth(rng, bold=0.2), "skin": shade(np.array(skin)),
        "hair": shade(np.array(HAIRS[int(rng.integers(len(HAIRS)))])),
    }  # fmt: skip
    textures["forearms"] = textures["sleeves"] if rng.random() < 0.55 else textures["skin"]
    textures["shins"] = trousers if rng.random() < 0.75 else textures["skin"]
    sides = {}
    if rng.random() < 0.3:  # an odd sleeve, sock or glove, on whichever side
        part = str(rng.choice(["l_arm", "r_arm", "l_forearm", "r_forearm", "l_shin", "r_shin", "l_hand", "r_hand"]))
        textures["odd"], sides[part] = _cloth(rng), "odd"
    mask = bool(rng.random() < 0.2)
    if mask:
        textures["hair"] = _cloth(rng, bold=0.2)
    return Look(textures, sides, skin, mask)


def colour(rng: np.random.Generator, brightest: int = 90) -> np.ndarray:
    """A colour as cloth and walls have: grey with up to `brightest` per cent of something else."""
    grey = int(rng.integers(30, 226))
    bright = rng.integers(20, 236, 3)
    share = int(rng.integers(10, brightest))
    return ((bright * share + grey * (100 - share)) // 100).astype(np.int64)


def _cloth(rng: np.random.Generator, bold: float = 0.65) -> np.ndarray:
    first, second = colour(rng), colour(rng)
    pattern = str(rng.choice(["rings", "stripes", "plaid", "speckle"])) if rng.random() < bold else "plain"
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    width = int(rng.integers(2, 6))
    weight = {
        "plain": np.zeros((HEIGHT, WIDTH), np.int64),
        "rings": (rows // width) % 2 * 100, "stripes": (columns // width) % 2 * 100,
        "plaid": (rows // width) % 2 * 50 + (columns // width) % 2 * 50,
        "speckle": rng.integers(0, 101, (HEIGHT // 2, WIDTH // 2)).repeat(2, 0).repeat(2, 1),
    }[pattern]  # fmt: skip
    mixed = (first * (100 - weight[..., None]) + second * weight[..., None]) // 100
    return shade(mixed + rng.integers(-6, 7, (HEIGHT, WIDTH, 1)))


def shade(colours: np.ndarray) -> np.ndarray:
    """A texture as on a cylinder lit from its right side: `(HEIGHT, WIDTH, 3)` uint8."""
    across = (np.arange(WIDTH) * 2 + 1 - WIDTH) / WIDTH  # -1..1
    light = 1.02 - 0.42 * (across - 0.35) ** 2
    full = np.broadcast_to(colours, (HEIGHT, WIDTH, 3)) * light[None, :, None]
    return np.clip(np.rint(full), 0, 255).astype(np.uint8)


def mottle(rng: np.random.Generator, height: int, width: int, depth: int) -> np.ndarray:
    """Smooth irregular brightness, `(height, width)` int16 within about +-depth: noise of several sizes."""
    total = np.zeros((height, width), np.int16)
    for cell, share in ((48, 0.5), (16, 0.3), (5, 0.2)):
        rough = rng.integers(0, 256, (height // cell + 2, width // cell + 2)).astype(np.uint8)
        fine = cv2.resize(rough, (width, height), interpolation=cv2.INTER_LINEAR)
        total += ((fine.astype(np.int32) - 128) * round(depth * share * 2) // 128).astype(np.int16)
    return total
