"""Geometry of layers: the sizes that engines, memory and traces share, and the tiles that they cut maps into."""

from __future__ import annotations

from dataclasses import dataclass, replace


def ceil_div(a: int, b: int) -> int:
    """The smallest integer that is not below a / b; b > 0."""
    return -(-a // b)


@dataclass(frozen=True)
class Tile:
    """A rectangle of one feature map: rows y0 <= y < y1, columns x0 <= x < x1 (positions)."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.y1 - self.y0

    @property
    def width(self) -> int:
        """Columns."""
        return self.x1 - self.x0

    @property
    def positions(self) -> int:
        """height * width."""
        return self.height * self.width


def tiles_of(height: int, width: int, tile_height: int, tile_width: int) -> list[Tile]:
    """Cuts a map of height x width positions into tiles, in raster order; tiles at the far edges may be smaller."""
    return [
        Tile(y, min(y + tile_height, height), x, min(x + tile_width, width))
        for y in range(0, height, tile_height)
        for x in range(0, width, tile_width)
    ]


def groups_of(count: int, size: int) -> list[range]:
    """Cuts range(count) into consecutive groups of `size`; the last one holds what is left."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def cut(span: range, size: int) -> list[range]:
    """Cuts a range of step 1 into consecutive ranges of `size`; the last one holds what is left."""
    return [span[start : start + size] for start in range(0, len(span), size)]


@dataclass(frozen=True, kw_only=True)
class ConvShape:
    """One convolution over a sub-batch of T timesteps and N samples (`batch`), from (C, H, W) to (C, H, W).

    kernel, stride and padding are (vertical, horizontal). groups: channels fall into so many groups of neighbours, and
    an output reads the inputs of its own group alone.
    out_height = (in_height + 2 * padding[0] - kernel[0]) // stride[0] + 1; out_width alike.
    """

    timesteps: int
    batch: int
    in_channels: int
    in_height: int
    in_width: int
    out_channels: int
    out_height: int
    out_width: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int = 1

    @property
    def group(self) -> ConvShape:
        """One of its groups, as a convolution."""
        channels = self.in_channels // self.groups, self.out_channels // self.groups
        return replace(self, in_channels=channels[0], out_channels=channels[1], groups=1)

    def passes(self, rows: tuple[int, int], columns: tuple[int, int]) -> list[tuple[range, range]]:
        """The groups that an array works on at once, each pass as (input channels, output channels) [A].

        Groups lie side by side on the array's diagonal, as many as fit, at least one: floor(g / u) passes of u groups
        and one of what is left. rows and columns: (what one group takes, how many there are); of rows that groups
        share, as those of timesteps, one takes 0.
        """
        fit = [there // each for each, there in (rows, columns) if each]
        most = max(1, min(self.groups, *fit))
        ins, outs = self.in_channels // self.groups, self.out_channels // self.groups
        return [
            (range(g.start * ins, g.stop * ins), range(g.start * outs, g.stop * outs))
            for g in groups_of(self.groups, most)
        ]

    def alike(self, in_channel: int, out_channel: int) -> bool:
        """Whether an input and an output channel belong to one group."""
        return in_channel * self.groups // self.in_channels == out_channel * self.groups // self.out_channels

    def tap_channel(self, in_channel: int) -> int:
        """The channel of the weights (C_out, C_in / groups, kh, kw) that an input channel meets."""
        return in_channel % (self.in_channels // self.groups)

    @classmethod
    def of(
        cls,
        samples: tuple[int, int],
        in_chw: tuple[int, int, int],
        out_chw: tuple[int, int, int],
        kernel: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        groups: int = 1,
    ) -> ConvShape:
        """Makes one from tuples: samples is (timesteps, batch), in_chw and out_chw are (channels, height, width)."""
        return cls(
            timesteps=samples[0],
            batch=samples[1],
            in_channels=in_chw[0],
            in_height=in_chw[1],
            in_width=in_chw[2],
            out_channels=out_chw[0],
            out_height=out_chw[1],
            out_width=out_chw[2],
            kernel=kernel,
            stride=stride,
            padding=padding,
            groups=groups,
        )

    @property
    def samples(self) -> int:
        """T*N: the length of the batch x timestep (BT) dimension."""
        return self.timesteps * self.batch

    def input_region(self, tile: Tile) -> Tile:
        """The input positions that a tile of outputs reads, halo included and padding left out."""
        (kh, kw), (sh, sw), (ph, pw) = self.kernel, self.stride, self.padding
        y0, y1 = tile.y0 * sh - ph, (tile.y1 - 1) * sh - ph + kh
        x0, x1 = tile.x0 * sw - pw, (tile.x1 - 1) * sw - pw + kw
        y0, x0 = max(0, y0), max(0, x0)
        return Tile(y0, max(y0, min(self.in_height, y1)), x0, max(x0, min(self.in_width, x1)))

    def output_region(self, tile: Tile) -> Tile:
        """The output positions that a tile of inputs feeds, halo included; none beyond the map's edge."""
        (kh, kw), (sh, sw), (ph, pw) = self.kernel, self.stride, self.padding
        y0, y1 = ceil_div(max(0, tile.y0 + ph - kh + 1), sh), (tile.y1 - 1 + ph) // sh + 1
        x0, x1 = ceil_div(max(0, tile.x0 + pw - kw + 1), sw), (tile.x1 - 1 + pw) // sw + 1
        y0, x0 = min(y0, self.out_height), min(x0, self.out_width)
        return Tile(y0, max(y0, min(self.out_height, y1)), x0, max(x0, min(self.out_width, x1)))


@dataclass(frozen=True)
class FcShape:
    """One fully connected layer over a sub-batch of T timesteps and N samples (`batch`)."""

    timesteps: int
    batch: int
    in_features: int
    out_features: int

    @property
    def samples(self) -> int:
        """T*N: the length of the batch x timestep (BT) dimension."""
        return self.timesteps * self.batch
